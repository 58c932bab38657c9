"""Health: what the library's checks and those of yours have found."""

from __future__ import annotations

import enum
import threading
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import PurePath
from typing import Any, Awaitable, Iterable, Optional, Protocol, Sequence, Union, cast, runtime_checkable

from pgpersist import _native
from pgpersist._arguments import names
from pgpersist._exceptions import InvalidError
from pgpersist._report import Report
from pgpersist._seconds import seconds

#: How long a check may take that says nothing else.
DEFAULT_DEADLINE = timedelta(seconds=5)


class HealthStatus(enum.Enum):
    """How it stands with one thing, or with all of them."""

    #: All is well.
    PASS = "pass"
    #: It works, and somebody should look at it.
    WARN = "warn"
    #: It could not be found out; worse than a warning, since it may hide a failure.
    UNKNOWN = "unknown"
    #: It is broken, or data is in danger.
    FAIL = "fail"


@dataclass(frozen=True)
class Finding(Report):
    """The answer of one check. Make one by :meth:`pass_`, :meth:`warn`, :meth:`fail` or :meth:`unknown`.

    Attributes:
        name: the name of its check; a check need not say it.
        status: how it stands.
        summary: what was seen, in one line for people.
        observed: what was seen, for programs: sizes in bytes, durations in seconds, each with its unit in its name.
        remedy: the next step, where there is one.
    """

    name: str
    status: HealthStatus
    summary: str
    observed: Mapping[str, Any]
    remedy: Optional[str]

    @classmethod
    def pass_(cls, summary: str, *, observed: Optional[Mapping[str, Any]] = None, name: str = "") -> Finding:
        """All is well."""
        return cls._made(HealthStatus.PASS, name, summary, observed, None)

    #: The same by another name.
    ok = pass_

    @classmethod
    def warn(
        cls, summary: str, *, remedy: str, observed: Optional[Mapping[str, Any]] = None, name: str = ""
    ) -> Finding:
        """It works, and somebody should look at it: ``remedy`` says what to do."""
        return cls._made(HealthStatus.WARN, name, summary, observed, remedy)

    @classmethod
    def fail(
        cls, summary: str, *, remedy: str, observed: Optional[Mapping[str, Any]] = None, name: str = ""
    ) -> Finding:
        """It is broken: ``remedy`` says what to do."""
        return cls._made(HealthStatus.FAIL, name, summary, observed, remedy)

    @classmethod
    def unknown(
        cls,
        summary: str,
        *,
        remedy: Optional[str] = None,
        observed: Optional[Mapping[str, Any]] = None,
        name: str = "",
    ) -> Finding:
        """It could not be found out; ``summary`` says why."""
        return cls._made(HealthStatus.UNKNOWN, name, summary, observed, remedy)

    @classmethod
    def _made(
        cls,
        status: HealthStatus,
        name: str,
        summary: str,
        observed: Optional[Mapping[str, Any]],
        remedy: Optional[str],
    ) -> Finding:
        for argument, given in (("name", name), ("summary", summary), ("remedy", remedy)):
            if not isinstance(given, str) and (argument, given) != ("remedy", None):
                raise TypeError(f"{argument} is a str, not a {type(given).__name__}")
        return cls._of(
            {
                "name": name,
                "status": status.value,
                "summary": summary,
                "observed": {str(key): _plain(value, f"observed[{key!r}]") for key, value in (observed or {}).items()},
                "remedy": remedy,
            }
        )

    @property
    def is_ok(self) -> bool:
        """Whether all is well."""
        return self.status is HealthStatus.PASS


