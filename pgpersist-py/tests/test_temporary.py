"""``TemporaryCluster``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Callable

import psycopg
import pytest

import pgpersist
from pgpersist import TemporaryCluster


def _ask(url: str, sql: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(sql.encode()).fetchone()
        assert row is not None
        return row[0]


def test_a_cluster_answers_and_is_gone_with_its_block() -> None:
    with TemporaryCluster(databases=["shop"]) as cluster:
        assert _ask(cluster.url("shop"), "SELECT current_database()") == "shop"
        assert cluster.version.startswith(_ask(cluster.url(), "SHOW server_version").split(" ")[0])
        folder = cluster.folder
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="was stopped"):
        cluster.url()
    cluster.stop()


def test_every_operation_has_two_faces(call: Callable[..., Any]) -> None:
    cluster = TemporaryCluster(durable=True)
    call(cluster, "start")
    try:
        url = call(cluster, "create_database", "shop")
        call(cluster, "execute", "CREATE TABLE t AS SELECT 7 AS a", database="shop")
        assert _ask(url, "SELECT a FROM t") == 7
        copied = call(cluster, "create_database", "copy", template="shop")
        call(cluster, "kill9")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        call(cluster, "restart")
        assert (_ask(url, "SELECT a FROM t"), _ask(copied, "SELECT a FROM t")) == (7, 7)
    finally:
        call(cluster, "stop")


def test_settings_have_pythons_types_and_tcp_has_a_password() -> None:
    with TemporaryCluster(
        tcp=True, settings={"work_mem": "3MB", "max_connections": 20, "log_checkpoints": False}
    ) as cluster:
        assert _ask(cluster.url(), "SHOW work_mem") == "3MB"
        assert _ask(cluster.url(), "SHOW max_connections") == "20"
        assert _ask(cluster.url(), "SHOW log_checkpoints") == "off"
        assert cluster.password and cluster.password in cluster.url() and cluster.password not in repr(cluster)


def test_what_is_kept_stays(place: Path) -> None:
    cluster = TemporaryCluster(parent=place).start()
    folder = cluster.keep()
    assert (folder / "data" / "PG_VERSION").exists()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="databases is a list"):
        TemporaryCluster(databases="shop")
    with pytest.raises(TypeError, match="timeout is a timedelta or a number"):
        TemporaryCluster(timeout="soon").start()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout is 0"):
        TemporaryCluster(timeout=0).start()
    with pytest.raises(RuntimeError, match="not started"):
        TemporaryCluster().url()


def test_errors_tell_class_cause_and_remedy(place: Path) -> None:
    with pytest.raises(pgpersist.NotFoundError) as caught:
        TemporaryCluster(bin_directory=place / "absent").start()
    error: pgpersist.NotFoundError = caught.value
    assert error.remedy and error.kind == "not_found" and issubclass(type(error), FileNotFoundError)
    with TemporaryCluster() as cluster, pytest.raises(pgpersist.ConflictError, match="already exists"):
        cluster.create_database("postgres")


def test_a_cluster_is_used_by_many_tasks_at_once() -> None:
    async def work() -> None:
        async with TemporaryCluster() as cluster:
            urls = await asyncio.gather(*(cluster.create_database_async(f"d{number}") for number in range(8)))
            assert len(set(urls)) == 8

    asyncio.run(work())


def test_a_cancelled_statement_is_given_up_by_the_server() -> None:
    with TemporaryCluster() as cluster:
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(600)%'"

        async def until(wanted: int) -> None:
            for _ in range(3000):
                if _ask(cluster.url(), asleep) == wanted:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError(f"{_ask(cluster.url(), asleep)} sleep, not {wanted}")

        async def cancelled() -> None:
            task = asyncio.ensure_future(cluster.execute_async("SELECT pg_sleep(600)"))
            await until(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(0)

        asyncio.run(cancelled())
