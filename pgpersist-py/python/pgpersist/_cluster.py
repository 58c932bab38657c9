"""``Cluster``: a data directory, the PostgreSQL programs that fit it, its server, its dumps and its backups."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Sequence, Union
from urllib.parse import quote

from pgpersist import _native
from pgpersist._arguments import mapping, names, of_type
from pgpersist._config import Config
from pgpersist._dump_listing import DumpEntry, DumpListing
from pgpersist._dump_reports import DumpReport, LoadReport, PrunePlan, VerifyReport
from pgpersist._faces import awaited, blocking
from pgpersist._health import HealthCheck, HealthReport, natives_of, tables_of
from pgpersist._keys import StoreKeys
from pgpersist._overview import Overview
from pgpersist._physical import PhysicalBackups
from pgpersist._plan import Plan
from pgpersist._progress import ProgressListener, told
from pgpersist._seconds import Seconds, seconds
from pgpersist._server_reports import (
    FenceReport,
    InitPlan,
    InitReport,
    MigrateReport,
    MigrationPlan,
    ServerStatus,
    StartReport,
    StopReport,
)
from pgpersist._store import BackupStore, OpenStore, configured_or_own
from pgpersist._sync_reports import SyncPlan, SyncReport

_Path = Union[str, "PathLike[str]"]


class Cluster(PhysicalBackups):
    """One PostgreSQL cluster, durable by default. It holds nothing open, and dropping it changes nothing.

    Each operation has two faces: ``start()`` blocks, with the GIL released and Ctrl-C heard, ``start_async()`` is awaited.
    Cancelling either leaves the old state or the new one.

    Args:
        data_directory: where its files live; on a volume that survives.
        config: what else there is to know; by default nothing but the other arguments, which beat it.
        store: where its dumps live, instead of all configured stores: a folder, a URL, or a :class:`BackupStore`. One
            of your own, or one that is open, is encrypted and kept as the first configured store would be.
        databases: the databases that are created when missing, dumped and watched.
        port: the port, also of the socket's name.
        settings: any settings of PostgreSQL.
        name: the cluster's name in the stores.
        identity_file: a file with the private key that opens encrypted dumps, instead of the configured one.
        unencrypted: read dumps that are not encrypted, too, from a store whose dumps are.

    Raises:
        InvalidError: a value that does not fit, with its key.
    """

    def __init__(
        self,
        data_directory: Optional[_Path] = None,
        *,
        config: Optional[Config] = None,
        store: Union[_Path, BackupStore, OpenStore, None] = None,
        databases: Optional[Sequence[str]] = None,
        port: Optional[int] = None,
        settings: Optional[Mapping[str, Union[str, int, float, bool]]] = None,
        name: Optional[str] = None,
        identity_file: Optional[_Path] = None,
        unencrypted: bool = False,
    ) -> None:
        given: dict[str, Any] = {
            "cluster": {
                "data_directory": data_directory,
                "databases": names(databases, "databases"),
                "port": port,
                "settings": None if settings is None else dict(mapping(settings, "settings")),
                "name": name,
            }
        }
        address, own_store = configured_or_own(store)
        if address is not None:
            given["store"] = [{"url": address}]
        self._config = Config.from_dict(given) if config is None else of_type(config, Config, "config")._with(given)
        self._native = _native.NativeCluster(self._config._native, own_store, identity_file, unencrypted)

    @property
    def config(self) -> Config:
        """The configuration, with the arguments laid over it."""
        return self._config

    @property
    def data_directory(self) -> Optional[Path]:
        """Where its files live."""
        return self._native.data_directory

    @property
    def name(self) -> str:
        """Its name in the stores."""
        return self._native.name

    @property
    def databases(self) -> tuple[str, ...]:
        """The databases that are created when missing, dumped and watched."""
        return tuple(self._native.databases)

    @property
    def stores(self) -> tuple[OpenStore, ...]:
        """Its stores in their order, none where none is named: ``cluster.stores[1].check()`` asks the second one.

        What lies there encrypted is read as it is.
        """
        return tuple(OpenStore(native) for native in self._native.stores())

    @property
    def keys(self) -> StoreKeys:
        """The keys that open what is encrypted in its first store."""
        return StoreKeys(self._native)

    # -- its life

    def status(self) -> ServerStatus:
        """What stands in the data directory and what its server is doing; touches nothing."""
        with told(None) as listener:
            return ServerStatus._of(blocking(self._native.status(*listener)))

    async def status_async(self) -> ServerStatus:
        """As :meth:`status`."""
        with told(None) as listener:
            return ServerStatus._of(await awaited(self._native.status(*listener)))

    def init(
        self,
        *,
        allow_ephemeral: bool = False,
        new: bool = False,
        restore_latest: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> InitReport:
        """Makes the data directory ready: adopts what is there, creates a cluster, restores one, or refuses. Never overwrites.

        Args:
            allow_ephemeral: accept a place that does not survive this machine.
            new: begin a new history although another cluster is known here; its backups are kept.
            restore_latest: load the newest backups when the directory is empty.
            progress: told of each step.

        Raises:
            UnsafeError: going on could lose data; the remedy says how to insist.
            ConflictError: somebody else uses the directory.
        """
        with told(progress) as listener:
            return InitReport._of(blocking(self._native.init(allow_ephemeral, new, restore_latest, *listener)))

    async def init_async(
        self,
        *,
        allow_ephemeral: bool = False,
        new: bool = False,
        restore_latest: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> InitReport:
        """As :meth:`init`."""
        with told(progress) as listener:
            return InitReport._of(await awaited(self._native.init(allow_ephemeral, new, restore_latest, *listener)))

    def plan_init(self, *, allow_ephemeral: bool = False, new: bool = False, restore_latest: bool = False) -> InitPlan:
        """What :meth:`init` would do; changes nothing."""
        return InitPlan._of(blocking(self._native.plan_init(allow_ephemeral, new, restore_latest)))

    async def plan_init_async(
        self, *, allow_ephemeral: bool = False, new: bool = False, restore_latest: bool = False
    ) -> InitPlan:
        """As :meth:`plan_init`."""
        return InitPlan._of(await awaited(self._native.plan_init(allow_ephemeral, new, restore_latest)))

    def start(self, *, timeout: Seconds = 60, trust_stale_pid: bool = False) -> StartReport:
        """Starts the server and waits until it accepts connections. It runs on when this process ends.

        Args:
            timeout: how long to wait; a recovery that takes longer goes on by itself.
            trust_stale_pid: a left ``postmaster.pid`` is stale although nothing proves it.

        Raises:
            DeadlineError: it is not ready yet.
            ConflictError: a server runs there that pgpersist did not start.
        """
        return StartReport._of(blocking(self._native.start(seconds(timeout, "timeout"), trust_stale_pid)))

    async def start_async(self, *, timeout: Seconds = 60, trust_stale_pid: bool = False) -> StartReport:
        """As :meth:`start`."""
        return StartReport._of(await awaited(self._native.start(seconds(timeout, "timeout"), trust_stale_pid)))

    def stop(self, *, timeout: Seconds = 60) -> StopReport:
        """Stops the server: fast, and after ``timeout`` immediately. An agent that supervises it ends, too."""
        return StopReport._of(blocking(self._native.stop(seconds(timeout, "timeout"))))

    async def stop_async(self, *, timeout: Seconds = 60) -> StopReport:
        """As :meth:`stop`."""
        return StopReport._of(await awaited(self._native.stop(seconds(timeout, "timeout"))))

    def restart(self, *, timeout: Seconds = 60, trust_stale_pid: bool = False) -> StartReport:
        """Stops the server and starts it again, with the configuration of now."""
        return StartReport._of(blocking(self._native.restart(seconds(timeout, "timeout"), trust_stale_pid)))

    async def restart_async(self, *, timeout: Seconds = 60, trust_stale_pid: bool = False) -> StartReport:
        """As :meth:`restart`."""
        return StartReport._of(await awaited(self._native.restart(seconds(timeout, "timeout"), trust_stale_pid)))

    def fence(self, reason: Optional[str] = None, *, timeout: Seconds = 60) -> FenceReport:
        """Shuts the server down and keeps it down, whoever wants to start it, until :meth:`unfence`."""
        return FenceReport._of(blocking(self._native.fence(reason, seconds(timeout, "timeout"))))

    async def fence_async(self, reason: Optional[str] = None, *, timeout: Seconds = 60) -> FenceReport:
        """As :meth:`fence`."""
        return FenceReport._of(await awaited(self._native.fence(reason, seconds(timeout, "timeout"))))

    def unfence(self, *, timeout: Seconds = 60) -> FenceReport:
        """Takes the fence away; an agent that waits starts the server."""
        with told(None) as listener:
            return FenceReport._of(blocking(self._native.unfence(seconds(timeout, "timeout"), *listener)))

    async def unfence_async(self, *, timeout: Seconds = 60) -> FenceReport:
        """As :meth:`unfence`."""
        with told(None) as listener:
            return FenceReport._of(await awaited(self._native.unfence(seconds(timeout, "timeout"), *listener)))

    def url(self, database: str = "postgres") -> str:
        """How clients on this machine connect to a database of the running server: ``postgresql://…``.

        Raises:
            UnavailableError: no server runs.
        """
        return _url(blocking(self._native.connection(database)), database)

    async def url_async(self, database: str = "postgres") -> str:
        """As :meth:`url`."""
        return _url(await awaited(self._native.connection(database)), database)

    # -- how it stands

    def health(self, *, tables: Sequence[str] = (), checks: Sequence[HealthCheck] = ()) -> HealthReport:
        """Whether everything is well: the data and where it lies, the server, its databases, the dumps. Changes nothing.

        Each check has a deadline, so this answers within seconds, whatever hangs.

        Args:
            tables: tables whose rows are counted, ``orders`` or ``schema.orders``.
            checks: your own questions, asked beside the library's.
        """
        return HealthReport._of(blocking(_native.health(self._native, tables_of(tables), natives_of(checks))))

    async def health_async(self, *, tables: Sequence[str] = (), checks: Sequence[HealthCheck] = ()) -> HealthReport:
        """As :meth:`health`."""
        return HealthReport._of(await awaited(_native.health(self._native, tables_of(tables), natives_of(checks))))

    def report(self) -> Overview:
        """How it stands with the cluster's persistence, as one page to hand on. Changes nothing."""
        return Overview._looked(blocking(_native.overview(self._native)))

    async def report_async(self) -> Overview:
        """As :meth:`report`."""
        return Overview._looked(await awaited(_native.overview(self._native)))

    # -- its dumps

    def dump(
        self,
        *databases: str,
        role_passwords: bool = False,
        begin_anew: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> DumpReport:
        """Dumps databases to the store as ``.sql.gz``; none named means the configured ones, else all.

        Other configured stores are brought up to date afterwards; one that cannot be is among the warnings.

        Args:
            databases: their names.
            role_passwords: keep the roles' passwords in the dump of roles.
            begin_anew: fill a store that has lost its dumps, as one whose volume is not mounted seems to have.
            progress: told of each step, and of bytes.
        """
        with told(progress) as listener:
            native = _native.dump(self._native, list(databases), role_passwords, begin_anew, *listener)
            return DumpReport._of(blocking(native))

    async def dump_async(
        self,
        *databases: str,
        role_passwords: bool = False,
        begin_anew: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> DumpReport:
        """As :meth:`dump`. A cancelled dump leaves nothing in the store."""
        with told(progress) as listener:
            native = _native.dump(self._native, list(databases), role_passwords, begin_anew, *listener)
            return DumpReport._of(await awaited(native))

    def plan_dump(self, *databases: str, begin_anew: bool = False) -> Plan:
        """What :meth:`dump` would do; changes nothing.

        Args:
            databases: their names.
            begin_anew: as for the dump: without it, a store that has lost its dumps is refused here, too.
        """
        return Plan._of(blocking(_native.plan_dump(self._native, list(databases), begin_anew)))

    async def plan_dump_async(self, *databases: str, begin_anew: bool = False) -> Plan:
        """As :meth:`plan_dump`."""
        return Plan._of(await awaited(_native.plan_dump(self._native, list(databases), begin_anew)))

    def load(
        self,
        name: _Path = "latest",
        *,
        database: Optional[str] = None,
        clean: bool = False,
        disconnect: bool = False,
        trust: bool = False,
        no_owner: bool = False,
        accept_locale: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> LoadReport:
        """Makes a database of a dump, all or nothing.

        Where several stores are configured, it is read from the first that has it whole.

        Args:
            name: a dump's name in the store, ``latest``, or the path of a file.
            database: the database to make; else the one that the dump was made of.
            clean: replace a database that holds something: it is renamed and kept.
            disconnect: end other sessions of the database that is replaced.
            trust: run the dump's SQL as the superuser: it can then do whatever it likes on this machine.
            no_owner: everything belongs to the database's owner, and nothing is granted.
            accept_locale: load although the cluster's locale is not the dump's.
            progress: told of each step, and of bytes.

        Raises:
            DamagedError: the dump is not what was written; nothing was changed.
            ConflictError: the database holds something, and ``clean`` is not given.
        """
        with told(progress) as listener:
            native = _native.load(
                self._native, _name(name), database, clean, disconnect, trust, no_owner, accept_locale, *listener
            )
            return LoadReport._of(blocking(native))

    async def load_async(
        self,
        name: _Path = "latest",
        *,
        database: Optional[str] = None,
        clean: bool = False,
        disconnect: bool = False,
        trust: bool = False,
        no_owner: bool = False,
        accept_locale: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> LoadReport:
        """As :meth:`load`."""
        with told(progress) as listener:
            native = _native.load(
                self._native, _name(name), database, clean, disconnect, trust, no_owner, accept_locale, *listener
            )
            return LoadReport._of(await awaited(native))

    def plan_load(self, name: _Path = "latest", *, database: Optional[str] = None) -> Plan:
        """What :meth:`load` would do; changes nothing, and does not look at the server.

        Args:
            name: as for the load.
            database: as for the load.

        Raises:
            NotFoundError: there is no such dump.
        """
        with told(None) as listener:
            return Plan._of(blocking(_native.plan_load(self._native, _name(name), database, *listener)))

    async def plan_load_async(self, name: _Path = "latest", *, database: Optional[str] = None) -> Plan:
        """As :meth:`plan_load`."""
        with told(None) as listener:
            return Plan._of(await awaited(_native.plan_load(self._native, _name(name), database, *listener)))

    def dumps(self) -> DumpListing:
        """All dumps of this cluster in its stores, the newest first.

        Of several stores one that does not answer is told in ``warnings`` and ``stores``, and logged; so is a folder that
        is not there, as one whose volume is not mounted.
        """
        with told(None) as listener:
            return DumpListing._of(blocking(_native.list_dumps(self._native, *listener)))

    async def dumps_async(self) -> DumpListing:
        """As :meth:`dumps`."""
        with told(None) as listener:
            return DumpListing._of(await awaited(_native.list_dumps(self._native, *listener)))

    def find_dump(self, name: str = "latest", *, database: Optional[str] = None) -> DumpEntry:
        """One dump, by its name or as the latest.

        Raises:
            NotFoundError: there is none.
        """
        with told(None) as listener:
            return DumpEntry._of(blocking(_native.find_dump(self._native, name, database, *listener)))

    async def find_dump_async(self, name: str = "latest", *, database: Optional[str] = None) -> DumpEntry:
        """As :meth:`find_dump`."""
        with told(None) as listener:
            return DumpEntry._of(await awaited(_native.find_dump(self._native, name, database, *listener)))

    def verify(
        self,
        name: Optional[str] = None,
        *,
        database: Optional[str] = None,
        quick: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> VerifyReport:
        """Compares dumps and backups with what was written: one, the dumps of a database, or all.

        Args:
            name: a dump's or a backup's name, or ``latest`` for a dump.
            database: look at its dumps only, or say which ``latest`` is meant.
            quick: look at sizes, and at what is small or stands first and last.
            progress: told of each step, and of bytes.
        """
        with told(progress) as listener:
            return VerifyReport._of(blocking(_native.verify(self._native, name, database, quick, *listener)))

    async def verify_async(
        self,
        name: Optional[str] = None,
        *,
        database: Optional[str] = None,
        quick: bool = False,
        progress: Optional[ProgressListener] = None,
    ) -> VerifyReport:
        """As :meth:`verify`."""
        with told(progress) as listener:
            return VerifyReport._of(await awaited(_native.verify(self._native, name, database, quick, *listener)))

    def plan_prune(self, **rules: Optional[int]) -> PrunePlan:
        """What :meth:`prune` would drop; changes nothing."""
        return PrunePlan._of(blocking(_native.prune(self._native, _rules(rules), False, True)))

    async def plan_prune_async(self, **rules: Optional[int]) -> PrunePlan:
        """As :meth:`plan_prune`."""
        return PrunePlan._of(await awaited(_native.prune(self._native, _rules(rules), False, True)))

    def prune(self, *, consent: bool = False, **rules: Optional[int]) -> PrunePlan:
        """Drops the dumps and backups that no rule keeps, in each configured store by its own rules.

        A dropped backup can be restored for another day; what it alone needs, a later call removes.

        Args:
            consent: drop also more than half of the dumps, or of the backups, at once.
            rules: ``keep_days``, ``keep_last``, ``keep_daily``, ``keep_weekly``, ``keep_monthly``, ``max_bytes``; else the
                configured ones.

        Raises:
            ConsentNeededError: more than half would go; its ``plan`` says which.
        """
        return PrunePlan._of(blocking(_native.prune(self._native, _rules(rules), consent, False)))

    async def prune_async(self, *, consent: bool = False, **rules: Optional[int]) -> PrunePlan:
        """As :meth:`prune`."""
        return PrunePlan._of(await awaited(_native.prune(self._native, _rules(rules), consent, False)))

    def plan_sync(self) -> SyncPlan:
        """What :meth:`sync` would copy; changes nothing."""
        return SyncPlan._of(blocking(_native.plan_sync(self._native)))

    async def plan_sync_async(self) -> SyncPlan:
        """As :meth:`plan_sync`."""
        return SyncPlan._of(await awaited(_native.plan_sync(self._native)))

    def sync(self, *, begin_anew: bool = False, progress: Optional[ProgressListener] = None) -> SyncReport:
        """Brings the other stores up to date: copies what the first one has and they lack.

        Nothing there is overwritten or removed. A store that fails is told in the report, and delays no other.

        Args:
            begin_anew: fill a store that has lost its dumps, as one whose volume is not mounted seems to have.
            progress: told of each step, and of bytes.

        Raises:
            InvalidError: there is no second store.
        """
        with told(progress) as listener:
            return SyncReport._of(blocking(_native.sync(self._native, begin_anew, *listener)))

    async def sync_async(self, *, begin_anew: bool = False, progress: Optional[ProgressListener] = None) -> SyncReport:
        """As :meth:`sync`. What was copied so far stays, and nothing half."""
        with told(progress) as listener:
            return SyncReport._of(await awaited(_native.sync(self._native, begin_anew, *listener)))

    # -- its place

    def plan_migrate(self, source: _Path) -> MigrationPlan:
        """What :meth:`migrate` would do; changes nothing."""
        return MigrationPlan._of(blocking(_native.plan_migrate(self._native, source)))

    async def plan_migrate_async(self, source: _Path) -> MigrationPlan:
        """As :meth:`plan_migrate`."""
        return MigrationPlan._of(await awaited(_native.plan_migrate(self._native, source)))

    def migrate(
        self,
        source: _Path,
        *,
        consent: bool = False,
        timeout: Seconds = 60,
        progress: Optional[ProgressListener] = None,
    ) -> MigrateReport:
        """Moves the cluster in ``source`` into this data directory: copied, compared, switched; the source is kept aside.

        Args:
            consent: a running server of the source is stopped at the end.
            timeout: how long its clean shutdown may take.

        Raises:
            ConsentNeededError: the source's server runs.
        """
        with told(progress) as listener:
            native = _native.migrate(self._native, source, consent, seconds(timeout, "timeout"), *listener)
            return MigrateReport._of(blocking(native))

    async def migrate_async(
        self,
        source: _Path,
        *,
        consent: bool = False,
        timeout: Seconds = 60,
        progress: Optional[ProgressListener] = None,
    ) -> MigrateReport:
        """As :meth:`migrate`."""
        with told(progress) as listener:
            native = _native.migrate(self._native, source, consent, seconds(timeout, "timeout"), *listener)
            return MigrateReport._of(await awaited(native))

    def __repr__(self) -> str:
        return f"<Cluster {self.name!r} in {str(self.data_directory)!r}>"


_RULES = ("keep_days", "keep_last", "keep_daily", "keep_weekly", "keep_monthly", "max_bytes")


def _rules(given: Mapping[str, Optional[int]]) -> dict[str, Optional[int]]:
    unknown = sorted(set(given) - set(_RULES))
    if unknown:
        raise TypeError(f"{unknown[0]!r} is no rule of retention; there are {', '.join(_RULES)}")
    return {rule: given.get(rule) for rule in _RULES}


def _name(name: _Path) -> str:
    # A path is told from a name in the store by a `/` in it.
    if isinstance(name, str):
        return name
    text = str(name)
    return text if "/" in text else f"./{text}"


def _url(parts: tuple[str, int, str, Optional[str]], database: str) -> str:
    host, port, user, password = parts
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    if host.startswith(("/", "@")):
        return f"postgresql://{login}@/{quote(database, safe='')}?host={quote(host, safe='/')}&port={port}"
    host = f"[{host}]" if ":" in host else host
    return f"postgresql://{login}@{host}:{port}/{quote(database, safe='')}"
