"""The operations that ``soak.py`` calls again and again, each in both faces."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any, Awaitable, Callable, Iterator, NamedTuple

import pgpersist
from pgpersist import Agent, Cluster, Config, MemoryBackupStore, OpenStore, TemporaryCluster


class Case(NamedTuple):
    """One operation, by its two faces."""

    name: str
    blocking: Callable[[], Any]
    awaited: Callable[[], Awaitable[Any]]
    is_slow: bool = False


def _raising(error: type[Exception], what: Callable[[], Any]) -> Callable[[], None]:
    def call() -> None:
        try:
            what()
        except error:
            return
        raise AssertionError(f"no {error.__name__}")

    return call


def _raising_async(error: type[Exception], what: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        try:
            await what()
        except error:
            return
        raise AssertionError(f"no {error.__name__}")

    return call


def _async(what: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        return what()

    return call


async def _cancelled(cluster: TemporaryCluster) -> None:
    task = asyncio.ensure_future(cluster.execute_async("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.005)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("it was not cancelled")


class _Check:
    name = "mine"

    def check(self) -> pgpersist.Finding:
        return pgpersist.Finding.pass_("all is well")


class _AsyncCheck:
    name = "mine:async"

    async def check(self) -> pgpersist.Finding:
        return pgpersist.Finding.pass_("all is well")


class _Shelf:
    """A store in Python that is empty: some of its methods plain, some coroutines."""

    async def put(self, key: str, data: object) -> None:
        raise PermissionError(key)

    async def put_if_absent(self, key: str, data: object) -> None:
        raise PermissionError(key)

    def get(self, key: str) -> bytes:
        raise FileNotFoundError(key)

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        raise FileNotFoundError(key)

    def head(self, key: str) -> pgpersist.ObjectMeta:
        raise FileNotFoundError(key)

    async def delete(self, key: str) -> None:
        raise PermissionError(key)

    def list(self, prefix: str) -> Iterator[pgpersist.ObjectMeta]:
        return iter(())


def _of_store(kind: str, store: OpenStore) -> Iterator[Case]:
    data = b"x" * 4096
    store.put("a", data)
    taken = pgpersist.ConflictError
    yield Case(f"{kind}.put", lambda: store.put("a", data), lambda: store.put_async("a", data))
    yield Case(
        f"{kind}.put_if_absent, taken",
        _raising(taken, lambda: store.put_if_absent("a", data)),
        _raising_async(taken, lambda: store.put_if_absent_async("a", data)),
    )
    yield Case(f"{kind}.get", lambda: store.get("a"), lambda: store.get_async("a"))
    yield Case(f"{kind}.get_range", lambda: store.get_range("a", 1, 9), lambda: store.get_range_async("a", 1, 9))
    yield Case(f"{kind}.head", lambda: store.head("a"), lambda: store.head_async("a"))
    yield Case(f"{kind}.delete", lambda: store.delete("b"), lambda: store.delete_async("b"))
    yield Case(f"{kind}.list", store.list, store.list_async)


def _of_copies(place: Path, cluster: Cluster) -> Iterator[Case]:
    """The same cluster with an encrypted copy."""
    key = pgpersist.new_key(place / "key.txt")
    copy = {"url": str(place / "copy"), "encryption": {"recipients": [key.public_key]}}
    values = {"cluster": {"data_directory": str(place / "data")}, "store": [{"url": str(place / "backups")}, copy]}
    both = Cluster(config=Config.from_dict(values))
    both.sync()
    yield Case("plan_sync", both.plan_sync, both.plan_sync_async)
    yield Case("sync, nothing to do", both.sync, both.sync_async)
    encrypted = Cluster(config=Config.from_dict({**values, "store": [copy]}))
    yield Case("keys.list", encrypted.keys.list, encrypted.keys.list_async)
    yield Case("keys.test", lambda: encrypted.keys.test(key.file), lambda: encrypted.keys.test_async(key.file))


async def _rendered(cluster: Cluster) -> str:
    return (await cluster.report_async()).to_markdown()


def _fencing(cluster: Cluster) -> None:
    cluster.fence()
    cluster.unfence()
    cluster.start()


async def _fencing_async(cluster: Cluster) -> None:
    await cluster.fence_async()
    await cluster.unfence_async()
    await cluster.start_async()


def _killing(temporary: TemporaryCluster) -> None:
    temporary.kill9()
    temporary.restart()


async def _killing_async(temporary: TemporaryCluster) -> None:
    await temporary.kill9_async()
    await temporary.restart_async()


def cases(place: Path, cluster: Cluster, temporary: TemporaryCluster) -> Iterator[Case]:
    """Every operation that a program may call again and again."""
    values = {"cluster": {"data_directory": str(place / "data"), "databases": ["shop"]}}
    invalid, absent = pgpersist.InvalidError, pgpersist.NotFoundError

    def config() -> Config:
        return Config.from_dict(values)

    refused = _raising(invalid, lambda: Config.from_dict({"cluster": {"prot": 1}}))
    yield Case("Config", config, _async(config))
    yield Case("Config, refused", refused, _async(refused))

    memory, folder = MemoryBackupStore(), pgpersist.open_store(place / "objects")
    yield from _of_store("memory", memory)
    yield from _of_store("folder", folder)
    yield Case(
        "open_store",
        lambda: pgpersist.open_store(place / "objects"),
        _async(lambda: pgpersist.open_store(place / "objects")),
    )
    yield Case("folder.check", folder.check, folder.check_async, True)
    mine = Cluster(place / "nowhere", store=_Shelf())
    yield Case("dumps, from a store in Python", mine.dumps, mine.dumps_async)

    yield Case("status", cluster.status, cluster.status_async)
    yield Case("url", lambda: cluster.url("shop"), lambda: cluster.url_async("shop"))
    yield Case("start, running", cluster.start, cluster.start_async)
    yield Case(
        "plan_init",
        lambda: cluster.plan_init(allow_ephemeral=True),
        lambda: cluster.plan_init_async(allow_ephemeral=True),
    )
    yield Case("dumps", cluster.dumps, cluster.dumps_async)
    yield Case("find_dump", cluster.find_dump, cluster.find_dump_async)
    yield Case(
        "find_dump, absent",
        _raising(absent, lambda: cluster.find_dump("absent.sql.gz")),
        _raising_async(absent, lambda: cluster.find_dump_async("absent.sql.gz")),
    )
    yield Case("verify", cluster.verify, cluster.verify_async)
    yield Case("plan_prune", lambda: cluster.plan_prune(keep_last=3), lambda: cluster.plan_prune_async(keep_last=3))
    yield Case("stores", lambda: cluster.stores, _async(lambda: cluster.stores))
    yield Case("plan_dump", cluster.plan_dump, cluster.plan_dump_async)
    yield Case("plan_load", cluster.plan_load, cluster.plan_load_async)
    yield Case("plan_crash_drill", pgpersist.plan_crash_drill, pgpersist.plan_crash_drill_async)
    yield Case(
        "plan_restore_drill",
        lambda: pgpersist.plan_restore_drill(cluster),
        lambda: pgpersist.plan_restore_drill_async(cluster),
    )
    yield Case("past_drills", lambda: pgpersist.past_drills(cluster), lambda: pgpersist.past_drills_async(cluster))
    yield Case("execute", lambda: temporary.execute("SELECT 1"), lambda: temporary.execute_async("SELECT 1"))
    yield Case("cancelled", lambda: None, lambda: _cancelled(temporary))

    yield from _of_copies(place, cluster)
    events: list[pgpersist.ProgressEvent] = []

    def heard(event: pgpersist.ProgressEvent) -> None:
        events.append(event)
        if len(events) > 100:
            events.clear()

    yield Case("verify, told", lambda: cluster.verify(progress=heard), lambda: cluster.verify_async(progress=heard))
    yield from _of_backups(place, cluster)
    checks: list[pgpersist.HealthCheck] = [_Check(), _AsyncCheck()]
    yield Case("health", lambda: cluster.health(checks=checks), lambda: cluster.health_async(checks=checks), True)
    yield Case("report", lambda: cluster.report().to_html(), lambda: _rendered(cluster), True)
    yield Case("fence and unfence", lambda: _fencing(cluster), lambda: _fencing_async(cluster), True)
    yield Case(
        "create_database",
        lambda: _dropping(temporary),
        lambda: _dropping_async(temporary),
        True,
    )
    yield Case("dump and prune", lambda: _dumping(cluster), lambda: _dumping_async(cluster), True)
    yield Case(
        "load",
        lambda: _loading(cluster),
        lambda: _loading_async(cluster),
        True,
    )
    yield Case("restart", lambda: cluster.restart(), lambda: cluster.restart_async(), True)
    yield Case("kill9 and restart", lambda: _killing(temporary), lambda: _killing_async(temporary), True)
    yield Case("TemporaryCluster", _temporary, _temporary_async, True)
    yield Case("Agent", lambda: _agent(cluster), lambda: _agent_async(cluster), True)
    # What retention drops stays for a day: each call leaves one more.
    yield Case("backup and prune", lambda: _backing_up(cluster), lambda: _backing_up_async(cluster), True)
    yield Case(
        "restore_drill", lambda: pgpersist.restore_drill(cluster), lambda: pgpersist.restore_drill_async(cluster), True
    )
    yield Case(
        "crash_drill",
        lambda: pgpersist.crash_drill(rounds=1, writers=1, kill="group"),
        lambda: pgpersist.crash_drill_async(rounds=1, writers=1, kill="group"),
        True,
    )


def _of_backups(place: Path, cluster: Cluster) -> Iterator[Case]:
    """Physical backups. There is one from here on."""
    cluster.backup()
    yield Case("backups", cluster.backups, cluster.backups_async)
    yield Case("find_backup", cluster.find_backup, cluster.find_backup_async)
    yield Case("plan_backup", cluster.plan_backup, cluster.plan_backup_async)
    plain, there = place / "plain", place / "restored"
    restored = Cluster(there, config=cluster.config)
    yield Case("plan_export", lambda: cluster.plan_export(plain), lambda: cluster.plan_export_async(plain))
    yield Case("plan_restore", restored.plan_restore, restored.plan_restore_async)
    yield Case("verify of a backup", lambda: cluster.verify(quick=True), lambda: cluster.verify_async(quick=True))
    yield Case("export", lambda: _exporting(cluster, plain), lambda: _exporting_async(cluster, plain), True)
    yield Case("restore", lambda: _restoring(restored, there), lambda: _restoring_async(restored, there), True)
    restored.restore()
    yield Case(
        "delta restore",
        lambda: restored.restore(delta=True, consent=True),
        lambda: restored.restore_async(delta=True, consent=True),
        True,
    )
    shutil.rmtree(there)


def _backing_up(cluster: Cluster) -> None:
    cluster.backup()
    cluster.prune(keep_last=1, consent=True)


async def _backing_up_async(cluster: Cluster) -> None:
    await cluster.backup_async()
    await cluster.prune_async(keep_last=1, consent=True)


def _exporting(cluster: Cluster, path: Path) -> None:
    cluster.export(path)
    shutil.rmtree(path)


async def _exporting_async(cluster: Cluster, path: Path) -> None:
    await cluster.export_async(path)
    shutil.rmtree(path)


def _restoring(restored: Cluster, there: Path) -> None:
    restored.restore()
    shutil.rmtree(there)


async def _restoring_async(restored: Cluster, there: Path) -> None:
    await restored.restore_async()
    shutil.rmtree(there)


def _dropping(temporary: TemporaryCluster) -> None:
    temporary.create_database("again")
    temporary.execute("DROP DATABASE again")


async def _dropping_async(temporary: TemporaryCluster) -> None:
    await temporary.create_database_async("again")
    await temporary.execute_async("DROP DATABASE again")


def _dumping(cluster: Cluster) -> None:
    cluster.dump()
    cluster.prune(keep_last=1, consent=True)


async def _dumping_async(cluster: Cluster) -> None:
    await cluster.dump_async()
    await cluster.prune_async(keep_last=1, consent=True)


def _loading(cluster: Cluster) -> None:
    cluster.load(database="loaded")
    _drop(cluster, "loaded")


async def _loading_async(cluster: Cluster) -> None:
    await cluster.load_async(database="loaded")
    _drop(cluster, "loaded")


def _drop(cluster: Cluster, database: str) -> None:
    import psycopg

    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {database}".encode())


def _temporary() -> None:
    with TemporaryCluster() as cluster:
        cluster.url()


async def _temporary_async() -> None:
    async with TemporaryCluster() as cluster:
        cluster.url()


def _agent(cluster: Cluster) -> None:
    cluster.stop()
    with Agent(cluster, allow_ephemeral=True):
        pass
    cluster.start()


async def _agent_async(cluster: Cluster) -> None:
    await cluster.stop_async()
    async with Agent(cluster, allow_ephemeral=True):
        pass
    await cluster.start_async()
