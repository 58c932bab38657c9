"""What drills have found."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Optional, Union

from pgpersist import _native
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

    def to_text(self) -> str:
        """For people, as ``pgpersist drill crash`` prints it.

        Raises:
            ValueError: it is a past one, of another version.
        """
        return _native.render_crash(self._document, "text")

    def to_markdown(self) -> str:
        """For a file that people pass on, as ``pgpersist drill crash --report drill.md`` writes it.

        Raises:
            ValueError: it is a past one, of another version.
        """
        return _native.render_crash(self._document, "markdown")


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

    def to_text(self) -> str:
        """For people, as ``pgpersist drill restore`` prints it.

        Raises:
            ValueError: it is a past one, of another version.
        """
        return _native.render_restore(self._document)


#: What a drill of either kind has found.
DrillReport = Union[CrashReport, RestoreReport]
