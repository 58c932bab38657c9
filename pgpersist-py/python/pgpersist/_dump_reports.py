"""What operations on dumps tell, and those that look at dumps and backups alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional

from pgpersist._report import Report


@dataclass(frozen=True)
class Dump(Report):
    """A dump that was made.

    Attributes:
        name: its name in the store.
        database: of which database.
        size_bytes: as stored.
        uncompressed_bytes: of SQL.
        duration: how long it took.
        started_at: when it began.
        sha256: of what is stored.
        tables: the rows of each table.
    """

    name: str
    database: str
    size_bytes: int
    uncompressed_bytes: int
    duration: timedelta
    started_at: datetime
    sha256: str
    tables: Mapping[str, int]


@dataclass(frozen=True)
class DumpReport(Report):
    """The dumps that were made, one for each database."""

    dumps: tuple[Dump, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport(Report):
    """How a load went.

    Attributes:
        database: the database that was made.
        verified: whether every byte and row count is as recorded; ``None`` where nothing was recorded.
        tables: the rows of each table.
        kept_aside: the name under which the replaced database is kept.
    """

    name: str
    database: str
    duration: timedelta
    verified: Optional[bool]
    tables: Mapping[str, int]
    kept_aside: Optional[str]
    removed: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class BadDump(Report):
    """A dump, or an object of backups, that is damaged or could not be read.

    Attributes:
        name: its name.
        reason: why.
        backups: the backups that need it, and cannot be restored whole.
    """

    name: str
    reason: str
    backups: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifyReport(Report):
    """Whether dumps and backups are what was written.

    Attributes:
        objects: how many were looked at.
        bytes: how large they are.
        unopened: the encrypted dumps and backups that no key at hand opens; their bytes were compared.
    """

    objects: int
    bytes: int
    damaged: tuple[BadDump, ...]
    unreadable: tuple[BadDump, ...] = ()
    unopened: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether all are whole."""
        return not self.damaged and not self.unreadable


@dataclass(frozen=True)
class Kept(Report):
    """A dump or a backup that stays.

    Attributes:
        reason: which rule keeps it.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Dropped(Report):
    """A dump or a backup that goes.

    Attributes:
        reason: why no rule keeps it.
        size_bytes: its size; of a backup, what it added to the store.
        removed_after: until when a backup can be restored at least; ``None`` for what is gone at once.
    """

    name: str
    reason: str
    size_bytes: int
    removed_after: Optional[datetime] = None


@dataclass(frozen=True)
class StorePrune(Report):
    """What retention keeps and drops in one store.

    Attributes:
        place: its place among the stores; the first one has 1.
        store: what it is called.
        kept: what stays.
        dropped: what goes.
        freed_bytes: what that frees.
        pending_bytes: what a later run frees, when the time of grace of what was dropped is over.
        blocked: why nothing of backups is removed; ``None`` where nothing keeps it from that.
        unfinished_uploads: how many uploads that never ended were removed.
        error: what kept retention from being applied; ``None`` where nothing did. Then nothing else is told.
        remedy: what to do about that.
    """

    place: int
    store: str
    kept: tuple[Kept, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    freed_bytes: int = 0
    pending_bytes: int = 0
    blocked: Optional[str] = None
    unfinished_uploads: int = 0
    error: Optional[str] = None
    remedy: Optional[str] = None


@dataclass(frozen=True)
class PrunePlan(Report):
    """What retention keeps and drops: in the first store, and in each.

    Attributes:
        kept: the dumps and backups that stay in the first store; none where that failed.
        dropped: those that go there.
        freed_bytes: what that frees.
        pending_bytes: what a later run frees, when the time of grace of what was dropped is over.
        blocked: why nothing of backups is removed; ``None`` where nothing keeps it from that.
        unfinished_uploads: how many uploads that never ended were removed; a plan tells of none.
        stores: each store. One of several that fails is told here, and keeps no other from its turn.
    """

    kept: tuple[Kept, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    freed_bytes: int = 0
    pending_bytes: int = 0
    blocked: Optional[str] = None
    unfinished_uploads: int = 0
    stores: tuple[StorePrune, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether no store failed."""
        return all(store.error is None for store in self.stores)
