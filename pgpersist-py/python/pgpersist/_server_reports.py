"""What operations on a cluster and its server tell."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Optional

from pgpersist._report import Report


class ServerState(enum.Enum):
    """What a server is doing."""

    RUNNING = "running"
    RECOVERING = "recovering"
    STARTING = "starting"
    STOPPING = "stopping"
    #: A cluster without a server.
    STOPPED = "stopped"
    #: No directory.
    ABSENT = "absent"
    EMPTY = "empty"
    #: Our own interrupted work.
    HALF_MADE = "half_made"
    #: Somebody else's files.
    FOREIGN = "foreign"
    #: Files that contradict each other.
    DAMAGED = "damaged"


@dataclass(frozen=True)
class ServerStatus(Report):
    """What stands in the data directory, and what its server is doing.

    Attributes:
        state: what the server is doing.
        detail: why, where the state alone does not say it.
        pid: the postmaster's process id.
        port: its port.
        socket_directory: the folder of its socket.
        version: the major version of the cluster, or the full one of its programs where they are at hand.
        system_identifier: the cluster's, as text.
        log_file: the server's log.
        data_directory: the data directory.
    """

    state: ServerState
    detail: Optional[str]
    pid: Optional[int]
    port: Optional[int]
    socket_directory: Optional[Path]
    version: Optional[str]
    system_identifier: Optional[str]
    log_file: Path
    data_directory: Path


@dataclass(frozen=True)
class StartReport(ServerStatus):
    """How a start went.

    Attributes:
        changed: whether the server was started; ``False`` when it ran already.
        duration: how long it took until connections were accepted.
    """

    changed: bool
    duration: timedelta
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StopReport(ServerStatus):
    """How a stop went.

    Attributes:
        changed: whether a server was stopped.
        immediate: whether the clean shutdown took too long, so that the next start recovers.
        warnings: what should be known.
    """

    changed: bool
    immediate: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FenceReport(ServerStatus):
    """What became of a fence.

    Attributes:
        changed: putting up: whether a server was shut down; taking away: whether there was a fence.
    """

    changed: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class InitPlan(Report):
    """What making ready would do.

    Attributes:
        action: ``adopt``, ``create`` or ``restore``.
    """

    action: str


@dataclass(frozen=True)
class InitReport(Report):
    """What making ready did.

    Attributes:
        action: ``adopted``, ``created`` or ``restored``.
        data_directory: the data directory.
        system_identifier: the cluster's, as text.
        version: PostgreSQL's version.
        databases_created: the databases that were missing.
    """

    action: str
    data_directory: Path
    system_identifier: str
    version: str
    databases_created: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MigrationPlan(Report):
    """What a migration would do.

    Attributes:
        action: what there is to do, in one word.
        steps: the steps, for people.
        consent_to: what needs ``consent=True``, if anything.
    """

    action: str
    system_identifier: str
    bytes: int
    files: int
    steps: tuple[str, ...]
    consent_to: Optional[str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class MigrateReport(Report):
    """How a migration went.

    Attributes:
        changed: whether there was something to do.
        resumed: whether it went on where an interrupted one had stopped.
        downtime: how long the server was down.
        undo: the commands that lead back, without what is written from now on.
    """

    system_identifier: str
    bytes: int
    files: int
    downtime: timedelta
    resumed: bool
    changed: bool
    warnings: tuple[str, ...]
    undo: tuple[str, ...]
