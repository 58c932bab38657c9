"""The conformance suites, called from Python: they pass what keeps its promises, and catch what does not."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator

import pytest

import pgpersist
from pgpersist import Finding, testing
from support import stores
from support.faces import Face, both_faces
from support.places import new_folder, reachable_folder


@pytest.fixture
def folders() -> Iterator[Callable[[], Path]]:
    """A new folder at each call."""
    with reachable_folder() as folder:
        numbers = itertools.count()

        def make() -> Path:
            return new_folder(folder, str(next(numbers)))

        yield make


@pytest.mark.parametrize("kind", [pgpersist.MemoryBackupStore, stores.DictStore, stores.AsyncDictStore])
@both_faces
def test_a_store_that_keeps_its_promises_passes(face: Face, kind: Callable[[], Any]) -> None:
    assert face(testing, "check_store", kind) == []
    face(testing, "assert_store", kind)


@both_faces
def test_stores_in_folders_pass(face: Face, folders: Callable[[], Path]) -> None:
    assert face(testing, "check_store", lambda: pgpersist.LocalBackupStore(folders())) == []
    assert face(testing, "check_store", lambda: stores.FolderStore(folders())) == []


@pytest.mark.parametrize(
    ("liar", "promise"),
    [
        (stores.Loses, "an_object_reads_back_as_it_was_put"),
        (stores.Overwrites, "put_if_absent_never_replaces"),
        (stores.ListsInOrderOfArrival, "a_list_is_in_key_order_and_recursive"),
        (stores.ListsFolders, "a_prefix_counts_characters_not_folders"),
        (stores.RaisesKeyError, "what_does_not_exist_is_not_found"),
        (stores.Truncates, "put_replaces"),
        (stores.RefusesToDeleteTwice, "delete_may_be_repeated"),
        (stores.KeepsHalfAnUpload, "a_dropped_upload_leaves_nothing"),
        (stores.PublishesTooEarly, "an_upload_is_seen_when_finished_and_not_before"),
        (stores.WritesInParts, "a_reader_sees_the_old_or_the_new_object_whole"),
    ],
)
def test_a_store_that_lies_is_caught(liar: Callable[[], Any], promise: str) -> None:
    # Some lie for a moment only, and on a busy machine the suite may look before or after it.
    found: list[testing.Violation] = []
    for _ in range(20):
        found = testing.check_store(liar)
        if promise in [violation.promise for violation in found]:
            break
    else:
        raise AssertionError(found)
    with pytest.raises(AssertionError, match="has not kept"):
        testing.assert_store(liar)


@both_faces
def test_a_factory_may_be_a_coroutine(face: Face) -> None:
    async def factory() -> stores.AsyncDictStore:
        await asyncio.sleep(0)
        return stores.AsyncDictStore()

    assert face(testing, "check_store", factory) == []


@both_faces
def test_what_a_factory_raises_reaches_the_caller(face: Face) -> None:
    def factory() -> stores.DictStore:
        raise LookupError("no bucket today")

    with pytest.raises(pgpersist.BugError, match="the factory `factory` failed") as caught:
        face(testing, "check_store", factory)
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(pgpersist.BugError) as caught:
        face(testing, "check_store", lambda: object())
    assert isinstance(caught.value.__cause__, TypeError) and "put_if_absent" in str(caught.value)
    with pytest.raises(TypeError, match="factory"):
        face(testing, "check_store", 7)


def test_a_suite_that_does_not_end_is_ended() -> None:
    class Hangs(stores.AsyncDictStore):
        async def get(self, key: str) -> bytes:
            await asyncio.sleep(3600)
            return b""

    began = time.monotonic()
    with pytest.raises(pgpersist.DeadlineError):
        testing.check_store(Hangs, timeout=timedelta(seconds=1))
    assert time.monotonic() - began < 60


class Queue:
    """A check as a user writes it."""

    name = "queue"

    def check(self) -> Finding:
        return Finding.pass_("3 jobs waiting", observed={"jobs": 3})


class AsyncQueue:
    name = "queue"
    deadline = timedelta(seconds=2)

    async def check(self) -> Finding:
        await asyncio.sleep(0)
        return Finding.warn("300 jobs waiting", remedy="start more workers", observed={"jobs": 300})


@pytest.mark.parametrize("check", [Queue(), AsyncQueue()], ids=["plain", "coroutine"])
@both_faces
def test_a_check_that_keeps_its_promises_passes(face: Face, check: Any) -> None:
    assert face(testing, "check_health_check", check) == []
    face(testing, "assert_health_check", check)


def _faulty(answer: Callable[[], Any], **attributes: Any) -> Any:
    return SimpleNamespace(**{"name": "faulty", "check": answer, "deadline": 0.3, **attributes})


def _raises() -> Finding:
    raise KeyError("jobs")


async def _too_late() -> Finding:
    await asyncio.sleep(30)
    return Finding.ok("at last")


@pytest.mark.parametrize(
    ("check", "promise"),
    [
        (_faulty(_raises), "it_never_fails"),
        (_faulty(lambda: "fine"), "it_never_fails"),
        (_faulty(_too_late), "it_answers_within_its_deadline"),
        (_faulty(lambda: Finding.ok("seen", name="other")), "its_finding_bears_its_name"),
        (_faulty(lambda: Finding.fail("broken", remedy=" ")), "a_warning_or_failure_names_the_next_step"),
        (_faulty(lambda: Finding.ok("")), "it_says_what_it_saw"),
        (_faulty(lambda: Finding.ok("seen"), name=""), "its_name_is_a_word"),
    ],
)
def test_a_check_that_breaks_a_promise_is_caught(check: Any, promise: str) -> None:
    assert promise in [violation.promise for violation in testing.check_health_check(check)]
    with pytest.raises(AssertionError, match=promise):
        testing.assert_health_check(check)


def test_a_check_that_changes_its_name_is_caught() -> None:
    class Restless:
        def __init__(self) -> None:
            self.name = "first"

        def check(self) -> Finding:
            self.name = "second"
            return Finding.ok("seen")

    assert "its_name_never_changes" in [violation.promise for violation in testing.check_health_check(Restless())]
