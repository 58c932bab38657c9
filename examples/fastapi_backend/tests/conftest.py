"""The tests' database is what the migrations make; each test has a copy of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from customer_invoice.app import create_app
from customer_invoice.migrate import migrate

#: How many kills the whole story of `crash_test.py` has among the tests.
KILLS = int(os.environ.get("CRASH_TEST_KILLS", "2"))


def with_driver(url: str) -> str:
    """A URL as SQLAlchemy reads it."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def migrated(url: str) -> None:
    """Makes the schema in an empty database."""
    migrate(with_driver(url))


@pytest.fixture(scope="session")
def pg_load() -> Callable[..., Any]:
    """What pgpersist's plugin makes the template with."""
    return migrated


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application on this database, in this process."""
    app = create_app(with_driver(url))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
