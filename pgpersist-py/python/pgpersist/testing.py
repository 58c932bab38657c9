"""Whether your own stores and checks keep their promises: the suites that the library's own must pass.

In a test, pytest's or another::

    def test_my_store() -> None:
        pgpersist.testing.assert_store(lambda: MyStore(bucket=new_bucket()))
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Union

from pgpersist import _health, _native, _store
from pgpersist._faces import awaited, blocking
from pgpersist._health import Finding, HealthCheck
from pgpersist._seconds import Seconds, seconds
from pgpersist._store import BackupStore, OpenStore

__all__ = [
    "Violation",
    "assert_health_check",
    "assert_health_check_async",
    "assert_store",
    "assert_store_async",
    "check_health_check",
    "check_health_check_async",
    "check_store",
    "check_store_async",
]

_AnyStore = Union[BackupStore, OpenStore]
#: Makes a store that is empty, another one at each call.
StoreFactory = Callable[[], Union[_AnyStore, Awaitable[_AnyStore]]]


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept.

    Attributes:
        promise: the promise, such as ``put_if_absent_never_replaces``.
        seen: what was seen instead.
    """

    promise: str
    seen: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.seen}"


def check_store(factory: StoreFactory, *, timeout: Seconds = 300) -> list[Violation]:
    """Asks a kind of store for every promise of :class:`pgpersist.BackupStore` but durability; what was not kept.

    Args:
        factory: makes a store that is empty, another one at each call; plain or ``async def``.
        timeout: how long all of it may take.

    Raises:
        DeadlineError: it did not end.
        PgPersistError: the factory has failed; its exception is the cause.
    """
    return _violations(blocking(_native.check_store(_native_factory(factory), seconds(timeout, "timeout"))))


async def check_store_async(factory: StoreFactory, *, timeout: Seconds = 300) -> list[Violation]:
    """As :func:`check_store`; coroutines of the store run in this event loop."""
    return _violations(await awaited(_native.check_store(_native_factory(factory), seconds(timeout, "timeout"))))


def assert_store(factory: StoreFactory, *, timeout: Seconds = 300) -> None:
    """As :func:`check_store`, for a test.

    Raises:
        AssertionError: with all that was not kept.
    """
    _assert_none("the store", check_store(factory, timeout=timeout))


async def assert_store_async(factory: StoreFactory, *, timeout: Seconds = 300) -> None:
    """As :func:`assert_store`."""
    _assert_none("the store", await check_store_async(factory, timeout=timeout))


def check_health_check(check: HealthCheck, *, timeout: Seconds = 60) -> list[Violation]:
    """Asks a check for every promise of :class:`pgpersist.HealthCheck`, and returns what was not kept.

    Args:
        check: it is asked several times, one after the other and at once.
        timeout: how long all of it may take.
    """
    watched = _Watched(check)
    native = _native.check_health_check(watched.native(), seconds(timeout, "timeout"))
    return watched.violations(blocking(native))


async def check_health_check_async(check: HealthCheck, *, timeout: Seconds = 60) -> list[Violation]:
    """As :func:`check_health_check`; a coroutine runs in this event loop."""
    watched = _Watched(check)
    native = _native.check_health_check(watched.native(), seconds(timeout, "timeout"))
    return watched.violations(await awaited(native))


def assert_health_check(check: HealthCheck, *, timeout: Seconds = 60) -> None:
    """As :func:`check_health_check`, for a test.

    Raises:
        AssertionError: with all that was not kept.
    """
    _assert_none("the check", check_health_check(check, timeout=timeout))


async def assert_health_check_async(check: HealthCheck, *, timeout: Seconds = 60) -> None:
    """As :func:`assert_health_check`."""
    _assert_none("the check", await check_health_check_async(check, timeout=timeout))


def _native_factory(factory: StoreFactory) -> Callable[[], Any]:
    if not callable(factory):
        raise TypeError(f"factory makes a new store at each call; a {type(factory).__name__} cannot be called")

    async def awaiting(made: Awaitable[_AnyStore]) -> Any:
        return _store.native_of(await made, "what the factory makes")

    def make() -> Any:
        made = factory()
        return awaiting(made) if inspect.isawaitable(made) else _store.native_of(made, "what the factory makes")

    make.__name__ = getattr(factory, "__name__", type(factory).__name__)
    return make


class _Watched:
    """A check whose exceptions are kept: a report would tell them as a finding, and here they are a broken promise."""

    def __init__(self, check: HealthCheck) -> None:
        self._check = check
        _, self._name, self._deadline = _health.native_of(check, "check")
        self._failures: list[str] = []

    def check(self) -> Any:
        try:
            answer = self._check.check()
        except BaseException as error:
            self._failed(error)
            raise
        return self._awaiting(answer) if inspect.isawaitable(answer) else self._looked_at(answer)

    async def _awaiting(self, answer: Awaitable[Finding]) -> Finding:
        try:
            found = await answer
        except Exception as error:
            self._failed(error)
            raise
        self._looked_at(found)
        return found

    def _looked_at(self, answer: object) -> object:
        if not isinstance(answer, Finding):
            self._failures.append(f"it returned a {type(answer).__name__}, and no Finding")
        return answer

    def _failed(self, error: BaseException) -> None:
        self._failures.append(f"{type(error).__name__}: {error}")

    def native(self) -> tuple[object, str, float]:
        return self, self._name, self._deadline

    def violations(self, found: list[tuple[str, str]]) -> list[Violation]:
        violations = _violations(found)
        if self._failures:
            violations.append(Violation("it_never_fails", self._failures[0]))
        if self._check.name != self._name:
            violations.append(Violation("its_name_never_changes", f"{self._name!r} became {self._check.name!r}"))
        return violations


def _violations(found: list[tuple[str, str]]) -> list[Violation]:
    return [Violation(promise, seen) for promise, seen in found]


def _assert_none(what: str, violations: list[Violation]) -> None:
    if violations:
        told = "\n".join(f"- {violation}" for violation in violations)
        raise AssertionError(f"{what} has not kept {len(violations)} of its promises:\n{told}")
