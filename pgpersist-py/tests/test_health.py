"""Health and reports: the library's checks, those of users beside them, and their renderings."""

from __future__ import annotations

import asyncio
import enum
import json
import subprocess
import threading
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterator

import pytest

import pgpersist
from pgpersist import Finding, HealthStatus
from support.faces import Face, both_faces
from support.places import reachable_folder, running_cluster
from support.stores import AsyncDictStore


@pytest.fixture
def stopped() -> Iterator[pgpersist.Cluster]:
    """A cluster that is not there: enough for questions that have answers of their own."""
    with reachable_folder() as folder:
        yield pgpersist.Cluster(folder / "data")


class Plain:
    name = "plain"

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def check(self) -> Finding:
        self.threads.add(threading.current_thread().name)
        return Finding.warn(
            "3 of 10 workers", remedy="start more", observed={"workers": 3, "age_s": timedelta(minutes=1)}
        )


class Coroutine:
    name = "coroutine"
    deadline = timedelta(seconds=3)

    def __init__(self) -> None:
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def check(self) -> Finding:
        await asyncio.sleep(0)
        self.loops.add(asyncio.get_running_loop())
        return Finding.ok("well")


class Derived(pgpersist.HealthCheck):
    name = "derived"  # pyright: ignore - a property of the protocol, so that classes that do not derive may have one

    def check(self) -> Finding:
        return Finding.fail("gone", remedy="bring it back")


class Raises:
    def __init__(self, error: BaseException) -> None:
        self.name = f"raises:{type(error).__name__}"
        self.error = error

    def check(self) -> Finding:
        raise self.error


class RaisesLater(Raises):
    async def check(self) -> Finding:  # type: ignore[override]
        await asyncio.sleep(0)
        raise self.error


@both_faces
def test_checks_of_a_user_stand_beside_the_librarys(stopped: pgpersist.Cluster, face: Face) -> None:
    plain, coroutine = Plain(), Coroutine()
    report = face(stopped, "health", checks=[plain, coroutine, Derived()])
    names = [finding.name for finding in report.findings]
    assert names[-3:] == ["plain", "coroutine", "derived"]
    assert {"data_directory", "server", "dumps", "disk"} <= set(names)
    found = report.finding("plain")
    assert (found.status, found.summary, found.remedy) == (HealthStatus.WARN, "3 of 10 workers", "start more")
    assert dict(found.observed) == {"workers": 3, "age_s": 60.0}
    assert report.finding("coroutine").is_ok
    assert report.finding("derived").status is HealthStatus.FAIL
    assert report.status is HealthStatus.FAIL and not report.is_ok
    assert threading.main_thread().name not in plain.threads
    assert len(coroutine.loops) == 1


def test_a_report_is_frozen_and_has_pythons_types(stopped: pgpersist.Cluster) -> None:
    report = stopped.health()
    assert isinstance(report.time, datetime) and report.time.tzinfo is not None
    assert abs(report.time - datetime.now(timezone.utc)) < timedelta(minutes=5)
    assert isinstance(report.duration, timedelta)
    with pytest.raises(FrozenInstanceError):
        report.status = HealthStatus.PASS  # type: ignore[misc]
    with pytest.raises(KeyError):
        report.finding("nobody")
    document = report.to_dict()
    assert document["status"] == report.status.value and json.loads(json.dumps(document)) == document
    document["findings"].clear()
    assert report.to_dict()["findings"]


def test_a_report_is_rendered_as_the_command_line_does(stopped: pgpersist.Cluster) -> None:
    report = stopped.health(checks=[Plain()])
    assert "! plain: 3 of 10 workers\n    remedy: start more\n" in report.to_text()
    assert 'pgpersist_health_status{name="plain"} 1' in report.to_prometheus()
    assert report.to_nagios().startswith("PGPERSIST ") and report.to_nagios().count("\n") == 1
    assert report.nagios_code in (2, 3)


@pytest.mark.parametrize("kind", [Raises, RaisesLater])
@both_faces
def test_a_check_that_raises_is_unknown_and_says_so(stopped: pgpersist.Cluster, face: Face, kind: Any) -> None:
    errors = [
        KeyError("jobs"),
        OSError(5, "Input/output error"),
        TimeoutError("slow"),
        SystemExit(3),
        KeyboardInterrupt(),
    ]
    report = face(stopped, "health", checks=[kind(error) for error in errors] + [Coroutine()])
    for error in errors:
        found = report.finding(f"raises:{type(error).__name__}")
        assert found.status is HealthStatus.UNKNOWN
        assert kind.__name__ in found.summary and "`check`" in found.summary and type(error).__name__ in found.summary
        assert found.remedy
    assert report.finding("coroutine").is_ok


@both_faces
def test_what_is_no_finding_is_unknown(stopped: pgpersist.Cluster, face: Face) -> None:
    class Says:
        name = "says"

        def check(self) -> Any:
            return "all is well"

    found = face(stopped, "health", checks=[Says()]).finding("says")
    assert found.status is HealthStatus.UNKNOWN and "expected a Finding, found str" in found.summary


