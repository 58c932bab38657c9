"""Drills: do the real thing to prove it, and tell what came of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Union

from pgpersist import _native
from pgpersist._arguments import count, of_type
from pgpersist._cluster import Cluster
from pgpersist._faces import awaited, blocking
from pgpersist._progress import ProgressListener, told
from pgpersist._report import Report


class Verdict(enum.Enum):
    """What a drill concludes."""

    #: Everything acknowledged is there, whole, and every check that could be made found nothing.
    PASS = "pass"
    #: Something is missing, torn or damaged, or a setting gives it up beforehand.
    FAIL = "fail"


@dataclass(frozen=True)
class RecoveryTimes(Report):
    """How long recoveries took, in seconds."""

    min: float
    median: float
    max: float


@dataclass(frozen=True)
class CrashReport(Report):
    """What a server still knew after it was killed under load.

    Attributes:
        verdict: whether all that was acknowledged is there.
        reasons: why not.
        seed: repeats the drill's choices.
        rounds: how many kills.
        acknowledged: commits that the server had acknowledged.
        in_flight: those that a kill cut off before their acknowledgement.
        lost: acknowledged ones that are missing.
        torn: transactions of which only a part is there.
        recovery: how long recoveries took.
        started_at: when it began.
        duration: how long it took.
        data_directory: where it was made.
        kept: where the cluster was kept, if it was.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    seed: int
    rounds: int
    acknowledged: int
    in_flight: int
    lost: int
    torn: int
    recovery: RecoveryTimes
    started_at: datetime
    duration: timedelta
    data_directory: Path
    kept: Optional[Path]
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing acknowledged was lost."""
        return self.verdict is Verdict.PASS


@dataclass(frozen=True)
class DatabaseReport(Report):
    """What came back of one database.

    Attributes:
        name: the dump's name.
        rows_expected: as recorded when the dump was made.
        rows_found: in the restored database.
    """

    database: str
    verdict: Verdict
    reasons: tuple[str, ...]
    remedy: Optional[str]
    name: Optional[str]
    rows_expected: Optional[int]
    rows_found: int


@dataclass(frozen=True)
class RestoreReport(Report):
    """What came back of the newest dumps.

    Attributes:
        verdict: whether everything came back.
        reasons: why not.
        restore: how long it took until the cluster was usable: the measured time to recover.
        databases: each database.
        rows: how many rows came back.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    started_at: datetime
    duration: timedelta
    restore: timedelta
    bytes: int
    rows: int
    databases: tuple[DatabaseReport, ...]
    kept: Optional[Path]
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything came back."""
        return self.verdict is Verdict.PASS


#: Asks the restored database: ``query("SELECT …")`` returns rows of texts and ``None``.
Query = Callable[[str], list[list[Optional[str]]]]


@dataclass(frozen=True)
class Invariant:
    """Something that must be true of a restored database, as a Python function.

    It is called with a function that queries the database as a role that reads everything and changes nothing. It returns
    ``True`` when all is well, ``False`` or a text that says what was found instead when not; an exception fails the drill.

    Attributes:
        name: what it is called in the report.
        database: the database that it is about.
        ask: the function.
    """

    name: str
    database: str
    ask: Callable[[Query], Union[bool, str]]


def crash_drill(
    cluster: Optional[Cluster] = None,
    *,
    target: str = "throw-away",
    rounds: int = 5,
    writers: int = 4,
    seed: Optional[int] = None,
    kill: str = "mix",
    plant: Optional[str] = None,
    keep: bool = False,
    consent: bool = False,
    progress: Optional[ProgressListener] = None,
) -> CrashReport:
    """Kills a server under load with SIGKILL, and looks for every acknowledged commit after its recovery.

    Args:
        cluster: whose drill it is; without one, of a throw-away cluster alone.
        target: ``throw-away``: a cluster of its own; ``copy``: a copy of the cluster; ``live``: the running cluster itself, all
            of whose sessions end at each kill.
        rounds: how many kills.
        writers: how many sessions commit at the same time.
        seed: repeats a drill's choices; else drawn.
        kill: whom: ``postmaster``, ``backend``, ``group``, or ``mix``, each by turns.
        plant: a fault on purpose, to see the drill fail: ``deleted-row``, ``truncated-wal``, ``half-transaction``,
            ``synchronous-commit-off``.
        keep: leave the cluster, stopped, to be looked at.
        consent: really drill the live cluster.
        progress: told of each step.

    Raises:
        ConsentNeededError: a live drill without ``consent``.
    """
    with told(progress) as listener:
        operation = _native.crash_drill(
            _native_cluster(cluster), target, *_counts(rounds, writers, seed), kill, plant, keep, consent, *listener
        )
        return CrashReport._of(blocking(operation))


async def crash_drill_async(
    cluster: Optional[Cluster] = None,
    *,
    target: str = "throw-away",
    rounds: int = 5,
    writers: int = 4,
    seed: Optional[int] = None,
    kill: str = "mix",
    plant: Optional[str] = None,
    keep: bool = False,
    consent: bool = False,
    progress: Optional[ProgressListener] = None,
) -> CrashReport:
    """As :func:`crash_drill`."""
    with told(progress) as listener:
        operation = _native.crash_drill(
            _native_cluster(cluster), target, *_counts(rounds, writers, seed), kill, plant, keep, consent, *listener
        )
        return CrashReport._of(await awaited(operation))


def restore_drill(
    cluster: Cluster,
    *databases: str,
    dump: Optional[str] = None,
    invariants: Sequence[Invariant] = (),
    trust: bool = False,
    keep: bool = False,
    progress: Optional[ProgressListener] = None,
) -> RestoreReport:
    """Loads the newest dumps into an empty cluster, checks what came back, and times it. The live server is never asked.

    Args:
        cluster: whose dumps.
        databases: which; else the configured ones, else each that has dumps.
        dump: one dump by its name, or ``latest``.
        invariants: what must be true, beside the checks of the configuration.
        trust: run the dumps' SQL as the superuser.
        keep: leave the restored cluster, stopped, to be looked at.
        progress: told of each step.

    Raises:
        NotFoundError: there is no dump.
    """
    with told(progress) as listener:
        operation = _native.restore_drill(
            _checked(cluster)._native, list(databases), dump, _asked(invariants), trust, keep, *listener
        )
        return RestoreReport._of(blocking(operation))


async def restore_drill_async(
    cluster: Cluster,
    *databases: str,
    dump: Optional[str] = None,
    invariants: Sequence[Invariant] = (),
    trust: bool = False,
    keep: bool = False,
    progress: Optional[ProgressListener] = None,
) -> RestoreReport:
    """As :func:`restore_drill`."""
    with told(progress) as listener:
        operation = _native.restore_drill(
            _checked(cluster)._native, list(databases), dump, _asked(invariants), trust, keep, *listener
        )
        return RestoreReport._of(await awaited(operation))


def past_drills(cluster: Cluster) -> list[dict[str, Any]]:
    """The reports of past drills, on the volume and in the store, the newest first, as documents."""
    with told(None) as listener:
        drills: list[dict[str, Any]] = blocking(_native.past_drills(_checked(cluster)._native, *listener))
        return drills


async def past_drills_async(cluster: Cluster) -> list[dict[str, Any]]:
    """As :func:`past_drills`."""
    with told(None) as listener:
        drills: list[dict[str, Any]] = await awaited(_native.past_drills(_checked(cluster)._native, *listener))
        return drills


def _checked(cluster: Cluster) -> Cluster:
    return of_type(cluster, Cluster, "cluster")


def _native_cluster(cluster: Optional[Cluster]) -> _native.NativeCluster:
    return (Cluster() if cluster is None else _checked(cluster))._native


def _counts(rounds: int, writers: int, seed: Optional[int]) -> tuple[int, int, Optional[int]]:
    drawn = None if seed is None else count(seed, "seed", most=2**64 - 1)
    return count(rounds, "rounds"), count(writers, "writers"), drawn


def _asked(invariants: Sequence[Invariant]) -> list[tuple[str, str, Callable[[Query], Union[bool, str]]]]:
    checked = [of_type(one, Invariant, "each of invariants") for one in invariants]
    return [(one.name, one.database, one.ask) for one in checked]
