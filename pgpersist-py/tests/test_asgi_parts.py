"""The parts that :mod:`pgpersist.asgi` is made of, each by itself."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Callable

import pytest

import pgpersist
from pgpersist import Cluster, _server_answer
from pgpersist._kept import Busy, Kept
from pgpersist._worker_group import SLOTS, WorkerGroup
from pgpersist.asgi import HealthApp


def test_an_answer_is_found_out_once_for_all_who_ask() -> None:
    async def story() -> None:
        gate, asked = asyncio.Event(), 0

        async def ask() -> int:
            nonlocal asked
            asked += 1
            await gate.wait()
            return asked

        kept = Kept(ask, lasts=60, most_waiting=3)
        waiting = [asyncio.ensure_future(kept.get(timeout=30)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await kept.get(timeout=30)
        # Who has waited long enough goes; the question stays, and is not asked twice.
        waiting[0].cancel()
        await asyncio.sleep(0)
        with pytest.raises(asyncio.TimeoutError):
            await kept.get(timeout=0.01)
        assert asked == 1
        gate.set()
        assert await asyncio.gather(*waiting[1:]) == [1, 1] and await kept.get(timeout=1) == 1
        # Another subject is another question.
        assert await kept.get(timeout=1, about="another server") == 2

    asyncio.run(story())
    asyncio.run(story())


def test_an_answer_lasts_for_a_while_and_a_failure_as_long() -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        raise OSError(f"failure {asked}")

    async def story() -> None:
        kept = Kept(ask, lasts=0.2)
        for _ in range(2):
            with pytest.raises(OSError, match="failure 1"):
                await kept.get(timeout=1)
        await asyncio.sleep(0.3)
        with pytest.raises(OSError, match="failure 2"):
            await kept.get(timeout=1)

    asyncio.run(story())


def test_workers_know_whether_they_are_the_last(tmp_path: Path) -> None:
    first, second, stranger = (
        WorkerGroup(tmp_path),
        WorkerGroup(tmp_path / "." / "x" / ".."),
        WorkerGroup(tmp_path / "y"),
    )
    first.join()
    second.join()
    stranger.join()
    assert first.lease.take() and not second.lease.take() and second.lease.is_taken and stranger.lease.take()
    assert not first.leave()
    # A lease is kept until it is given back, or its process ends.
    assert second.lease.is_taken
    first.lease.release()
    assert not second.lease.is_taken and second.lease.take() and second.leave()
    second.lease.release()
    assert stranger.leave()


def test_a_worker_that_is_killed_is_gone(tmp_path: Path) -> None:
    program = (
        "import sys, os; from pgpersist._worker_group import WorkerGroup\n"
        "group = WorkerGroup(sys.argv[1]); group.join(); group.lease.take(); print('in', flush=True); sys.stdin.read()"
    )
    group = WorkerGroup(tmp_path)
    group.join()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        assert group.lease.is_taken and not group.leave()
        group.join()
        other.kill()
    assert not group.lease.is_taken and group.leave()


def test_a_child_that_was_just_forked_is_no_worker(tmp_path: Path) -> None:
    group, next_one = WorkerGroup(tmp_path), WorkerGroup(tmp_path)
    group.join()
    assert group.lease.take()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # As a program that is about to be run: it has every socket until then. What it gives back is not its own.
        os.close(writing)
        group.lease.release()
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        assert next_one.lease.is_taken
        group.lease.release()
        assert group.leave() and not next_one.lease.is_taken
    finally:
        os.close(writing)
        os.waitpid(child, 0)
    next_one.join()
    assert next_one.lease.take() and next_one.leave()
    next_one.lease.release()


def test_there_is_room_for_many_workers_and_an_end(tmp_path: Path) -> None:
    groups = [WorkerGroup(tmp_path) for _ in range(SLOTS + 1)]
    for group in groups[:SLOTS]:
        group.join()
    with pytest.raises(RuntimeError, match=str(SLOTS)):
        groups[SLOTS].join()
    for group in groups[1:SLOTS]:
        assert not group.leave()
    assert groups[0].leave()


def test_a_door_that_somebody_blocks_opens_at_last(tmp_path: Path) -> None:
    async def story() -> None:
        one, other = WorkerGroup(tmp_path), WorkerGroup(tmp_path)
        async with one.door(5):
            async with other.door(0.1):
                pass
            entering = asyncio.ensure_future(_enter(other))
            await asyncio.sleep(0.1)
            assert not entering.done()
        await asyncio.wait_for(entering, 30)

    async def _enter(group: WorkerGroup) -> None:
        async with group.door(30):
            pass

    asyncio.run(story())


Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


READY = _message(b"R", struct.pack("!i", 0)) + _message(b"S", b"server_version\x0015\0") + _message(b"Z", b"I")
ROW = _message(b"D", b"\0\1\0\0\0\x011") + _message(b"C", b"SELECT 1\0") + _message(b"Z", b"I")


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (READY, ROW, None),
        (READY, _message(b"E", b"SERROR\0C53200\0Mout of memory\0\0"), "refuses: out of memory"),
        (READY, _message(b"Z", b"I"), "no answer"),
        (_message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"), b"", None),
        (_message(b"E", b"SFATAL\0C28000\0MPeer authentication failed\0\0"), b"", None),
        (_message(b"E", b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"), b"", "starting up"),
        (_message(b"E", b"SFATAL\0C53300\0Mtoo many clients already\0\0"), b"", "too many clients"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", "no PostgreSQL"),
        (b"R\0\0", b"", "cannot be reached"),
        (b"", b"", "cannot be reached"),
        (None, b"", "did not answer within"),
        (READY, None, "did not answer within"),
    ],
)
def test_what_servers_answer(tmp_path: Path, first: bytes | None, second: bytes | None, told: str | None) -> None:
    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                (length,) = struct.unpack("!i", await reader.readexactly(4))
                startup = await reader.readexactly(length - 4)
                assert startup[:4] == b"\0\3\0\0" and b"user\0asha\0database\0shop\0" in startup
                for answer in (first, second):
                    if answer is None:
                        await asyncio.sleep(30)
                    writer.write(answer or b"")
                    if not answer:
                        break
                    if answer == READY:
                        assert (await reader.readexactly(14)) == b"Q\0\0\0\x0dSELECT 1\0"
                await writer.drain()
            finally:
                writer.close()

        server = await asyncio.start_unix_server(serve, str(tmp_path / ".s.PGSQL.7"))
        try:
            answered = await _server_answer.ask(str(tmp_path), 7, "asha", "shop", timeout=1)
        finally:
            server.close()
        answer = answered.obstacle
        assert answer is None if told is None else (answer is not None and told in answer), answer
        if answer is None:
            assert answered.lets_in is (first == READY)

    asyncio.run(story())


def test_a_server_that_is_not_there_cannot_be_reached(tmp_path: Path) -> None:
    for host in (str(tmp_path), "127.0.0.1", "@pgpersist-absent"):
        for log_in in (True, False):
            answered = asyncio.run(_server_answer.ask(host, 1, "asha", "shop", timeout=5, log_in=log_in))
            assert answered.obstacle is not None and "cannot be reached" in answered.obstacle


@pytest.mark.parametrize(("greeting", "told"), [(b"N", None), (b"S", None), (b"H", "no PostgreSQL"), (b"", "reached")])
def test_whom_a_server_turns_away_is_greeted(tmp_path: Path, greeting: bytes, told: str | None) -> None:
    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
            writer.write(greeting)
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(serve, str(tmp_path / ".s.PGSQL.7"))
        try:
            answered = await _server_answer.ask(str(tmp_path), 7, "asha", "shop", timeout=5, log_in=False)
        finally:
            server.close()
        assert answered.obstacle is None if told is None else told in str(answered.obstacle)

    asyncio.run(story())


def test_a_token_is_one_word_from_here_or_from_a_file(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data")
    for wrong in ("", " ", "two words"):
        with pytest.raises(ValueError, match="token"):
            HealthApp(cluster, token=wrong)
    with pytest.raises(TypeError, match="token"):
        HealthApp(cluster, token=7)  # type: ignore[arg-type]
    with pytest.raises(pgpersist.InvalidError, match="token"):
        HealthApp(cluster, token=tmp_path / "absent")
    with pytest.raises(ValueError, match="prefix"):
        HealthApp(cluster, prefix="internal")
    with pytest.raises(TypeError, match="cluster"):
        HealthApp("/srv/app")  # type: ignore[arg-type]
    (tmp_path / "token").write_text("hunter2\n")
    os.chmod(tmp_path / "token", 0o600)
    values = {"health": {"token_file": str(tmp_path / "token"), "listen": "127.0.0.1:0"}}
    configured = Cluster(tmp_path / "data", config=pgpersist.Config.from_dict(values))
    for app in (HealthApp(cluster, token=tmp_path / "token"), HealthApp(configured)):
        bare, detailed = (
            asyncio.run(_asked(app, "/readyz", headers)) for headers in ([], [(b"authorization", b"bearer hunter2")])
        )
        assert bare == (503, b"absent\n")
        assert detailed[0] == 503 and b'"phase": "absent"' in detailed[1]
    assert asyncio.run(_asked(HealthApp(cluster, prefix="/internal"), "/internal/livez", [])) == (200, b"alive\n")
    assert asyncio.run(_asked(HealthApp(cluster, prefix="/internal"), "/livez", []))[0] == 404


async def _asked(app: HealthApp, path: str, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": path, "headers": headers}, None, send)
    return sent[0]["status"], sent[1]["body"]


def test_without_fastapi_all_but_its_router_works() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None\n"
        "from pgpersist import Cluster\n"
        "from pgpersist.fastapi import health_router, health_routes, lifespan, ready_cluster\n"
        "life = lifespan(Cluster('/nowhere/data'))\n"
        "print([route.path for route in health_routes(life)])\n"
        "try: health_router(life)\n"
        "except ImportError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.startswith("['/livez', '/readyz', '/startupz', '/health', '/metrics']") and "fastapi" in said


def test_the_asgi_part_needs_no_framework() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = sys.modules['starlette'] = None\n"
        "import pgpersist.asgi; print(pgpersist.asgi.with_cluster.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said == "with_cluster\n"
