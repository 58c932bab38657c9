"""The application: its cluster, its routes, its health."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from customer_invoice import customers, orders
from customer_invoice.cluster import open_cluster
from customer_invoice.database import Database
from customer_invoice.migrate import migrate
from customer_invoice.unavailable import answer_when_away
from pgpersist.fastapi import health_router, lifespan, ready_within


def create_app(url: str | None = None) -> FastAPI:
    """The application with its own cluster; or on a database, ``postgresql+psycopg://…``, as for tests."""

    @asynccontextmanager
    async def with_database(app: FastAPI) -> AsyncIterator[None]:
        where = url or await life.url_async(driver="psycopg")
        await asyncio.to_thread(migrate, where)
        app.state.database = Database(where)
        try:
            yield
        finally:
            await app.state.database.close()

    if url is None:
        is_trial = os.environ.get("ALLOW_EPHEMERAL") == "1"
        life = lifespan(open_cluster(), inner=with_database, allow_ephemeral=is_trial)
        app = FastAPI(title="customerInvoice", lifespan=life)
        app.include_router(health_router(life))
        dependencies = [Depends(ready_within(2))]
    else:
        app = FastAPI(title="customerInvoice", lifespan=with_database)
        dependencies = []
    app.include_router(customers.router, dependencies=dependencies)
    app.include_router(orders.router, dependencies=dependencies)
    answer_when_away(app)
    return app
