"""``PhysicalBackups``: what a :class:`Cluster` does with physical backups."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Optional, Union

from pgpersist import _native
from pgpersist._arguments import count, flag, mapping
from pgpersist._backup_reports import (
    BackupDetails,
    BackupListing,
    BackupReport,
    ExportReport,
    RestoredBackup,
    RestorePlan,
)
from pgpersist._faces import awaited, blocking
from pgpersist._plan import Plan
from pgpersist._progress import ProgressListener, told

if TYPE_CHECKING:
    from pgpersist._native import NativeCluster

_Path = Union[str, "PathLike[str]"]
_Tablespaces = Mapping[str, _Path]


class PhysicalBackups:
    """The part of a cluster that knows its physical backups: all its files, in the repository of its first store."""

    _native: NativeCluster

    def backup(
        self,
        *,
        label: Optional[str] = None,
        checkpoint: str = "fast",
        compression: str = "zstd",
        jobs: Optional[int] = None,
        rate_limit: Optional[int] = None,
        full_read: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> BackupReport:
        """Backs up the files of the running cluster to the first store. It costs what changed, and needs no other backup.

        Pages that are damaged on the disk are told in ``damaged``, and as warnings: the backup is there, and is not good.

        Args:
            label: what you call it.
            checkpoint: how the server writes the checkpoint that it begins with: ``fast``, or ``spread`` over minutes.
            compression: ``zstd``, ``lz4`` or ``none``.
            jobs: how many threads read; else one for each processor, 8 at most.
            rate_limit: how many bytes they read a second, all together; else as many as they can.
            full_read: read each file, also those that have not changed since the backup before.
            progress: told of each step.

        Raises:
            UnavailableError: no server runs, or it ended meanwhile.
            UnsafeError: the server's log does not make a backup whole, or the store is another cluster's.
        """
        how = _how(label, checkpoint, compression, jobs, rate_limit, full_read)
        with told(progress) as listener:
            return BackupReport._of(blocking(_native.backup(self._native, how, False, *listener)))

    async def backup_async(
        self,
        *,
        label: Optional[str] = None,
        checkpoint: str = "fast",
        compression: str = "zstd",
        jobs: Optional[int] = None,
        rate_limit: Optional[int] = None,
        full_read: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> BackupReport:
        """As :meth:`backup`. A cancelled backup is none; what it has stored so far, a later :meth:`Cluster.prune` removes."""
        how = _how(label, checkpoint, compression, jobs, rate_limit, full_read)
        with told(progress) as listener:
            return BackupReport._of(await awaited(_native.backup(self._native, how, False, *listener)))

    def plan_backup(self) -> Plan:
        """What :meth:`backup` would do; changes nothing, and does not ask the server."""
        with told(None) as listener:
            return Plan._of(blocking(_native.backup(self._native, _USUAL, True, *listener)))

    async def plan_backup_async(self) -> Plan:
        """As :meth:`plan_backup`."""
        with told(None) as listener:
            return Plan._of(await awaited(_native.backup(self._native, _USUAL, True, *listener)))

    def backups(self) -> BackupListing:
        """All backups of this cluster in its first store, the newest first.

        One that cannot be told of, since it is damaged or no key at hand opens it, is among the warnings, and logged.
        """
        with told(None) as listener:
            return BackupListing._of(blocking(_native.list_backups(self._native, *listener)))

    async def backups_async(self) -> BackupListing:
        """As :meth:`backups`."""
        with told(None) as listener:
            return BackupListing._of(await awaited(_native.list_backups(self._native, *listener)))

    def find_backup(self, name: str = "latest") -> BackupDetails:
        """One backup, by its name or as the latest good one.

        Raises:
            NotFoundError: there is none.
        """
        return BackupDetails._of(blocking(_native.find_backup(self._native, name)))

    async def find_backup_async(self, name: str = "latest") -> BackupDetails:
        """As :meth:`find_backup`."""
        return BackupDetails._of(await awaited(_native.find_backup(self._native, name)))

    def restore(
        self,
        name: str = "latest",
        *,
        tablespaces: Optional[_Tablespaces] = None,
        in_place: bool = False,
        delta: bool = False,
        discard_unshipped_wal: Optional[str] = None,
        without_damaged: bool = False,
        consent: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> RestoredBackup:
        """Makes this cluster's data directory of a backup, held against its hashes byte by byte; it appears as a whole.

        The directory is absent or empty before. To restore beside a cluster, give another one:
        ``Cluster("/app/restored", config=cluster.config).restore()``.

        Args:
            name: a backup's name, or ``latest`` for the newest good one.
            tablespaces: where tablespaces go, by their names or OIDs; else each goes back to where it was.
            in_place: take the place of the stopped cluster that is there. That one is kept aside, whole.
            delta: make the files of the stopped cluster that is there those of the backup; only what differs is written. Until
                it is done there is no cluster, neither the old one nor the new one; called again, it goes on.
            discard_unshipped_wal: with ``delta``, where the log of that cluster ends, as the plan tells it in
                ``unshipped_wal``: what of it no backup holds is given up.
            without_damaged: leave out what cannot be read any more; its pages are zero then, and told in ``damaged``. For
                salvage alone.
            consent: do so, where a cluster is replaced, or one is made that lacks pages.
            progress: told of each step.

        Raises:
            UnsafeError: something is in its place; nothing was changed.
            ConsentNeededError: a cluster would make room; its ``plan`` says how.
            DamagedError: something in the store is not what was written; nothing was changed.
            UnavailableError: there is not enough room.
            ValueError: two of the ways exclude each other.
        """
        whereto = _whereto(tablespaces, in_place, delta, discard_unshipped_wal, without_damaged, consent)
        with told(progress) as listener:
            return RestoredBackup._of(blocking(_native.restore(self._native, name, whereto, False, *listener)))

    async def restore_async(
        self,
        name: str = "latest",
        *,
        tablespaces: Optional[_Tablespaces] = None,
        in_place: bool = False,
        delta: bool = False,
        discard_unshipped_wal: Optional[str] = None,
        without_damaged: bool = False,
        consent: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> RestoredBackup:
        """As :meth:`restore`. A cancelled restore leaves what was there before; one with ``delta`` can only go on."""
        whereto = _whereto(tablespaces, in_place, delta, discard_unshipped_wal, without_damaged, consent)
        with told(progress) as listener:
            return RestoredBackup._of(await awaited(_native.restore(self._native, name, whereto, False, *listener)))

    def plan_restore(
        self,
        name: str = "latest",
        *,
        tablespaces: Optional[_Tablespaces] = None,
        in_place: bool = False,
        delta: bool = False,
        without_damaged: bool = False,
    ) -> RestorePlan:
        """What :meth:`restore` would do, how much room it takes, and what no backup holds; changes nothing.

        Args:
            name: as for the restore.
            tablespaces: as for the restore.
            in_place: as for the restore.
            delta: as for the restore. All files are compared for it.
            without_damaged: as for the restore.

        Raises:
            UnsafeError: it would be refused. So are the others of the restore, but for a missing consent.
        """
        whereto = _whereto(tablespaces, in_place, delta, None, without_damaged, False)
        with told(None) as listener:
            return RestorePlan._of(blocking(_native.restore(self._native, name, whereto, True, *listener)))

    async def plan_restore_async(
        self,
        name: str = "latest",
        *,
        tablespaces: Optional[_Tablespaces] = None,
        in_place: bool = False,
        delta: bool = False,
        without_damaged: bool = False,
    ) -> RestorePlan:
        """As :meth:`plan_restore`."""
        whereto = _whereto(tablespaces, in_place, delta, None, without_damaged, False)
        with told(None) as listener:
            return RestorePlan._of(await awaited(_native.restore(self._native, name, whereto, True, *listener)))

    def export(
        self,
        path: _Path,
        name: str = "latest",
        *,
        tar: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> ExportReport:
        """Writes a backup as a plain directory, or as one tar, that ``pg_verifybackup`` accepts; it appears as a whole.

        Args:
            path: the directory, which is absent or empty before, or the file, which is not there yet.
            name: a backup's name, or ``latest`` for the newest good one.
            tar: write one tar.
            progress: told of each step, and of bytes.

        Raises:
            UnsafeError: something is there already.
            DamagedError: something in the store is not what was written.
        """
        with told(progress) as listener:
            native = _native.export(self._native, name, path, flag(tar, "tar"), False, *listener)
            return ExportReport._of(blocking(native))

    async def export_async(
        self,
        path: _Path,
        name: str = "latest",
        *,
        tar: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> ExportReport:
        """As :meth:`export`. A cancelled export leaves nothing at its path."""
        with told(progress) as listener:
            native = _native.export(self._native, name, path, flag(tar, "tar"), False, *listener)
            return ExportReport._of(await awaited(native))

    def plan_export(self, path: _Path, name: str = "latest", *, tar: bool = False) -> Plan:
        """What :meth:`export` would do; changes nothing."""
        with told(None) as listener:
            return Plan._of(blocking(_native.export(self._native, name, path, flag(tar, "tar"), True, *listener)))

    async def plan_export_async(self, path: _Path, name: str = "latest", *, tar: bool = False) -> Plan:
        """As :meth:`plan_export`."""
        with told(None) as listener:
            return Plan._of(await awaited(_native.export(self._native, name, path, flag(tar, "tar"), True, *listener)))


def _how(
    label: Optional[str],
    checkpoint: str,
    compression: str,
    jobs: Optional[int],
    rate_limit: Optional[int],
    full_read: bool,
) -> dict[str, Any]:
    return {
        "label": label,
        "checkpoint": checkpoint,
        "compression": compression,
        "jobs": None if jobs is None else count(jobs, "jobs", least=1, most=64),
        "rate_limit": None if rate_limit is None else count(rate_limit, "rate_limit", least=1, most=2**63 - 1),
        "full_read": flag(full_read, "full_read"),
    }


def _whereto(
    tablespaces: Optional[_Tablespaces],
    in_place: bool,
    delta: bool,
    discard_unshipped_wal: Optional[str],
    without_damaged: bool,
    consent: bool,
) -> dict[str, Any]:
    whereto = {
        "tablespaces": [] if tablespaces is None else list(mapping(tablespaces, "tablespaces").items()),
        "in_place": flag(in_place, "in_place"),
        "delta": flag(delta, "delta"),
        "discard_unshipped_wal": discard_unshipped_wal,
        "without_damaged": flag(without_damaged, "without_damaged"),
        "consent": flag(consent, "consent"),
    }
    if discard_unshipped_wal is not None and not delta:
        raise ValueError("discard_unshipped_wal goes with delta")
    for other in ("in_place", "without_damaged"):
        if delta and whereto[other]:
            raise ValueError(f"delta and {other} exclude each other")
    return whereto


_USUAL = _how(None, "fast", "zstd", None, None, False)