def _plain(value: Any, place: str) -> Any:
    """What a document can hold: moments as text, time spans in seconds."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, place)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, f"{place}[{number}]") for number, item in enumerate(value)]
    raise TypeError(f"{place} is a {type(value).__name__}, which no document can hold")


@runtime_checkable
class HealthCheck(Protocol):
    """One question about your cluster or your application, asked beside the library's own.

    A class need not derive from this one: it has a ``name`` and a method ``check``, plain or ``async def``. A plain
    one runs on a worker thread; a coroutine in the event loop that awaits the report, or in a loop of the library's
    own while the caller blocks. An attribute ``deadline``, a ``timedelta`` or a number of seconds, says how long it
    may take; 5 seconds where there is none. One that takes longer, or raises, is reported as unknown, and holds up no
    other.

    A check only looks: it may be asked at any time, by several at once, as often as somebody likes. Where it is asked
    again and again, by an :class:`~pgpersist.Agent` and by the routes of :mod:`pgpersist.asgi`, a plain one that still
    hangs is not asked anew; an agent runs coroutines in a loop of the library's own, and takes no deadline beyond 8
    seconds.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of its finding, unique in a report: ``word`` or ``word:object``. It never changes."""
        ...

    @abstractmethod
    def check(self) -> Union[Finding, Awaitable[Finding]]:
        """Looks, and says what it saw."""
        ...


@dataclass(frozen=True)
class HealthReport(Report):
    """What all checks found. :meth:`to_dict` is the document of ``pgpersist health --json``.

    Attributes:
        status: the worst of all findings.
        time: when it was asked.
        duration: how long it took.
        findings: the findings, in a fixed order, those of your own checks last.
    """

    status: HealthStatus
    time: datetime
    duration: timedelta
    findings: tuple[Finding, ...]

    @property
    def is_ok(self) -> bool:
        """Whether nothing is broken or unknown; a warning is no failure."""
        return self.status in (HealthStatus.PASS, HealthStatus.WARN)

    def finding(self, name: str) -> Finding:
        """The finding of this name.

        Raises:
            KeyError: there is none.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def to_text(self) -> str:
        """For people, as ``pgpersist health`` prints it."""
        return _native.render_health(self._document, "text")

    def to_prometheus(self) -> str:
        """In Prometheus' text format, version 0.0.4."""
        return _native.render_health(self._document, "prometheus")

    def to_nagios(self) -> str:
        """The line of a Nagios plugin, ended; :attr:`nagios_code` is its exit code."""
        return _native.render_health(self._document, "nagios")

    @property
    def nagios_code(self) -> int:
        """The exit code of a Nagios plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""
        return {HealthStatus.PASS: 0, HealthStatus.WARN: 1, HealthStatus.FAIL: 2, HealthStatus.UNKNOWN: 3}[self.status]


def tables_of(tables: Iterable[str]) -> list[str]:
    """The names of tables, checked."""
    return names(tables, "tables") or []


def native_of(check: object, argument: str) -> tuple[object, str, float]:
    """A check as the native module takes it: the object, its name, its deadline in seconds.

    Raises:
        TypeError: it is no check, with the argument's name and what is missing.
    """
    if isinstance(check, type):
        raise TypeError(f"{argument} is the class {check.__name__}, not a check: make one of it")
    kind = type(check).__name__
    if not callable(getattr(check, "check", None)):
        raise TypeError(f"{argument} is a HealthCheck; {kind} has no method check")
    name = getattr(check, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"{argument}: the name of {kind} is a str, not a {type(name).__name__}")
    deadline = getattr(check, "deadline", None)
    return check, name, seconds(DEFAULT_DEADLINE if deadline is None else deadline, f"deadline of the check {name!r}")


def natives_of(checks: Sequence[HealthCheck]) -> list[tuple[object, str, float]]:
    """Checks as the native module takes them."""
    if isinstance(checks, str) or not isinstance(checks, Iterable):
        raise TypeError(f"checks is a list of checks, not a {type(checks).__name__}")
    return [native_of(check, f"checks[{number}]") for number, check in enumerate(checks)]


class StandingCheck:
    """A check that is asked again and again. While it hangs it is not asked once more: each question that hangs takes a
    thread.

    Args:
        check: the user's.
        name: its name, checked.
        deadline: in seconds.
    """

    def __init__(self, check: HealthCheck, name: str, deadline: float) -> None:
        self.name, self.deadline = name, deadline
        #: Errors tell of the user's class.
        self.__name__ = getattr(check, "__name__", type(check).__name__)
        #: The user's.
        self.asked = check
        self._hangs = threading.Lock()

    def check(self) -> Union[Finding, Awaitable[Finding]]:
        """Asks, unless it hangs. A coroutine is only made here; it does not hang, for it is cancelled at its deadline."""
        if not self._hangs.acquire(blocking=False):
            return Finding.unknown(
                "it has not yet answered an earlier question", remedy="see where the check hangs, and give it a timeout"
            )
        try:
            return self.asked.check()
        finally:
            self._hangs.release()


def standing_checks(checks: Sequence[HealthCheck]) -> list[StandingCheck]:
    """Checks for those who ask them again and again.

    Raises:
        TypeError: one is no check.
        InvalidError: two have the same name.
    """
    standing: list[StandingCheck] = []
    for check, name, deadline in natives_of(checks):
        if any(name == other.name for other in standing):
            raise InvalidError(f'two checks are called "{name}"', remedy="give one of them another name")
        standing.append(StandingCheck(cast(HealthCheck, check), name, deadline))
    return standing
