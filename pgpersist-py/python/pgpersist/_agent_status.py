"""What an agent is doing, and how it stands with its jobs."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Optional

from pgpersist._report import Report


class AgentPhase(enum.Enum):
    """What an agent is doing."""

    #: It makes the data directory ready.
    PREPARING = "preparing"
    #: The server is on its way up.
    STARTING = "starting"
    #: The server replays its log.
    RECOVERING = "recovering"
    #: The server accepts connections.
    READY = "ready"
    #: The server has ended by itself and is to be started again.
    WAITING = "waiting"
    STOPPING = "stopping"
    #: The server is down until somebody takes the fence away.
    FENCED = "fenced"


@dataclass(frozen=True)
class RecoveryProgress(Report):
    """How far a recovery is.

    Attributes:
        begin: where in the log it began, such as ``0/1A2B3C4D``; in :meth:`to_dict` it is ``from``.
        replayed: up to where the log is replayed, to the segment.
        end: where the log ends, as far as that is known.
        bytes_per_s: how much log is replayed in a second; ``None`` until that has been seen.
        eta: how long it still takes at this rate.
        elapsed: for how long it has been seen.
    """

    begin: str = field(metadata={"key": "from"})
    replayed: str
    end: Optional[str]
    bytes_per_s: Optional[float]
    eta: Optional[timedelta]
    elapsed: timedelta


class JobOutcome(enum.Enum):
    """How a run of a job ended."""

    #: It did what it is for.
    SUCCESS = "success"
    #: It did not.
    FAILURE = "failure"
    #: It was stopped on request.
    CANCELLED = "cancelled"
    #: Its process was killed, or the machine.
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class JobRun(Report):
    """A run of a job that has ended.

    Attributes:
        planned: the moment that it was for.
        started_at: when it began.
        duration: how long it took.
        attempt: which attempt it was, from 1.
        outcome: how it ended.
        summary: what it did, or why it failed.
    """

    planned: datetime
    started_at: datetime
    duration: timedelta
    attempt: int
    outcome: JobOutcome
    summary: str


@dataclass(frozen=True)
class JobStatus(Report):
    """How it stands with a scheduled job.

    Attributes:
        schedule: when it is done; ``None`` for one that only follows another one.
        running_since: since when a run is under way.
        next_at: when it begins next; ``None`` while it runs, and for one that only follows another one.
        last: the last run that has ended.
        last_success_at: when the last run that succeeded began.
        failures: how many runs in a row have failed since.
    """

    schedule: Optional[str]
    running_since: Optional[datetime]
    next_at: Optional[datetime]
    last: Optional[JobRun]
    last_success_at: Optional[datetime]
    failures: int


@dataclass(frozen=True)
class AgentStatus(Report):
    """A look at an agent.

    Attributes:
        phase: what it is doing.
        pid: the postmaster's process id, while there is one.
        restarts: how often the server was started again after it had ended by itself.
        recovery: how far a recovery is; ``None`` where there is none.
        last_failure: why the server ended last, when it did so by itself.
        jobs: how it stands with each scheduled job: ``dump``, ``prune``, ``sync``, ``restore_drill``.
        has_started: whether a server has been ready in this agent's life.
        is_running: whether the agent has not ended.
    """

    phase: AgentPhase
    pid: Optional[int]
    restarts: int
    recovery: Optional[RecoveryProgress]
    last_failure: Optional[str]
    jobs: Mapping[str, JobStatus]
    has_started: bool
    is_running: bool
