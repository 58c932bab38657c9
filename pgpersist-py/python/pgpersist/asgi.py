"""A cluster beside any ASGI application: its life is the application's, and its health is asked over HTTP.

It needs nothing but the package itself. For FastAPI and Starlette see :mod:`pgpersist.fastapi`.
"""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Union

from pgpersist._arguments import of_type
from pgpersist._cluster import Cluster
from pgpersist._database_url import database_url, database_url_async
from pgpersist._health import HealthCheck
from pgpersist._probes import PAGES, Answer, Probes
from pgpersist._supervision import OnExit, Supervision

__all__ = ["HealthApp", "OnExit", "Supervision", "database_url", "database_url_async", "with_cluster"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, Any, Any], Awaitable[Any]]


class HealthApp:
    """An ASGI application with the pages ``/livez``, ``/readyz``, ``/startupz``, ``/health`` and ``/metrics``.

    They answer as those of ``pgpersist run`` do: 200 or 503, within two seconds for the probes whatever hangs;
    however many ask, the server is asked once a second at most, and one report is made at a time. ``/livez`` tells of
    this worker alone, ``/startupz`` whether a server has been up in its life. Without the token the probes say one
    word, and ``/health`` and ``/metrics`` are refused (401): behind a proxy, everybody seems to come from this
    machine.

    Args:
        cluster: the cluster, or the :class:`Supervision` of this worker, which also tells what it could not do.
        prefix: what stands before the pages' names, such as ``/internal``.
        token: opens the details to whoever sends it as ``Authorization: Bearer``; a ``Path`` is a file that holds it.
            By default what ``[health] token_file`` of the cluster's configuration names.
        open_details: show the details to everybody; for a port that only you reach.
        checks: your own questions, which ``/health`` and ``/metrics`` tell beside the library's. Those of the
            :class:`Supervision` are asked anyway.
        tables: tables whose rows ``/health`` and ``/metrics`` count, ``orders`` or ``schema.orders``.
    """

    def __init__(
        self,
        cluster: Union[Cluster, Supervision],
        *,
        prefix: str = "",
        token: Union[str, Path, None] = None,
        open_details: bool = False,
        checks: Sequence[HealthCheck] = (),
        tables: Sequence[str] = (),
    ) -> None:
        self._probes = Probes(cluster, token=token, open_details=open_details, checks=checks, tables=tables)
        self._pages = {f"{checked_prefix(prefix)}/{page}": page for page in PAGES}

    def has(self, path: str) -> bool:
        """Whether this is one of its paths."""
        return path in self._pages

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request; another path is answered with 404."""
        if scope["type"] != "http":
            raise ValueError(f"HealthApp answers http, not {scope['type']}")
        page = self._pages.get(path_of(scope))
        if page is None:
            await sent(Answer(404, b"no such page\n"), scope, send)
            return
        await sent(await self._probes.answer(page, scope["method"], scope["headers"]), scope, send)


def with_cluster(
    app: _App,
    supervision: Supervision,
    *,
    health: Optional[HealthApp] = None,
) -> _App:
    """An ASGI application that has a cluster for as long as it lives, whatever framework it is written in.

    The server is up before the application's own start, and is left after its end. An application that knows no
    lifespan, as Django's, need not learn it.

    Args:
        app: the application.
        supervision: the cluster's life in this worker.
        health: answers its own paths before the application sees them.
    """

    if not callable(app):
        raise TypeError(f"app is an ASGI application, not a {type(app).__name__}")
    of_type(supervision, Supervision, "supervision")
    if health is not None:
        of_type(health, HealthApp, "health")

    async def served(scope: Any, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _live(app, supervision, scope, receive, send)
        elif health is not None and scope["type"] == "http" and health.has(path_of(scope)):
            await health(scope, receive, send)
        else:
            await app(scope, receive, send)

    return served


async def _live(app: _App, supervision: Supervision, scope: Any, receive: _Receive, send: _Send) -> None:
    startup = await receive()
    try:
        await supervision.__aenter__()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
        return
    last: Optional[_Message] = None
    try:
        last = await _through(app, scope, startup, receive, send)
    finally:
        await supervision.__aexit__(None, None, None)
    if last is not None:
        await send(last)


async def _through(app: _App, scope: Any, startup: _Message, receive: _Receive, send: _Send) -> Optional[_Message]:
    """Leads the application through its own lifespan; its last word is returned, and said when the cluster is left."""
    asked = 0
    answered: list[_Message] = []

    async def next_message() -> _Message:
        nonlocal asked
        asked += 1
        return startup if asked == 1 else await receive()

    async def answer(message: _Message) -> None:
        answered.append(message)
        if message["type"].startswith("lifespan.startup."):
            await send(message)

    try:
        await app(scope, next_message, answer)
    except Exception:
        if answered:
            raise
        # It knows no lifespan: that is how an application says so.
    if not answered:
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return {"type": "lifespan.shutdown.complete"}
    return answered[-1] if answered[-1]["type"].startswith("lifespan.shutdown.") else None


async def sent(answer: Answer, scope: Any, send: _Send) -> None:
    """Sends an answer."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


def path_of(scope: Any) -> str:
    """The path below where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


def checked_prefix(prefix: str) -> str:
    """A prefix that begins with a slash and does not end with one, or is empty.

    Raises:
        TypeError: it is no text.
        ValueError: it is something else.
    """
    if of_type(prefix, str, "prefix") and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError(f"prefix begins with a slash and does not end with one, unlike {prefix!r}")
    return prefix
