"""``Cluster``: its life, its dumps, its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import psycopg
import pytest

import pgpersist
from pgpersist import Cluster, ServerState

Call = Callable[..., Any]


def _execute(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else None


def test_the_story_of_a_cluster(cluster: Cluster, call: Call, place: Path) -> None:
    assert call(cluster, "status").state is ServerState.ABSENT
    assert call(cluster, "plan_init", allow_ephemeral=True).action == "create"
    made = call(cluster, "init", allow_ephemeral=True)
    assert (made.action, made.databases_created, made.data_directory) == ("created", ("shop",), place / "data")
    started = call(cluster, "start", timeout=timedelta(seconds=30))
    assert started.changed and started.state is ServerState.RUNNING and started.duration > timedelta()
    assert not call(cluster, "start").changed
    url = call(cluster, "url", "shop")
    _execute(url, "CREATE TABLE orders AS SELECT generate_series(1, 100) AS id")

    before = datetime.now(timezone.utc)
    dumped = call(cluster, "dump")
    (dump,) = dumped.dumps
    assert dict(dump.tables) == {"public.orders": 100} and dump.database == "shop"
    assert abs(dump.started_at - before) < timedelta(minutes=1) and dump.started_at.tzinfo is not None
    assert [entry.name for entry in call(cluster, "dumps")] == [dump.name]
    assert call(cluster, "find_dump").to_dict()["side_file"]["tables"] == {"public.orders": 100}
    assert call(cluster, "verify").is_good

    _execute(url, "DELETE FROM orders")
    with pytest.raises(pgpersist.ConflictError):
        call(cluster, "load")
    loaded = call(cluster, "load", clean=True, disconnect=True)
    assert loaded.verified and loaded.kept_aside and loaded.tables["public.orders"] == 100
    assert _execute(url, "SELECT count(*) FROM orders") == [(100,)]

    plan = call(cluster, "plan_prune", keep_last=1)
    assert dump.name in [kept.name for kept in plan.kept] and not plan.dropped
    assert call(cluster, "prune", keep_last=1).freed_bytes == 0

    fenced = call(cluster, "fence", "a look")
    assert fenced.changed and fenced.state is ServerState.STOPPED
    with pytest.raises(pgpersist.UnsafeError, match="a look"):
        call(cluster, "start")
    assert call(cluster, "unfence").changed
    assert call(cluster, "restart").state is ServerState.RUNNING
    assert call(cluster, "stop", timeout=10).changed
    assert not call(cluster, "stop").changed


def test_results_are_frozen_values(cluster: Cluster) -> None:
    report = cluster.init(allow_ephemeral=True)
    with pytest.raises(AttributeError):
        report.action = "other"  # type: ignore[misc]
    document = report.to_dict()
    assert json.loads(json.dumps(document)) == document and document["action"] == "created"
    document["action"] = "other"
    assert report.to_dict()["action"] == "created"


def test_progress_is_told_and_its_exception_cancels(cluster: Cluster, place: Path) -> None:
    steps: list[pgpersist.ProgressEvent] = []
    cluster.init(allow_ephemeral=True, progress=steps.append)
    assert any(isinstance(event, pgpersist.Step) for event in steps)
    cluster.start()

    class Enough(Exception):
        pass

    def enough(_event: pgpersist.ProgressEvent) -> None:
        raise Enough("seen enough")

    with pytest.raises(Enough, match="seen enough"):
        cluster.dump(progress=enough)
    assert cluster.dumps() == [] and not [path for path in (place / "backups").rglob("*") if path.suffix == ".gz"]


def test_events_can_be_iterated_over(cluster: Cluster) -> None:
    import asyncio
    import threading

    events = pgpersist.ProgressEvents()
    seen: list[pgpersist.ProgressEvent] = []
    reader = threading.Thread(target=lambda: seen.extend(events))
    reader.start()
    cluster.init(allow_ephemeral=True, progress=events)
    reader.join(timeout=10)
    assert not reader.is_alive() and seen

    async def both() -> list[pgpersist.ProgressEvent]:
        await cluster.start_async()
        events = pgpersist.ProgressEvents()
        dumping = asyncio.ensure_future(cluster.dump_async(progress=events))
        seen = [event async for event in events]
        await dumping
        return seen

    assert any(isinstance(event, pgpersist.Step) for event in asyncio.run(both()))


def test_a_cluster_is_moved(cluster: Cluster, call: Call, place: Path) -> None:
    cluster.init(allow_ephemeral=True)
    moved = Cluster(place / "moved", config=cluster.config)
    plan = call(moved, "plan_migrate", place / "data")
    assert plan.files > 100 and plan.consent_to is None
    report = call(moved, "migrate", place / "data")
    assert report.changed and report.files == plan.files and (place / "moved" / "PG_VERSION").exists()


def test_unsafe_places_and_wrong_values_are_refused(cluster: Cluster) -> None:
    with pytest.raises(pgpersist.UnsafeError) as caught:
        Cluster("/dev/shm/pgpersist-absent", settings={}).init()
    assert caught.value.remedy
    with pytest.raises(pgpersist.InvalidError, match="cluster.port") as invalid:
        Cluster(port=70_000)
    assert isinstance(invalid.value, ValueError)
    with pytest.raises(TypeError, match="no rule of retention"):
        cluster.plan_prune(keep_forever=1)
    with pytest.raises(TypeError, match="databases is a list"):
        Cluster(databases="shop")
    with pytest.raises(pgpersist.InvalidError, match="no data directory is named"):
        Cluster().status()
    with pytest.raises(pgpersist.NotFoundError):
        cluster.find_dump("absent.sql.gz")


def test_the_server_runs_on_without_us(cluster: Cluster) -> None:
    config = json.dumps({"directory": str(cluster.data_directory), "port": cluster.config["cluster.port"]})
    program = (
        "import json, sys, pgpersist\n"
        "given = json.loads(sys.argv[1])\n"
        "cluster = pgpersist.Cluster(given['directory'], port=given['port'],\n"
        "    settings={'unix_socket_directories': sys.argv[2], 'listen_addresses': ''})\n"
        "cluster.init(allow_ephemeral=True)\n"
        "print(cluster.start().pid)\n"
    )
    assert cluster.data_directory is not None
    arguments = [sys.executable, "-c", program, config, str(cluster.data_directory.parent)]
    pid = int(subprocess.run(arguments, check=True, capture_output=True, text=True, env=os.environ).stdout)
    assert cluster.status().pid == pid