@pytest.mark.parametrize("blocks", [True, False])
@both_faces
def test_a_check_that_hangs_is_late_and_holds_up_nobody(stopped: pgpersist.Cluster, face: Face, blocks: bool) -> None:
    release, cancelled = threading.Event(), threading.Event()

    class Blocks:
        name = "hangs"
        deadline = 0.2

        def check(self) -> Finding:
            release.wait(60)
            return Finding.ok("at last")

    class Waits:
        name = "hangs"
        deadline = timedelta(milliseconds=200)

        async def check(self) -> Finding:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return Finding.ok("at last")

    check: Any = Blocks() if blocks else Waits()
    report = face(stopped, "health", checks=[check, Coroutine()])
    release.set()
    assert report.finding("hangs").summary == "no answer within 0.2 s"
    assert report.finding("coroutine").is_ok
    if not blocks:
        assert cancelled.wait(10)


def test_a_coroutine_runs_in_the_loop_that_awaits_the_report(stopped: pgpersist.Cluster) -> None:
    check = Coroutine()

    async def awaited() -> asyncio.AbstractEventLoop:
        await stopped.health_async(checks=[check])
        return asyncio.get_running_loop()

    loop = asyncio.run(awaited())
    assert check.loops == {loop}


def test_a_blocking_call_inside_a_running_loop_does_not_wait_for_ever(stopped: pgpersist.Cluster) -> None:
    check = Coroutine()

    async def blocking_within() -> asyncio.AbstractEventLoop:
        assert stopped.health(checks=[check]).finding("coroutine").is_ok
        return asyncio.get_running_loop()

    loop = asyncio.run(blocking_within())
    assert check.loops and loop not in check.loops


def test_a_coroutine_that_blocks_for_another_one_is_told(stopped: pgpersist.Cluster) -> None:
    class Outer:
        name = "outer"

        async def check(self) -> Finding:
            inner = stopped.health(checks=[Coroutine()]).finding("coroutine")
            return Finding.ok(f"{inner.status.value}: {inner.summary}")

    found = stopped.health(checks=[Outer()]).finding("outer")
    assert found.summary.startswith("unknown: ") and "_async" in found.summary


@both_faces
def test_arguments_are_checked(stopped: pgpersist.Cluster, face: Face) -> None:
    class NoName:
        def check(self) -> Finding:
            return Finding.ok("seen")

    class Impatient(Plain):
        deadline = 0

    for checks, error, text in [
        ([object()], TypeError, r"checks\[0\]"),
        ([Plain(), Plain], TypeError, r"checks\[1\] is the class Plain"),
        ([NoName()], TypeError, "name of NoName"),
        ([Impatient()], ValueError, "deadline of the check"),
        ("plain", TypeError, "checks"),
        ([Plain(), Plain()], pgpersist.InvalidError, 'two checks are called "plain"'),
    ]:
        with pytest.raises(error, match=text):
            face(stopped, "health", checks=checks)
    with pytest.raises(TypeError, match="tables"):
        face(stopped, "health", tables="orders")


def test_a_finding_holds_what_a_document_can() -> None:
    class Colour(enum.Enum):
        RED = "red"

    moment = datetime(2026, 2, 8, tzinfo=timezone.utc)
    finding = Finding.ok(
        "seen", observed={"at": moment, "path": Path("/x"), "colour": Colour.RED, "list": (1, 2.5, None)}
    )
    assert finding.to_dict()["observed"] == {
        "at": "2026-02-08T00:00:00+00:00",
        "path": "/x",
        "colour": "red",
        "list": [1, 2.5, None],
    }
    with pytest.raises(TypeError, match=r"observed\['socket'\]"):
        Finding.ok("seen", observed={"socket": object()})
    with pytest.raises(TypeError, match="summary"):
        Finding.ok(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="remedy"):
        Finding.warn("seen")  # type: ignore[call-arg]


@both_faces
def test_a_running_cluster_is_well_and_told(face: Face) -> None:
    with reachable_folder() as folder, running_cluster(folder, databases=["shop"], store=AsyncDictStore()) as cluster:
        face(cluster, "dump")
        psql(cluster, "CREATE TABLE orders AS SELECT generate_series(1, 8)")
        report = face(cluster, "health", tables=["orders"])
        assert report.finding("server").is_ok and report.finding("database:shop").is_ok
        assert (
            report.finding("probe:orders").observed[
                "estimate" if "estimate" in report.finding("probe:orders").observed else "value"
            ]
            is not None
        )
        # The dumps are those in the store of Python's.
        assert report.finding("dumps").observed["count"] == 1
        overview = face(cluster, "report")
        assert overview.health.finding("server").is_ok and overview.status is overview.health.status
        document = overview.to_dict()
        assert [dump["database"] for dump in document["dumps"]] == ["shop"] and document["stores"] == ["AsyncDictStore"]
        assert overview.to_markdown().startswith("<!-- pgpersist report -->")
        assert "<html" in overview.to_html() and "shop" in overview.to_html()
        assert abs(overview.time - datetime.now(timezone.utc)) < timedelta(minutes=5)


def test_an_overview_of_nothing_says_what_is_not_known(
    stopped: pgpersist.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    overview = stopped.report()
    assert overview.gaps and overview.gaps[0].part and overview.gaps[0].reason
    assert any("not known" in record.getMessage() and record.name == "pgpersist" for record in caplog.records)


def psql(cluster: pgpersist.Cluster, sql: str, database: str = "shop") -> str:
    done = subprocess.run(["psql", "-XAtqc", sql, cluster.url(database)], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_check_that_raises_is_logged_with_its_traceback(
    stopped: pgpersist.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    error = KeyError("jobs")
    stopped.health(checks=[Raises(error)])
    (record,) = [record for record in caplog.records if record.name == "pgpersist" and record.exc_info]
    assert record.exc_info is not None and record.exc_info[1] is error
    assert "check `Raises` failed in `check`" in record.getMessage()
