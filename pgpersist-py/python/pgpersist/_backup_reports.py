"""What operations on physical backups tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Optional, Union, overload

from pgpersist._report import Report


@dataclass(frozen=True)
class DamagedPage(Report):
    """A page whose checksum was wrong on the disk.

    Attributes:
        path: its file, relative to the data directory.
        block: its number within the fork.
        stored: the checksum on the page.
        computed: the checksum of what is on the page.
        sha256: the first half of the page's SHA-256, as 32 hexadecimal digits.
        known: whether ``backup.known_damage`` names exactly this; if so, the backup is as good as it can be.
    """

    path: str
    block: int
    stored: int
    computed: int
    sha256: str
    known: bool


@dataclass(frozen=True)
class BackupPhases(Report):
    """How long each phase of a backup took.

    Attributes:
        start: the server's checkpoint.
        copy: reading, checking, compressing and storing all files.
        stop: ending the backup, and storing its log.
        publish: looking at what was stored, and publishing.
        effort: seconds of all threads together, by what they were spent on.
    """

    start: timedelta
    copy: timedelta
    stop: timedelta
    publish: timedelta
    effort: Mapping[str, float]


@dataclass(frozen=True)
class BackupReport(Report):
    """A backup that was made.

    Attributes:
        name: its name.
        size_bytes: the length of all its files.
        stored_bytes: what it takes in the store, with what it shares with others.
        new_bytes: what it added.
        unread_bytes: the length of what was not read, since the backup before has read the same.
        wal_summaries: what the server's WAL summaries were good for: ``used``, ``incomplete``, ``off`` or ``none``.
        moved_bytes: the length of what was stored anew although the backup before has it, so that packs go that little needs.
        duration: how long it took.
        started_at: when it began.
        start_lsn: where recovery begins.
        stop_lsn: where the cluster is consistent.
        phases: how long each phase took.
        damaged: pages that are damaged on the disk; with any that is not known, the backup is not good.
    """

    name: str
    size_bytes: int
    stored_bytes: int
    new_bytes: int
    unread_bytes: int
    wal_summaries: str
    moved_bytes: int
    duration: timedelta
    started_at: datetime
    start_lsn: str
    stop_lsn: str
    phases: BackupPhases
    damaged: tuple[DamagedPage, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether no page was damaged but known ones."""
        return all(page.known for page in self.damaged)


@dataclass(frozen=True)
class BackupEntry(Report):
    """A backup in the store.

    Attributes:
        name: its name.
        label: what its user called it.
        started_at: when it began.
        stopped_at: when it ended: the moment that it restores.
        size_bytes: the length of all its files.
        stored_bytes: what it takes in the store, with what it shares with others.
        new_bytes: what it added.
        timeline: the timeline.
        start_lsn: where recovery begins.
        stop_lsn: where the cluster is consistent.
        damaged_pages: how many pages were damaged on the disk, known ones not among them.
        known_damaged_pages: how many damaged pages were known.
        dropped: whether retention has dropped it; it can be restored until it is removed.
    """

    name: str
    label: Optional[str]
    started_at: datetime
    stopped_at: datetime
    size_bytes: int
    stored_bytes: int
    new_bytes: int
    timeline: int
    start_lsn: str
    stop_lsn: str
    damaged_pages: int
    known_damaged_pages: int
    dropped: bool

    @property
    def is_good(self) -> bool:
        """Whether no page was damaged but known ones."""
        return self.damaged_pages == 0


@dataclass(frozen=True)
class Tablespace(Report):
    """A tablespace outside of the data directory.

    Attributes:
        oid: its OID.
        name: its name.
        location: where it lay.
    """

    oid: int
    name: str
    location: Path


@dataclass(frozen=True)
class BackupDetails(BackupEntry):
    """A backup in the store, with everything that is known of it without reading what it holds.

    Attributes:
        parent: the backup that it was compared with. It does not need it.
        files: how many files it has.
        system_identifier: the cluster's, as text.
        server_version: the version of its server.
        major: its major version.
        data_checksums: whether pages have checksums; else damage of theirs cannot be told.
        wal_segment_size: bytes of a segment of the log.
        tablespaces: where each tablespace lay.
        damaged: the pages that were damaged on the disk.
    """

    parent: Optional[str]
    files: int
    system_identifier: str
    server_version: str
    major: int
    data_checksums: bool
    wal_segment_size: int
    tablespaces: tuple[Tablespace, ...]
    damaged: tuple[DamagedPage, ...]


@dataclass(frozen=True, eq=False)
class BackupListing(Report, Sequence[BackupEntry]):
    """The backups of a cluster, the newest first: a sequence of them, equal to any other with the same backups.

    Attributes:
        backups: the same as a tuple.
        warnings: what should be known, such as that one cannot be read, or the store's folder is not there.
    """

    backups: tuple[BackupEntry, ...]
    warnings: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> BackupEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[BackupEntry, ...]: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[BackupEntry, tuple[BackupEntry, ...]]:
        return self.backups[index]

    def __len__(self) -> int:
        return len(self.backups)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (BackupListing, list, tuple)):
            return self.backups == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.backups)


@dataclass(frozen=True)
class PlacedTablespace(Report):
    """Where a tablespace was and is to be.

    Attributes:
        oid: its OID.
        name: its name.
        source: where it was.
        target: where it is now, or will be.
    """

    oid: int
    name: str
    source: Path = field(metadata={"key": "from"})
    target: Path = field(metadata={"key": "to"})


