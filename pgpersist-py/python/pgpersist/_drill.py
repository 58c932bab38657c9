"""Drills: do the real thing to prove it, and tell what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence, Union

from pgpersist import _native
from pgpersist._arguments import count, of_type
from pgpersist._cluster import Cluster
from pgpersist._drill_reports import CrashReport, DrillReport, RestoreReport
from pgpersist._faces import awaited, blocking
from pgpersist._plan import Plan
from pgpersist._progress import ProgressListener, logger, told

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


def plan_crash_drill(
    cluster: Optional[Cluster] = None,
    *,
    target: str = "throw-away",
    rounds: int = 5,
    writers: int = 4,
    seed: Optional[int] = None,
    kill: str = "mix",
    plant: Optional[str] = None,
    keep: bool = False,
) -> Plan:
    """What :func:`crash_drill` would do; changes nothing. With the same ``seed`` it is what the drill does."""
    operation = _native.plan_crash_drill(
        _native_cluster(cluster), target, *_counts(rounds, writers, seed), kill, plant, keep
    )
    return Plan._of(blocking(operation))


async def plan_crash_drill_async(
    cluster: Optional[Cluster] = None,
    *,
    target: str = "throw-away",
    rounds: int = 5,
    writers: int = 4,
    seed: Optional[int] = None,
    kill: str = "mix",
    plant: Optional[str] = None,
    keep: bool = False,
) -> Plan:
    """As :func:`plan_crash_drill`."""
    operation = _native.plan_crash_drill(
        _native_cluster(cluster), target, *_counts(rounds, writers, seed), kill, plant, keep
    )
    return Plan._of(await awaited(operation))


def plan_restore_drill(
    cluster: Cluster,
    *databases: str,
    dump: Optional[str] = None,
    invariants: Sequence[Invariant] = (),
    trust: bool = False,
    keep: bool = False,
) -> Plan:
    """What :func:`restore_drill` would do; changes nothing."""
    operation = _native.plan_restore_drill(
        _checked(cluster)._native, list(databases), dump, _asked(invariants), trust, keep
    )
    return Plan._of(blocking(operation))


async def plan_restore_drill_async(
    cluster: Cluster,
    *databases: str,
    dump: Optional[str] = None,
    invariants: Sequence[Invariant] = (),
    trust: bool = False,
    keep: bool = False,
) -> Plan:
    """As :func:`plan_restore_drill`."""
    operation = _native.plan_restore_drill(
        _checked(cluster)._native, list(databases), dump, _asked(invariants), trust, keep
    )
    return Plan._of(await awaited(operation))


def past_drills(cluster: Cluster) -> list[DrillReport]:
    """The reports of past drills, on the volume and in the store, the newest first.

    What is no report of a drill, or one of another version that this one does not understand, is left out, and logged.
    """
    with told(None) as listener:
        return _understood(blocking(_native.past_drills(_checked(cluster)._native, *listener)))


async def past_drills_async(cluster: Cluster) -> list[DrillReport]:
    """As :func:`past_drills`."""
    with told(None) as listener:
        return _understood(await awaited(_native.past_drills(_checked(cluster)._native, *listener)))


def _understood(documents: Sequence[Any]) -> list[DrillReport]:
    kinds: dict[str, type[DrillReport]] = {"crash": CrashReport, "restore": RestoreReport}
    reports: list[DrillReport] = []
    for document in documents:
        try:
            reports.append(kinds[document["kind"]]._of(document))
        except (AttributeError, KeyError, TypeError, ValueError) as fault:
            logger.warning(
                "a report of a past drill is not understood, and left out: %s: %s", type(fault).__name__, fault
            )
    return reports


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
