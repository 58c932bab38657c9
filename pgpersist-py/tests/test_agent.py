"""``Agent``: stays with a server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import psycopg
import pytest

import pgpersist
from pgpersist import Agent, AgentPhase, AgentStatus, Cluster, Config, JobOutcome, JobStatus, ServerState

Call = Callable[..., Any]


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


def test_how_it_stands_with_its_jobs_is_told(cluster: Cluster, place: Path, call: Call) -> None:
    config = Config.from_dict({"dump": {"schedule": "0 3 1 1 *"}})
    settings = {"unix_socket_directories": str(place), "listen_addresses": "", "shared_buffers": "16MB"}
    port = cluster.config["cluster.port"]
    yearly = Cluster(place / "data", config=config, store=place / "backups", port=port, settings=settings)
    with Agent(yearly, allow_ephemeral=True) as agent:
        _until("it is planned", lambda: any(job.next_at is not None for job in agent.status().jobs.values()), 60)
        status = call(agent, "status")
        job = status.jobs["dump"]
        assert isinstance(job, JobStatus) and job.next_at is not None and job.next_at > datetime.now(timezone.utc)
        assert (job.last, job.running_since, job.last_success_at, job.failures) == (None, None, None, 0)
        # As every other process is told of them.
        others = yearly.status().to_dict()["agent"]["jobs"]["dump"]
        assert job.to_dict() == others and job.schedule == others["schedule"]
        assert status.recovery is None


def test_a_run_and_a_recovery_have_pythons_own_types() -> None:
    moment = "2026-01-14T10:30:00.123456789Z"
    last = {
        "planned": moment,
        "started_at": moment,
        "duration_s": 1.5,
        "attempt": 2,
        "outcome": "failure",
        "summary": "no",
    }
    job = {
        "schedule": None,
        "running_since": moment,
        "next_at": None,
        "last": last,
        "last_success_at": None,
        "failures": 2,
    }
    recovery = {"from": "0/10", "replayed": "0/20", "end": None, "bytes_per_s": 8.5, "eta_s": 3.0, "elapsed_s": 2.0}
    status = AgentStatus._of({"phase": "recovering", "recovery": recovery, "jobs": {"dump": job}})
    assert status.recovery is not None and (status.recovery.begin, status.recovery.replayed) == ("0/10", "0/20")
    assert (status.recovery.eta, status.recovery.elapsed) == (timedelta(seconds=3), timedelta(seconds=2))
    assert status.recovery.to_dict() == recovery
    run = status.jobs["dump"].last
    assert run is not None and (run.outcome, run.attempt) == (JobOutcome.FAILURE, 2)
    assert run.duration == timedelta(seconds=1.5) and run.started_at.tzinfo is not None


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