@dataclass(frozen=True)
class NeededSpace(Report):
    """The room that a restore needs on a file system.

    Attributes:
        path: a place on it.
        needed_bytes: what is needed.
        free_bytes: what is free.
    """

    path: Path
    needed_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Requirements(Report):
    """What a machine must have to run what is restored.

    Attributes:
        major: PostgreSQL of this major version.
        server_version: the version that it ran with.
        at_least: settings that must not be lower while it recovers.
        settings: other settings that not every machine can follow.
    """

    major: int
    server_version: str
    at_least: Mapping[str, int]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class UnshippedWal(Report):
    """The end of a cluster's log that goes past what a backup holds.

    Attributes:
        end_lsn: where it ends; what ``discard_unshipped_wal`` must name.
        timeline: on which timeline.
        commits: how many transactions were committed behind the end of the backup; None where nobody can tell any more.
    """

    end_lsn: str
    timeline: int
    commits: Optional[int]


@dataclass(frozen=True)
class LostBlocks(Report):
    """What of a file of a backup cannot be had any more.

    Attributes:
        path: its file, relative to the data directory.
        blocks: the first and the last of each range of blocks of 8,192 bytes, counted in this file.
        database: the OID of the database, where it is a relation's; 0 for one that all databases share.
        relation: the file node of the relation, where it is one's.
        fork: which fork of it.
    """

    path: str
    blocks: tuple[tuple[int, ...], ...]
    database: Optional[int]
    relation: Optional[int]
    fork: Optional[str]


@dataclass(frozen=True)
class LostParts(Report):
    """What of a backup cannot be had any more, known before anything is written.

    Attributes:
        packs: what is wrong with which objects.
        files: the files that they touch.
        backups: the other backups that need them.
    """

    packs: tuple[str, ...]
    files: tuple[LostBlocks, ...]
    backups: tuple[str, ...]


@dataclass(frozen=True)
class RestorePlan(Report):
    """What a restore would do. :meth:`to_dict` is the document of ``pgpersist restore --dry-run --json``.

    Attributes:
        steps: the steps in their order, for people.
        name: the backup.
        data_directory: where it will be.
        files: how many files are written.
        bytes: how many bytes are written.
        stored_bytes: how many are read from the store, at most.
        tablespaces: where each tablespace was and will be.
        space: the room on each file system that is written to.
        kept_aside: where the cluster is kept that is in its place now.
        estimated: how long it takes, where a speed is known.
        requires: what a machine must have to run it.
        rebuild: what no backup holds.
        consent_to: what needs ``consent=True``, if anything.
        goes_on: with ``delta``, whether it goes on with one that was interrupted.
        unshipped_wal: with ``delta``, the log that no backup holds, where there is any.
        removed_files: with ``delta``, how many files of the server's the backup does not have.
        set_aside: with ``delta``, other files that the backup does not have, which are kept.
        kept_bytes: with ``delta``, how many bytes stay as they are.
        kept_files: with ``delta``, how many files stay as they are.
        written_bytes: with ``delta``, how many bytes are written.
        damage: with ``without_damaged``, what cannot be had any more.
        warnings: what should be known beforehand.
    """

    steps: tuple[str, ...] = field(metadata={"key": "plan"})
    name: str
    data_directory: Path
    files: int
    bytes: int
    stored_bytes: int
    tablespaces: tuple[PlacedTablespace, ...]
    space: tuple[NeededSpace, ...]
    kept_aside: Optional[Path]
    estimated: Optional[timedelta]
    requires: Requirements
    rebuild: tuple[str, ...]
    consent_to: Optional[str]
    goes_on: Optional[bool]
    unshipped_wal: Optional[UnshippedWal]
    removed_files: Optional[int]
    kept_bytes: Optional[int]
    kept_files: Optional[int]
    written_bytes: Optional[int]
    damage: Optional[LostParts]
    set_aside: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestoredBackup(Report):
    """How a restore of a backup went. What is restored is ready to be started.

    Attributes:
        name: the backup.
        data_directory: where it is now.
        bytes: the length of all files.
        files: how many files.
        duration: how long it took.
        verified: whether every byte was held against its hash.
        tablespaces: where each tablespace was and is now.
        configuration: files of the configuration that were made or rewritten.
        kept_aside: where the cluster is kept that was in its place, or with ``delta`` its log.
        settings_removed: settings of another recovery that were taken out of ``postgresql.auto.conf``.
        kept_bytes: with ``delta``, how many bytes stayed as they were.
        kept_files: with ``delta``, how many files stayed as they were.
        written_bytes: with ``delta``, how many bytes were written over what was there.
        damaged: the blocks that could not be had, and are zero now. Where there are any, the cluster is for salvage alone.
    """

    name: str
    data_directory: Path
    bytes: int
    files: int
    duration: timedelta
    verified: bool
    tablespaces: tuple[PlacedTablespace, ...]
    configuration: tuple[str, ...]
    kept_aside: Optional[Path]
    settings_removed: tuple[str, ...]
    kept_bytes: Optional[int]
    kept_files: Optional[int]
    written_bytes: Optional[int]
    damaged: tuple[LostBlocks, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportReport(Report):
    """How an export of a backup went.

    Attributes:
        name: the backup.
        path: where it is now.
        bytes: the length of all files of the backup.
        files: how many, those that the export adds among them.
        duration: how long it took.
    """

    name: str
    path: Path
    bytes: int
    files: int
    duration: timedelta
    warnings: tuple[str, ...] = ()
