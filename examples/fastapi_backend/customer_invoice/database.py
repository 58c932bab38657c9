"""Transactions on the application's database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine


class Database:
    """A pool of connections.

    Args:
        url: ``postgresql+psycopg://…``.
    """

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(
            url,
            # A connection that has outlived its server is found out before it is used.
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=10,
            pool_timeout=5,
            connect_args={
                "connect_timeout": 5,
                "application_name": "customer_invoice",
                "options": "-c statement_timeout=10s -c idle_in_transaction_session_timeout=30s",
            },
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction: at the end of the block it is committed, and durable. An exception rolls it back."""
        async with self._sessions.begin() as session:
            yield session

    async def close(self) -> None:
        """Closes its connections."""
        await self._engine.dispose()


def database(request: Request) -> Database:
    """The application's."""
    found = request.app.state.database
    assert isinstance(found, Database)
    return found


#: As a parameter of an endpoint.
TheDatabase = Annotated[Database, Depends(database)]
