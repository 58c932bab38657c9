"""Checks of one's own that are asked again and again: by an agent, and by the routes beside an application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import BaseRoute

import pgpersist
from pgpersist import Agent, Cluster, Config, Finding
from pgpersist._health import standing_checks
from pgpersist.asgi import HealthApp, Supervision
from pgpersist.fastapi import health_router, health_routes, lifespan
from support.serving import eventually, free_port


class Queue:
    """A question about the application, which its test answers."""

    name = "queue"

    def __init__(self) -> None:
        self.finding = Finding.ok("3 orders wait", observed={"waiting": 3})

    def check(self) -> Finding:
        return self.finding


class Mail:
    """The same as a coroutine; it remembers the loops that ran it."""

    name = "mail:out"
    deadline = timedelta(seconds=8)

    def __init__(self) -> None:
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def check(self) -> Finding:
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return Finding.warn("10 letters wait", remedy="look at the relay")


def app_of(routes: list[BaseRoute]) -> Any:
    return Starlette(routes=routes)


def router_of(*arguments: Any, **options: Any) -> Any:
    app = FastAPI()
    app.include_router(health_router(*arguments, **options))
    return app


MAKERS: list[Callable[..., Any]] = [router_of, lambda *a, **o: app_of(health_routes(*a, **o)), HealthApp]


def report_of(app: Any) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=60) as client:
            document: dict[str, Any] = (await client.get("/health")).json()
            metrics = (await client.get("/metrics")).text
            assert "queue" in metrics
            return document

    return asyncio.run(ask())


def findings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in document["findings"]}


@pytest.mark.parametrize("make", MAKERS, ids=["router", "routes", "app"])
def test_routes_ask_them_and_count_tables(tmp_path: Path, make: Callable[..., Any]) -> None:
    cluster = Cluster(tmp_path / "data", databases=["shop"])
    found = findings(report_of(make(cluster, open_details=True, checks=[Queue(), Mail()], tables=["orders"])))
    assert found["queue"]["summary"] == "3 orders wait" and found["queue"]["observed"] == {"waiting": 3}
    assert found["mail:out"]["status"] == "warn" and found["mail:out"]["remedy"] == "look at the relay"
    assert "probe:orders" in found and "server" in found
    # Those that the user has given are the last.
    assert list(found)[-2:] == ["queue", "mail:out"]


def test_routes_ask_those_of_their_lifespan(tmp_path: Path) -> None:
    cluster, queue = Cluster(tmp_path / "data"), Queue()
    assert "queue" in findings(report_of(router_of(lifespan(cluster, checks=[queue]), open_details=True)))
    life = lifespan(cluster, checks=[queue])
    both = findings(report_of(router_of(life, open_details=True, checks=[queue, Mail()])))
    assert {"queue", "mail:out"} <= set(both)
    with pytest.raises(pgpersist.InvalidError, match='two checks are called "queue"'):
        health_router(life, checks=[Queue()])


def test_what_is_no_check_is_refused_where_it_is_given(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data")
    takers: list[Callable[..., Any]] = [Agent, Supervision, lifespan, HealthApp, health_router, health_routes]
    wrong: list[tuple[Any, type[Exception], str]] = [
        ([Queue], TypeError, r"checks\[0\] is the class Queue"),
        ("queue", TypeError, "checks is a list"),
        ([Queue(), Queue()], pgpersist.InvalidError, 'two checks are called "queue"'),
    ]
    for taker in takers:
        for checks, error, text in wrong:
            with pytest.raises(error, match=text):
                taker(cluster, checks=checks)
    with pytest.raises(TypeError, match="tables is a list"):
        HealthApp(cluster, tables="orders")


def test_one_that_hangs_is_not_asked_again(tmp_path: Path) -> None:
    cluster, gate = Cluster(tmp_path / "data"), threading.Event()
    asked: list[int] = []

    class Hangs:
        name = "hangs"
        deadline = 1

        def check(self) -> Finding:
            asked.append(threading.get_ident())
            gate.wait(300)
            return Finding.ok("seen")

    checks = standing_checks([Hangs()])
    try:
        found = [cluster.health(checks=checks).finding("hangs") for _ in range(3)]
        assert {finding.status for finding in found} == {pgpersist.HealthStatus.UNKNOWN}
        assert len(asked) == 1 and "earlier question" in found[-1].summary
    finally:
        gate.set()
    assert eventually(lambda: cluster.health(checks=checks).finding("hangs").is_ok)


def test_an_agent_refuses_what_would_keep_its_report_from_coming(place: Path) -> None:
    class Slow(Queue):
        deadline = 9

    class Server(Queue):
        name = "server"

    config = Config.from_dict({"health": {"listen": f"127.0.0.1:{free_port()}"}})
    cluster = Cluster(place / "data", config=config)
    for check, text in [(Slow(), "8 s are the most"), (Server(), 'two checks are called "server"')]:
        agent = Agent(cluster, allow_ephemeral=True, checks=[check])
        with pytest.raises(pgpersist.InvalidError, match=text):
            agent.begin()
        assert not agent.is_running and not (place / "data").exists()


def test_an_agent_asks_them_and_its_hooks_tell(place: Path) -> None:
    port, events, queue, mail = free_port(), place / "events", Queue(), Mail()
    more = {
        "health": {"listen": f"127.0.0.1:{port}"},
        "hooks": {"command": ["/bin/sh", "-c", f"cat >> {events}"], "interval": "1s"},
    }
    settings = {"unix_socket_directories": str(place), "listen_addresses": "", "shared_buffers": "16MB"}
    cluster = Cluster(
        place / "data", config=Config.from_dict(more), databases=["shop"], port=free_port(), settings=settings
    )

    def asked(page: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return str(error.read().decode())

    def told() -> dict[str, dict[str, Any]]:
        return findings(json.loads(asked("/health")))

    with Agent(cluster, allow_ephemeral=True, checks=[queue, mail]) as agent:
        eventually(lambda: "queue" in told())
        found = told()
        assert found["queue"]["summary"] == "3 orders wait" and found["mail:out"]["status"] == "warn"
        assert "mail:out" in asked("/metrics")
        queue.finding = Finding.fail("the queue is gone", remedy="bring it back")
        eventually(lambda: told()["queue"]["status"] == "fail")
        eventually(lambda: events.exists() and "the queue is gone" in events.read_text(), "the hook is told")
        # A reload keeps them.
        agent.reload(cluster)
        eventually(lambda: told().get("queue", {}).get("status") == "fail")
    assert mail.loops
