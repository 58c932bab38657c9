"""Does anything grow when an operation is called again and again: memory, threads, file descriptors?

``python benches/soak.py --calls 10000`` calls each operation so often, both faces by turns; ``--only status,dump`` some of
them. What starts processes takes 0.05 to 3 s a call, so ``--slow-calls`` may give those fewer. One JSON line an operation;
exit code 1 when one of them grew. The first tenth of the calls warms up and does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import pwd
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Awaitable, Callable, Iterator, NamedTuple

import pgpersist
from pgpersist import Agent, Cluster, Config, MemoryBackupStore, TemporaryCluster

#: What an allocator may keep unasked. A leak of 200 bytes a call shows from 10,000 calls on.
ALLOWED_KIB = 2048


class Case(NamedTuple):
    """One operation, by its two faces."""

    name: str
    blocking: Callable[[], Any]
    awaited: Callable[[], Awaitable[Any]]
    is_slow: bool = False


def _rss_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("the kernel tells no VmRSS")


def _counts() -> tuple[int, int]:
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def _settled(wanted: tuple[int, int]) -> tuple[int, int]:
    """The counts, when the library's idle threads have gone: they do so after ten seconds."""
    found = _counts()
    for _ in range(150):
        if found[0] <= wanted[0] and found[1] <= wanted[1]:
            break
        time.sleep(0.1)
        found = _counts()
    return found


def soak(case: Case, calls: int, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Calls it so often, and tells what was before and what is after."""

    def some(number: int) -> None:
        for turn in range(number):
            if turn % 2:
                case.blocking()
            else:
                loop.run_until_complete(case.awaited())
        gc.collect()

    some(max(10, calls // 10))
    before, memory = _settled((0, 0)) if case.is_slow else _counts(), _rss_kib()
    began = time.monotonic()
    some(calls)
    seconds = time.monotonic() - began
    after, growth = _settled(before), _rss_kib() - memory
    return {
        "operation": case.name,
        "calls": calls,
        "ms_a_call": round(1000 * seconds / calls, 3),
        "rss_growth_kib": growth,
        "threads": [before[0], after[0]],
        "descriptors": [before[1], after[1]],
        "grew": growth > ALLOWED_KIB or after[0] > before[0] or after[1] > before[1],
    }


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


def cases(place: Path, port: int, cluster: Cluster, temporary: TemporaryCluster) -> Iterator[Case]:
    """Every operation that a program may call again and again."""
    values = {"cluster": {"data_directory": str(place / "data"), "databases": ["shop"]}}
    invalid, absent = pgpersist.InvalidError, pgpersist.NotFoundError

    def config() -> Config:
        return Config.from_dict(values)

    refused = _raising(invalid, lambda: Config.from_dict({"cluster": {"prot": 1}}))
    yield Case("Config", config, _async(config))
    yield Case("Config, refused", refused, _async(refused))

    store = MemoryBackupStore()
    store.put("a", b"x" * 4096)
    yield Case("store.put", lambda: store.put("a", b"x" * 4096), lambda: store.put_async("a", b"x" * 4096))
    yield Case("store.get", lambda: store.get("a"), lambda: store.get_async("a"))
    yield Case("store.list", lambda: store.list(), lambda: store.list_async())

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
    yield Case("past_drills", lambda: pgpersist.past_drills(cluster), lambda: pgpersist.past_drills_async(cluster))
    yield Case("execute", lambda: temporary.execute("SELECT 1"), lambda: temporary.execute_async("SELECT 1"))
    yield Case("cancelled", lambda: None, lambda: _cancelled(temporary))

    checks = [_Check()]
    yield Case("health", lambda: cluster.health(checks=checks), lambda: cluster.health_async(checks=checks), True)
    yield Case("report", cluster.report, cluster.report_async, True)
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
    yield Case("TemporaryCluster", _temporary, _temporary_async, True)
    yield Case("Agent", lambda: _agent(cluster), lambda: _agent_async(cluster), True)
    yield Case(
        "restore_drill", lambda: pgpersist.restore_drill(cluster), lambda: pgpersist.restore_drill_async(cluster), True
    )
    yield Case(
        "crash_drill",
        lambda: pgpersist.crash_drill(rounds=1, writers=1, kill="group"),
        lambda: pgpersist.crash_drill_async(rounds=1, writers=1, kill="group"),
        True,
    )


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


def _place() -> Path:
    place = Path(tempfile.mkdtemp(prefix="pgpy-soak-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(place, user.pw_uid, user.pw_gid)
    place.chmod(0o755)
    return place


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="how often each operation is called")
    parser.add_argument("--slow-calls", type=int, help="how often one that starts processes is; else as often")
    parser.add_argument("--only", default="", help="operations, separated by commas")
    arguments = parser.parse_args()
    only = {name.strip() for name in arguments.only.split(",") if name.strip()}
    place, loop, grew = _place(), asyncio.new_event_loop(), False
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    settings = {"unix_socket_directories": str(place), "shared_buffers": "16MB"}
    cluster = Cluster(place / "data", store=place / "backups", databases=["shop"], port=port, settings=settings)
    try:
        cluster.init(allow_ephemeral=True)
        cluster.start()
        cluster.dump()
        with TemporaryCluster() as temporary:
            for case in cases(place, port, cluster, temporary):
                if only and case.name not in only:
                    continue
                calls = arguments.slow_calls if case.is_slow and arguments.slow_calls else arguments.calls
                result = soak(case, calls, loop)
                grew |= result["grew"]
                print(json.dumps(result), flush=True)
    finally:
        cluster.stop(timeout=10)
        shutil.rmtree(place)
        loop.close()
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
