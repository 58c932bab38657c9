"""``Agent``: stays with a server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import psycopg
import pytest

import pgpersist
from pgpersist import Agent, AgentPhase, Cluster, ServerState


def _until(what: str, holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def test_an_agent_starts_a_killed_server_again_and_ends_with_it(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgpersist")
    with Agent(cluster, allow_ephemeral=True) as agent:
        url = cluster.url("shop")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT 7 AS a")
        first = agent.status().pid
        assert first is not None and agent.status().phase is AgentPhase.READY
        os.kill(first, signal.SIGKILL)
        _until("it is started again", lambda: agent.status().restarts == 1 and agent.status().phase is AgentPhase.READY)
        with psycopg.connect(cluster.url("shop")) as connection:
            assert connection.execute("SELECT a FROM t").fetchone() == (7,)
        with pytest.raises(RuntimeError, match="runs already"):
            agent.begin()
    assert not agent.is_running and cluster.status().state is ServerState.STOPPED
    said = {(record.name, record.levelname) for record in caplog.records}
    assert ("pgpersist.agent", "INFO") in said and ("pgpersist.server", "INFO") in said
    agent.stop()


def test_one_agent_alone_gets_the_cluster(cluster: Cluster) -> None:
    async def both() -> None:
        async with Agent(cluster, allow_ephemeral=True):
            with pytest.raises(pgpersist.ConflictError):
                await Agent(cluster, allow_ephemeral=True).start_async()
            assert (await cluster.status_async()).state is ServerState.RUNNING

    asyncio.run(both())


def test_a_failure_to_begin_is_raised(place: Path) -> None:
    (place / "data").mkdir()
    (place / "data" / "somebodys").write_text("")
    agent = Agent(Cluster(place / "data"), allow_ephemeral=True)
    with pytest.raises(pgpersist.PgPersistError) as caught:
        agent.start()
    assert caught.value.remedy and not agent.is_running
    with pytest.raises(RuntimeError, match="not started"):
        Agent(Cluster(place / "data")).status()


def test_the_server_outlives_an_interpreter_that_does_not_stop_it(cluster: Cluster) -> None:
    program = (
        "import sys, pgpersist\n"
        "cluster = pgpersist.Cluster(sys.argv[1], port=int(sys.argv[2]), databases=['shop'],\n"
        "    settings={'unix_socket_directories': sys.argv[3], 'listen_addresses': '', 'shared_buffers': '16MB'})\n"
        "agent = pgpersist.Agent(cluster, allow_ephemeral=True).start()\n"
        "print(agent.status().pid, flush=True)\n"
    )
    assert cluster.data_directory is not None
    arguments = [str(cluster.data_directory), str(cluster.config["cluster.port"]), str(cluster.data_directory.parent)]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert cluster.status().pid == int(ended.stdout)
    with Agent(cluster, allow_ephemeral=True) as agent:
        assert agent.status().pid == int(ended.stdout), "it is adopted"
