"""The applications that tests serve with uvicorn; what they are made of is in the environment."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from starlette.applications import Starlette

from pgpersist import Cluster
from pgpersist.asgi import HealthApp, Supervision, with_cluster
from pgpersist.fastapi import health_router, health_routes, lifespan, ready_cluster, ready_within

_given = json.loads(os.environ["SERVED"])
TOKEN = "hunter2"


def cluster() -> Cluster:
    return Cluster(
        _given["data_directory"],
        port=_given["port"],
        settings={
            "unix_socket_directories": _given["socket_directory"],
            "listen_addresses": "",
            "shared_buffers": "16MB",
        },
    )


def fastapi_app() -> FastAPI:
    life = lifespan(cluster(), allow_ephemeral=True, **_given["options"])
    app = FastAPI(lifespan=life)
    app.include_router(health_router(life, token=TOKEN))

    @app.get("/waits")
    async def waits(cluster: Annotated[Cluster, Depends(ready_cluster)]) -> dict[str, str]:
        return {"name": cluster.name, "url": await life.url_async("shop", driver="psycopg")}

    @app.get("/does-not-wait", dependencies=[Depends(ready_within(0))])
    async def does_not_wait() -> dict[str, int]:
        return {"pid": os.getpid()}

    return app


def starlette_app() -> Starlette:
    told: list[str] = []

    @contextlib.asynccontextmanager
    async def own(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        told.append((await life.cluster.status_async()).state.value)
        yield {"told": told}

    life = lifespan(cluster(), inner=own, allow_ephemeral=True, **_given["options"])
    return Starlette(routes=health_routes(life, prefix="/internal", open_details=True), lifespan=life)


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise ValueError("Django says so, too")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


def plain_app() -> Any:
    supervision = Supervision(cluster(), allow_ephemeral=True, **_given["options"])
    return with_cluster(_hello, supervision, health=HealthApp(supervision, token=TOKEN))
