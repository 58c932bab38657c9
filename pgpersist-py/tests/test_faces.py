"""Bad luck: signals, cancelled tasks, forks, loops and the interpreter's end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psycopg
import pytest

import pgpersist
from pgpersist import Cluster, TemporaryCluster
from support.loops import LEFT_PENDING, complaints_of


def _in_another_interpreter(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def _slow_dump_ground(cluster: Cluster) -> psycopg.Connection[tuple[object, ...]]:
    """A database whose dump waits for a lock that the returned session holds."""
    cluster.init(allow_ephemeral=True)
    cluster.start()
    session = psycopg.connect(cluster.url("shop"))
    session.execute("CREATE TABLE t AS SELECT 1")
    session.commit()
    session.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    return session


def _nothing_is_left(place: Path) -> None:
    left = [path for path in (place / "backups").rglob("*") if path.name.startswith("backup_") or "tmp" in path.name]
    assert left == [], left


def test_a_cancelled_dump_leaves_nothing(cluster: Cluster, place: Path) -> None:
    session = _slow_dump_ground(cluster)

    async def cancelled() -> None:
        dumping = asyncio.ensure_future(cluster.dump_async())
        await asyncio.sleep(0.5)
        assert not dumping.done()
        dumping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dumping
        _nothing_is_left(place)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cluster.dump_async(), 0.5)
        _nothing_is_left(place)

    asyncio.run(cancelled())
    session.close()
    assert len(cluster.dump().dumps) == 1


def test_ctrl_c_ends_a_dump_and_leaves_nothing(cluster: Cluster, place: Path) -> None:
    session = _slow_dump_ground(cluster)
    threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        cluster.dump()
    assert time.monotonic() - began >= 0.7
    _nothing_is_left(place)
    session.close()
    assert len(cluster.dump().dumps) == 1


def test_other_threads_and_tasks_run_meanwhile() -> None:
    turns = 0
    running = True

    def turn() -> None:
        nonlocal turns
        while running:
            turns += 1
            time.sleep(0.001)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        with TemporaryCluster(databases=["a", "b"]):
            pass
    finally:
        running = False
        thread.join()
    assert turns > 5, "the GIL is released"

    async def ticking() -> int:
        async def tick() -> int:
            count = 0
            while not made.done():
                count += 1
                await asyncio.sleep(0.001)
            return count

        cluster = TemporaryCluster(databases=["a", "b"])
        made = asyncio.ensure_future(cluster.start_async())
        ticks = await tick()
        await cluster.stop_async()
        return ticks

    assert asyncio.run(ticking()) > 5, "the event loop goes on"


def test_two_event_loops_share_a_cluster() -> None:
    with TemporaryCluster() as cluster:
        results: list[str] = []

        def in_a_thread(number: int) -> None:
            results.append(asyncio.run(cluster.create_database_async(f"d{number}")))

        threads = [threading.Thread(target=in_a_thread, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(results)) == 4


def test_a_loop_that_is_closed_early_is_no_crash() -> None:
    loop = asyncio.new_event_loop()
    complaints = complaints_of(loop)
    task = loop.create_task(TemporaryCluster().start_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    del task
    with TemporaryCluster() as cluster:
        assert cluster.url()
    # The operation went on to its end, and held until then whom it would have told.
    until = time.monotonic() + 60
    while not complaints:
        assert time.monotonic() < until, "the task is held for ever"
        gc.collect()
        time.sleep(0.05)
    assert complaints == [LEFT_PENDING]


def test_a_forked_child_has_the_url_and_makes_clusters_of_its_own() -> None:
    ended = _in_another_interpreter("""
        import multiprocessing, os, subprocess, psycopg, pgpersist

        cluster = pgpersist.TemporaryCluster().start()

        def child(results):
            psycopg.connect(cluster.url()).close()
            try:
                cluster.stop()
            except RuntimeError as error:
                results.put(str(error))
            with pgpersist.TemporaryCluster() as own:
                psycopg.connect(own.url()).close()
                results.put(own.folder != cluster.folder)

        context = multiprocessing.get_context("fork")
        results = context.Queue()
        process = context.Process(target=child, args=(results,))
        process.start()
        refusal, differs = results.get(timeout=60), results.get(timeout=60)
        process.join()
        assert "child forked from it" in refusal and differs and process.exitcode == 0, (refusal, process.exitcode)
        # A child that ends as programs do, with all its objects.
        if os.fork() == 0:
            raise SystemExit(0)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        psycopg.connect(cluster.url()).close()
        cluster.create_database("still_ours")
        cluster.stop()
        print("well")
    """)
    assert (ended.returncode, ended.stdout) == (0, "well\n"), ended.stderr


def test_a_spawned_child_works() -> None:
    ended = _in_another_interpreter("""
        import concurrent.futures, multiprocessing, pgpersist

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                try:
                    pool.submit(pgpersist.Config.from_dict, {"cluster": {"prot": 1}}).result()
                except pgpersist.InvalidError as error:
                    assert error.remedy == "did you mean `port`?", error
                    print("well")
    """)
    assert (ended.returncode, ended.stdout) == (0, "well\n"), ended.stderr


@pytest.mark.parametrize(
    "end",
    ["pass", "raise SystemExit(3)", "import os; os._exit(3)", "import os; os.kill(os.getpid(), 9)", "1 / 0"],
)
def test_a_temporary_cluster_goes_with_its_interpreter(end: str) -> None:
    ended = _in_another_interpreter(
        "import sys, pgpersist\n"
        "cluster = pgpersist.TemporaryCluster().start()\n"
        "print(cluster.folder, flush=True)\n"
        "exec(sys.argv[1])\n",
        end,
    )
    folder = Path(ended.stdout.strip())
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline, f"{folder} is still there"
        time.sleep(0.05)


def test_the_interpreter_ends_in_the_middle_of_an_operation() -> None:
    ended = _in_another_interpreter("""
        import asyncio, pgpersist

        async def main():
            task = asyncio.ensure_future(pgpersist.crash_drill_async(rounds=50))
            await asyncio.sleep(1)
            import os, sys, threading
            threading.Timer(0.1, lambda: None).start()
            sys.stdout.write("begun\\n")

        asyncio.run(main())
    """)
    assert (ended.returncode, ended.stdout) == (0, "begun\n"), ended.stderr
    assert "exception" not in ended.stderr.lower() and "panicked" not in ended.stderr, ended.stderr


def test_importing_starts_nothing() -> None:
    ended = _in_another_interpreter("""
        import threading, os, sys
        import pgpersist
        assert len(os.listdir("/proc/self/task")) == 1
        for module in ("asyncpg", "fastapi", "pytest", "starlette"):
            assert module not in sys.modules, module
        print("well")
    """)
    assert ended.stdout == "well\n", ended.stderr
    assert pgpersist.__version__
