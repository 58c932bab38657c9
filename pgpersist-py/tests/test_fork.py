"""Children that are forked from a process with clusters, and live on: none of these is theirs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

import pytest

from pgpersist import Agent, Cluster, ConflictError, ServerState
from pgpersist._worker_group import WorkerGroup
from support.serving import eventually, free_port

#: What each program begins with. `fork` is that of Python, or that of C, which asks no hooks.
_BEGIN = """
    import ctypes, os, signal, sys, pgpersist

    def fork(kind="python"):
        if kind == "c":
            # With the GIL, and nothing of Python's afterwards: its threads are not there.
            libc = ctypes.PyDLL(None)
            child = libc.fork()
            while child == 0:
                libc.pause()
            return child
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, b"x")
            while True:
                signal.pause()
        os.read(reading, 1)
        return child
"""


def _program(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(_BEGIN) + textwrap.dedent(text), *arguments]


@contextlib.contextmanager
def _running(text: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A program that has said one line, whose last word is its child's process; both are ended here."""
    child: Optional[int] = None
    with subprocess.Popen(_program(text, *arguments), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            words = run.stdout.readline().split()
            assert words, "it said nothing"
            child = int(words[-1])
            yield run, words[:-1]
        finally:
            run.kill()
            if child is not None:
                os.kill(child, signal.SIGKILL)


@pytest.fixture
def make(place: Path) -> Iterator[Callable[[], Cluster]]:
    """The same cluster each time; its server is stopped at the end."""
    port = free_port()

    def cluster() -> Cluster:
        settings = {"unix_socket_directories": str(place), "listen_addresses": "", "shared_buffers": "16MB"}
        return Cluster(place / "data", databases=["shop"], port=port, settings=settings)

    try:
        yield cluster
    finally:
        if cluster().status().pid is not None:
            cluster().stop(timeout=20)


@pytest.mark.parametrize("kind", ["python", "c"])
def test_an_agent_that_has_stopped_is_no_longer_in_the_way(place: Path, kind: str) -> None:
    program = """
        place, port, http, kind = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
        config = pgpersist.Config.from_dict({"health": {"listen": f"127.0.0.1:{http}"}})
        settings = {"unix_socket_directories": place, "listen_addresses": "", "shared_buffers": "16MB"}

        def agent():
            cluster = pgpersist.Cluster(f"{place}/data", config=config, port=port, settings=settings)
            return pgpersist.Agent(cluster, allow_ephemeral=True)

        with agent() as first:
            child = fork(kind)
        try:
            assert first.cluster.status().state is pgpersist.ServerState.STOPPED
            with agent() as second:
                assert second.status().phase is pgpersist.AgentPhase.READY
                second.cluster.status()
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child lives"
        finally:
            os.kill(child, signal.SIGKILL)
        print("well")
    """
    command = _program(program, str(place), str(free_port()), str(free_port()), kind)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (0, "well\n"), ended.stderr


def test_the_claim_of_a_killed_process_is_free_though_its_child_lives(make: Callable[[], Cluster]) -> None:
    program = """
        cluster = pgpersist.Cluster(sys.argv[1], databases=["shop"], port=int(sys.argv[2]),
            settings={"unix_socket_directories": sys.argv[3], "listen_addresses": "", "shared_buffers": "16MB"})
        agent = pgpersist.Agent(cluster, allow_ephemeral=True).start()
        print(agent.status().pid, fork(), flush=True)
        sys.stdin.read()
    """
    cluster = make()
    assert cluster.data_directory is not None
    arguments = [str(cluster.data_directory), str(cluster.config["cluster.port"]), str(cluster.data_directory.parent)]
    with _running(program, *arguments) as (run, (server,)):
        with pytest.raises(ConflictError):
            Agent(cluster, allow_ephemeral=True).start()
        run.kill()
        run.wait()
        with Agent(cluster, allow_ephemeral=True) as agent:
            assert agent.status().pid == int(server), "it is adopted"
    assert cluster.status().state is ServerState.STOPPED


def test_a_temporary_cluster_goes_with_the_process_that_made_it_though_its_child_lives() -> None:
    program = """
        cluster = pgpersist.TemporaryCluster().start()
        print(cluster.folder, fork(), flush=True)
        sys.stdin.read()
    """
    with _running(program) as (run, (folder,)):
        assert Path(folder).is_dir()
        run.kill()
        eventually(lambda: not Path(folder).exists(), "the undertaker has removed it")


def test_a_temporary_cluster_is_stopped_though_a_child_lives() -> None:
    program = """
        cluster = pgpersist.TemporaryCluster().start()
        folder, child = cluster.folder, fork()
        try:
            cluster.stop()
            assert not folder.exists()
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child lives"
        finally:
            os.kill(child, signal.SIGKILL)
        print("well")
    """
    ended = subprocess.run(_program(program), capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (0, "well\n"), ended.stderr


def test_a_worker_that_is_killed_is_gone_though_its_child_lives(tmp_path: Path) -> None:
    program = """
        from pgpersist._worker_group import WorkerGroup
        group = WorkerGroup(sys.argv[1])
        group.join()
        assert group.lease.take()
        print("in", fork(), flush=True)
        sys.stdin.read()
    """
    group = WorkerGroup(tmp_path)
    with _running(program, str(tmp_path)) as (run, _):
        assert group.lease.is_taken and not group.leave()
        run.kill()
        run.wait()
        assert eventually(lambda: not group.lease.is_taken) and group.leave()
