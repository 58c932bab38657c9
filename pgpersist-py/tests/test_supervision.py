"""``Supervision``: a cluster's life in one worker, and what others do with the cluster meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pgpersist
from pgpersist import Cluster, ServerState
from pgpersist.asgi import Supervision, database_url, with_cluster
from support.serving import PATIENCE, free_port


@pytest.fixture
def cluster(place: Path) -> Iterator[Cluster]:
    settings = {"unix_socket_directories": str(place), "listen_addresses": "", "shared_buffers": "16MB"}
    cluster = Cluster(place / "data", databases=["shop"], port=free_port(), settings=settings)
    try:
        yield cluster
    finally:
        if cluster.status().pid is not None:
            cluster.stop(timeout=20)


async def _until(supervision: Supervision, word: str) -> None:
    until = asyncio.get_running_loop().time() + PATIENCE
    while (await supervision.readiness.look()).word != word:
        assert asyncio.get_running_loop().time() < until, f"never {word}: {await supervision.readiness.look()}"
        await asyncio.sleep(0.02)


def test_two_in_turn_and_at_once(cluster: Cluster) -> None:
    async def story() -> None:
        first, second = (Supervision(cluster, allow_ephemeral=True) for _ in range(2))
        async with first:
            assert first.is_owner and first.has_started
            async with second:
                assert not second.is_owner and second.has_started and second.failure is None
                pid = (await cluster.status_async()).pid
            # The one that has left was not the last.
            assert (await cluster.status_async()).pid == pid
            with pytest.raises(RuntimeError, match="entered already"):
                await first.__aenter__()
        assert (await cluster.status_async()).state is ServerState.STOPPED
        async with first:
            assert first.is_owner

    asyncio.run(story())
    assert cluster.status().state is ServerState.STOPPED


def test_the_last_one_stops_the_server_of_an_owner_that_left_before(cluster: Cluster) -> None:
    async def story() -> None:
        first, second = (Supervision(cluster, allow_ephemeral=True) for _ in range(2))
        await first.__aenter__()
        await second.__aenter__()
        assert first.is_owner
        await first.__aexit__(None, None, None)
        assert (await cluster.status_async()).state is ServerState.RUNNING
        await second.__aexit__(None, None, None)
        assert (await cluster.status_async()).state is ServerState.STOPPED

    asyncio.run(story())


def test_a_server_that_somebody_has_shut_down_stays_down_until_somebody_starts_it(cluster: Cluster) -> None:
    async def story() -> None:
        async with Supervision(cluster, allow_ephemeral=True) as supervision:
            assert (await cluster.stop_async(timeout=20)).changed
            await _until(supervision, "stopped")
            await asyncio.sleep(2.5)
            assert (await cluster.status_async()).state is ServerState.STOPPED
            pid = (await cluster.start_async()).pid
            await _until(supervision, "ready")
            # Owned again: its agent answers.
            while not (await cluster.status_async()).to_dict()["agent"]:
                await asyncio.sleep(0.02)
            assert supervision.is_owner and (await cluster.status_async()).pid == pid

    asyncio.run(asyncio.wait_for(story(), PATIENCE))
    assert cluster.status().state is ServerState.STOPPED


def test_a_fence_keeps_it_down_and_is_told(cluster: Cluster) -> None:
    async def story() -> None:
        async with Supervision(cluster, allow_ephemeral=True) as supervision:
            await cluster.fence_async("a look at the files")
            await _until(supervision, "fenced")
            await cluster.unfence_async()
            await _until(supervision, "ready")
        await cluster.fence_async("again")
        async with Supervision(cluster, allow_ephemeral=True, wait=False) as supervision:
            await _until(supervision, "fenced")
            while not supervision.has_started:
                await asyncio.sleep(0.02)
            await cluster.unfence_async()
            await _until(supervision, "ready")

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


def test_attaching_only_neither_starts_nor_stops(cluster: Cluster) -> None:
    async def story() -> None:
        with pytest.raises(pgpersist.DeadlineError, match=r"not ready within 0\.3 s"):
            async with Supervision(cluster, attach_only=True, ready_timeout=0.3):
                raise AssertionError("there is no server")
        await cluster.init_async(allow_ephemeral=True)
        pid = (await cluster.start_async()).pid
        async with Supervision(cluster, attach_only=True) as supervision:
            assert not supervision.is_owner and supervision.has_started
        status = await cluster.status_async()
        assert (status.state, status.pid) == (ServerState.RUNNING, pid)

    asyncio.run(story())


def test_somebody_elses_agent_keeps_its_server(cluster: Cluster) -> None:
    with pgpersist.Agent(cluster, allow_ephemeral=True):

        async def story() -> None:
            async with Supervision(cluster) as supervision:
                assert not supervision.is_owner and supervision.has_started

        asyncio.run(story())
        assert cluster.status().state is ServerState.RUNNING


def test_a_failed_start_leaves_nothing_and_can_be_repeated(cluster: Cluster) -> None:
    assert cluster.data_directory is not None
    cluster.data_directory.mkdir()
    (cluster.data_directory / "thesis.txt").write_text("nobody touches this")
    supervision = Supervision(cluster, allow_ephemeral=True)

    async def enter() -> None:
        async with supervision:
            assert supervision.is_owner

    for _ in range(2):
        with pytest.raises(pgpersist.PgPersistError, match=r"thesis\.txt"):
            asyncio.run(enter())
        assert not supervision.is_entered and supervision.failure is not None
    shutil.rmtree(cluster.data_directory)
    asyncio.run(enter())
    assert supervision.failure is None


def test_a_cancelled_start_stops_what_it_began(cluster: Cluster) -> None:
    supervision = Supervision(cluster, allow_ephemeral=True)

    async def story() -> None:
        entering = asyncio.ensure_future(supervision.__aenter__())
        while not supervision.is_owner:
            await asyncio.sleep(0.01)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(story())
    assert not supervision.is_owner and cluster.status().pid is None


def test_wrong_arguments_are_told_by_their_names(cluster: Cluster) -> None:
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "on_exit", {"on_exit": "remove"}),
        (TypeError, "ready_timeout", {"ready_timeout": "long"}),
        (TypeError, "stop_timeout", {"stop_timeout": None}),
    ]
    for kind, name, options in wrong:
        with pytest.raises(kind, match=name):
            Supervision(cluster, **options)
    with pytest.raises(TypeError, match="cluster is"):
        Supervision("/srv/app")  # type: ignore[arg-type]

    async def without_directory() -> None:
        await Supervision(Cluster()).__aenter__()

    if "PGDATA" not in os.environ:
        with pytest.raises(pgpersist.InvalidError, match="no data directory"):
            asyncio.run(without_directory())


def test_urls_are_the_configured_databases_and_name_a_driver(cluster: Cluster, place: Path) -> None:
    with pytest.raises(pgpersist.PgPersistError):
        database_url(cluster)
    cluster.init(allow_ephemeral=True)
    cluster.start()
    end = f"?host={place}&port={cluster.config['cluster.port']}"
    assert database_url(cluster).startswith("postgresql://") and database_url(cluster).endswith(f"@/shop{end}")
    assert database_url(cluster, "postgres", driver="asyncpg").startswith("postgresql+asyncpg://")
    assert database_url(cluster, "postgres").endswith(f"@/postgres{end}")


def test_an_application_with_a_lifespan_of_its_own_has_the_server_from_beginning_to_end(cluster: Cluster) -> None:
    told: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for step in ("startup", "shutdown"):
            message = await receive()
            assert message["type"] == f"lifespan.{step}"
            told.append((await cluster.status_async()).state.value)
            await send({"type": f"lifespan.{step}.complete"})

    async def serve() -> list[str]:
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> dict[str, str]:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])
            told.append(f"{message['type']}: {(await cluster.status_async()).state.value}")

        await with_cluster(application, Supervision(cluster, allow_ephemeral=True))({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(serve()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert told == ["running", "lifespan.startup.complete: running", "running", "lifespan.shutdown.complete: stopped"]
