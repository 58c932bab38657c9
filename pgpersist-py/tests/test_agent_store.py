"""A store that is written in Python, in the hands of an ``Agent`` or a lifespan."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Union

import psycopg
import pytest
from starlette.applications import Starlette

from pgpersist import Agent, Cluster, Config, JobOutcome
from pgpersist.fastapi import lifespan
from support.places import free_port, new_folder
from support.stores import AsyncDictStore, DictStore

#: How long anything may take on a busy machine, in seconds.
PATIENCE = 120.0
Store = Union[DictStore, AsyncDictStore]
Make = Callable[..., Cluster]


@pytest.fixture
def make(place: Path) -> Iterator[Make]:
    """Clusters that are stopped at the end, with an encrypted store configured that nothing may be written to."""
    made: list[Cluster] = []
    passphrase = place / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)

    def cluster(name: str, store: Store, *, encrypted: bool = True, **more: Any) -> Cluster:
        settings = {"unix_socket_directories": str(place), "listen_addresses": "", "shared_buffers": "16MB"}
        configured: dict[str, Any] = {"url": str(place / "configured")}
        if encrypted:
            configured["encryption"] = {"passphrase_file": str(passphrase)}
        config = Config.from_dict({"store": [configured], **more})
        folder = new_folder(place, name)
        made.append(
            Cluster(
                folder / "data", config=config, store=store, databases=["shop"], port=free_port(), settings=settings
            )
        )
        return made[-1]

    try:
        yield cluster
        assert not (place / "configured").exists()
    finally:
        for each in made:
            if each.status().pid is not None:
                each.stop(timeout=20)


def dumps(store: Store, ending: str) -> list[str]:
    return [key for key in list(store.objects) if key.endswith(ending)]


def behind(cluster: Cluster) -> Cluster:
    """The same, when its agent was up once and has missed years since: the next one makes a dump at once."""
    assert cluster.data_directory is not None
    record = cluster.data_directory.parent / ".pgpersist" / "data" / "schedule" / "dump.json"
    with Agent(cluster, allow_ephemeral=True):
        until = time.monotonic() + PATIENCE
        while not record.exists():
            assert time.monotonic() < until, "the job is not remembered"
            time.sleep(0.05)
    remembered = json.loads(record.read_text())
    remembered["handled"] = "2024-02-08T02:30:00Z"
    record.write_text(json.dumps(remembered))
    return cluster


def test_scheduled_dumps_go_into_it_encrypted_as_the_configured_store(make: Make) -> None:
    """An agent's and a lifespan's, of plain methods and of coroutines."""
    plain, awaited = DictStore(), AsyncDictStore()
    keys: dict[str, Any] = {"dump": {"schedule": "30 2 * * *"}, "retention": {"keep_last": 2}}
    life = lifespan(behind(make("awaited", awaited, **keys)), allow_ephemeral=True)

    async def story() -> None:
        async with life(Starlette()):
            assert life.supervision.is_owner
            until = time.monotonic() + PATIENCE
            while not all(dumps(store, ".sql.gz.age") for store in (plain, awaited)):
                assert time.monotonic() < until, "no dump"
                await asyncio.sleep(0.1)
            # The agent outlives what the application awaits.
            assert awaited.loops and asyncio.get_running_loop() not in awaited.loops

    with Agent(behind(make("plain", plain, **keys)), allow_ephemeral=True) as agent:
        assert {"dump", "prune"} <= set(agent.status().jobs)
        asyncio.run(story())
        until = time.monotonic() + PATIENCE
        while agent.status().jobs["dump"].last is None:
            assert time.monotonic() < until, "the job has not ended"
            time.sleep(0.1)
        job = agent.status().jobs["dump"]
        assert job.last is not None and job.last.outcome is JobOutcome.SUCCESS and job.last_success_at is not None
    for store in (plain, awaited):
        for key in dumps(store, ".sql.gz.age"):
            assert bytes(store.objects[key][0]).startswith(b"age-encryption.org/v1\n")
        assert not dumps(store, ".sql.gz")


@pytest.mark.parametrize("kind", [DictStore, AsyncDictStore])
def test_an_agent_restores_from_it(make: Make, kind: type[Store]) -> None:
    store = kind()
    old = make("old", store)
    with Agent(old, allow_ephemeral=True):
        with psycopg.connect(old.url("shop"), autocommit=True) as connection:
            connection.execute("CREATE TABLE orders AS SELECT generate_series(1, 7) AS n")
        old.dump()
    assert dumps(store, ".sql.gz.age")
    new = make("new", store, cluster={"when_missing": "restore"})
    with Agent(new, allow_ephemeral=True), psycopg.connect(new.url("shop")) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (7,)


def test_what_is_configured_unencrypted_stays_so(make: Make) -> None:
    store = DictStore()
    cluster = make("one", store, encrypted=False)
    with Agent(cluster, allow_ephemeral=True):
        cluster.dump()
    assert dumps(store, ".sql.gz") and not dumps(store, ".age")
    assert [dump.database for dump in cluster.dumps()] == ["shop"]
