"""A cluster beside a FastAPI or Starlette application: ``FastAPI(lifespan=pgpersist.fastapi.lifespan(cluster))``.

All but :func:`health_router` needs Starlette alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Union

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Route

from pgpersist._cluster import Cluster
from pgpersist._config import Config
from pgpersist._database_url import database_url, database_url_async
from pgpersist._health import HealthCheck
from pgpersist._probes import PAGES, Probes
from pgpersist._seconds import Seconds, seconds
from pgpersist._supervision import OnExit, Supervision
from pgpersist.asgi import checked_prefix, sent

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from fastapi import APIRouter

__all__ = [
    "Lifespan",
    "OnExit",
    "database_url",
    "database_url_async",
    "health_router",
    "health_routes",
    "lifespan",
    "ready_cluster",
    "ready_within",
]

#: An application's own lifespan, as FastAPI and Starlette take it.
InnerLifespan = Callable[[Any], "AbstractAsyncContextManager[Any]"]

#: How many seconds a request waits for the server, and when one that waited in vain should come again.
_PATIENCE, _COME_AGAIN = 5.0, 1


class Lifespan:
    """What :func:`lifespan` makes: called with the application, it is a context manager that has a server.

    Attributes:
        cluster: the cluster.
        supervision: this worker's part in its life.
    """

    def __init__(self, supervision: Supervision, inner: Optional[InnerLifespan]) -> None:
        self.cluster = supervision.cluster
        self.supervision = supervision
        self._inner = inner

    @contextlib.asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[Any]:
        """The application's life, with its cluster; below it that of ``inner``, whose state is passed on."""
        async with self.supervision:
            app.state.pgpersist = self
            if self._inner is None:
                yield None
            else:
                async with self._inner(app) as state:
                    yield state

    async def ready(self) -> Cluster:
        """As :func:`ready_cluster`, for where the application is not at hand: ``Depends(life.ready)``."""
        return await _ready(self, _PATIENCE)

    def url(self, database: Optional[str] = None, *, driver: Optional[str] = None) -> str:
        """As :func:`database_url`."""
        return database_url(self.cluster, database, driver=driver)

    async def url_async(self, database: Optional[str] = None, *, driver: Optional[str] = None) -> str:
        """As :meth:`url`."""
        return await database_url_async(self.cluster, database, driver=driver)


def lifespan(
    cluster_or_config: Union[Cluster, Config, None] = None,
    *,
    inner: Optional[InnerLifespan] = None,
    attach_only: bool = False,
    wait: bool = True,
    on_exit: OnExit = "stop",
    ready_timeout: Seconds = 600,
    stop_timeout: Seconds = 60,
    allow_ephemeral: bool = False,
    trust_stale_pid: bool = False,
    checks: Sequence[HealthCheck] = (),
) -> Lifespan:
    """A lifespan for FastAPI or Starlette: the cluster is up before the application serves, and is left when it has
    served.

    With several workers one of them owns the cluster and the others use it; the server stops when the last worker on
    this machine leaves. All that, and the other arguments: :class:`pgpersist.asgi.Supervision`. Under uvicorn, a
    server that cannot be had ends the process with exit code 3, and the error with its remedy is the last line of
    what it logs. A supervisor of several workers may begin those anew for ever; that is its way with whatever fails.

    Args:
        cluster_or_config: the cluster, or a configuration of one; by default what the command line would use here.
        inner: the application's own lifespan, entered when the server is up, and left before it goes.
        attach_only: never own it: use the server that somebody else runs.
        wait: whether the application's start waits until the server accepts connections.
        on_exit: ``stop`` or ``detach``.
        ready_timeout: how long the start waits, in seconds.
        stop_timeout: how long a clean shutdown may take before an immediate one follows, in seconds.
        allow_ephemeral: accept a place that does not survive this machine.
        trust_stale_pid: a left ``postmaster.pid`` is stale although nothing proves it.
        checks: your own questions, asked beside the library's by the cluster's agent and by :func:`health_router`.
    """
    if inner is not None and not callable(inner):
        raise TypeError(f"inner is called with the application, and a {type(inner).__name__} cannot be called")
    supervision = Supervision(
        _cluster_of(cluster_or_config),
        attach_only=attach_only,
        wait=wait,
        on_exit=on_exit,
        ready_timeout=ready_timeout,
        stop_timeout=stop_timeout,
        allow_ephemeral=allow_ephemeral,
        trust_stale_pid=trust_stale_pid,
        checks=checks,
    )
    return Lifespan(supervision, inner)


