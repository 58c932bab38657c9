"""The fixtures with each driver: psycopg 3, asyncpg, SQLAlchemy in both its ways. These tests use the plugin itself."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from pgpersist.pytest_plugin import factories


def _create(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE invoice (id bigserial PRIMARY KEY, customer text NOT NULL)")


socket_cluster = factories.cluster(load=[_create], name="drivers")
socket_database = factories.database("socket_cluster")
tcp_cluster = factories.cluster(load=[_create], name="drivers", tcp=True)
tcp_database = factories.database("tcp_cluster")
module_database = factories.database("socket_cluster", scope="module")
connection = factories.connection("socket_database", autocommit=True)


@pytest.fixture(params=["socket", "tcp"])
def database(request: pytest.FixtureRequest) -> Any:
    """A database behind a socket, or behind a port with a password."""
    return request.getfixturevalue(f"{request.param}_database")


def test_psycopg(database: Any) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("INSERT INTO invoice (customer) VALUES ('a')")
        assert connection.execute("SELECT count(*) FROM invoice").fetchone() == (1,)
    with database.connect(autocommit=True) as connection:
        assert connection.info.dbname == database.name and connection.autocommit


def test_asyncpg(database: Any) -> None:
    async def ask() -> Any:
        connection = await asyncpg.connect(database.url)
        try:
            await connection.execute("INSERT INTO invoice (customer) VALUES ($1)", "a")
            return await connection.fetchval("SELECT count(*) FROM invoice")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == 1


def test_sqlalchemy(database: Any) -> None:
    engine = sqlalchemy.create_engine(database.sqlalchemy_url())
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO invoice (customer) VALUES ('a')"))
        assert connection.scalar(sqlalchemy.text("SELECT count(*) FROM invoice")) == 1
    engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_asynchronous_sqlalchemy(database: Any, driver: str) -> None:
    async def ask() -> Any:
        engine = create_async_engine(database.sqlalchemy_url(driver))
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text("INSERT INTO invoice (customer) VALUES ('a')"))
            count = await connection.scalar(sqlalchemy.text("SELECT count(*) FROM invoice"))
        await engine.dispose()
        return count

    assert asyncio.run(ask()) == 1


def test_a_connection_has_its_options(connection: psycopg.Connection[Any]) -> None:
    assert connection.autocommit
    assert connection.execute("SELECT count(*) FROM invoice").fetchone() == (0,)


@pytest.mark.parametrize("number", [0, 1])
def test_a_modules_database_stays(module_database: Any, number: int) -> None:
    assert module_database.query("SELECT count(*) FROM invoice") == [[str(number)]]
    module_database.execute("INSERT INTO invoice (customer) VALUES ('a')")