def health_router(
    cluster: Union[Cluster, Lifespan],
    *,
    prefix: str = "",
    token: Union[str, Path, None] = None,
    open_details: bool = False,
    checks: Sequence[HealthCheck] = (),
    tables: Sequence[str] = (),
) -> APIRouter:
    """A router for FastAPI with ``/livez``, ``/readyz``, ``/startupz``, ``/health`` and ``/metrics``, in no schema.

    What they answer, and the arguments: :class:`pgpersist.asgi.HealthApp`. Give it the lifespan, which knows more
    than the cluster: what this worker could not do, and what its agent does at this moment.
    """
    from fastapi import APIRouter

    router = APIRouter(include_in_schema=False)
    routes = health_routes(cluster, prefix=prefix, token=token, open_details=open_details, checks=checks, tables=tables)
    router.routes.extend(routes)
    return router


def health_routes(
    cluster: Union[Cluster, Lifespan],
    *,
    prefix: str = "",
    token: Union[str, Path, None] = None,
    open_details: bool = False,
    checks: Sequence[HealthCheck] = (),
    tables: Sequence[str] = (),
) -> list[BaseRoute]:
    """The same for Starlette: ``Starlette(routes=[*health_routes(life), …])``."""
    known = cluster.supervision if isinstance(cluster, Lifespan) else cluster
    probes = Probes(known, token=token, open_details=open_details, checks=checks, tables=tables)
    prefix = checked_prefix(prefix)
    return [
        Route(f"{prefix}/{page}", _Page(probes, page), name=f"pgpersist_{page}", include_in_schema=False)
        for page in PAGES
    ]


class _Page:
    """One page, as an ASGI application."""

    def __init__(self, probes: Probes, page: str) -> None:
        self._probes = probes
        self._page = page

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await sent(await self._probes.answer(self._page, scope["method"], scope["headers"]), scope, send)


async def ready_cluster(connection: HTTPConnection) -> Cluster:
    """A dependency: the cluster, when its server answers; waits for it up to five seconds.

    It is asked once a second at most, however many requests come. A server that dies after that fails the request's own
    statements: see the documentation for how to answer 503 then.

    Raises:
        HTTPException: 503 with ``Retry-After``, when it does not answer in time.
    """
    return await _ready(_lifespan_of(connection), _PATIENCE)


def ready_within(timeout: Seconds) -> Callable[[HTTPConnection], Awaitable[Cluster]]:
    """As :func:`ready_cluster`, with another patience: ``Depends(ready_within(0))`` does not wait at all."""
    patience = seconds(timeout, "timeout")

    async def ready(connection: HTTPConnection) -> Cluster:
        return await _ready(_lifespan_of(connection), patience)

    return ready


async def _ready(life: Lifespan, patience: float) -> Cluster:
    look = await life.supervision.readiness.wait(patience)
    if look.obstacle is None:
        return life.cluster
    # Why is for those who may see details.
    raise HTTPException(503, "the database is not ready", headers={"Retry-After": str(_COME_AGAIN)})


def _lifespan_of(connection: HTTPConnection) -> Lifespan:
    life = getattr(connection.app.state, "pgpersist", None)
    if isinstance(life, Lifespan):
        return life
    raise RuntimeError(
        "this application has no `lifespan=pgpersist.fastapi.lifespan(…)`, or is mounted in one that has: "
        "depend on that lifespan's own `ready` instead"
    )


def _cluster_of(given: Union[Cluster, Config, None]) -> Cluster:
    if isinstance(given, Cluster):
        return given
    if given is None or isinstance(given, Config):
        return Cluster(config=Config() if given is None else given)
    raise TypeError(f"cluster_or_config is a pgpersist.Cluster or a pgpersist.Config, not a {type(given).__name__}")
