"""Kills the database under load, again and again, and asks an independent judge: is every acknowledged order there?

    python crash_test.py --kills 10

Starts the backend as a process, on a volume of its own that is removed at the end. Clients post orders over HTTP, each
with its Idempotency-Key, and repeat what got no 2xx, as real ones do. Meanwhile every process of the PostgreSQL server
is killed with SIGKILL, as often as asked for. In the end ``psql`` says what is in the database. Prints one line of
JSON; the exit code is 1 when an order is missing, doubled or torn, or when ``/readyz`` did not go to 503 and back to
200 at a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

HOME = Path(__file__).resolve().parent
#: How long anything may take before the test gives up on it, in seconds.
PATIENCE = 120.0
#: How often ``/readyz`` is asked, in seconds: an outage is short.
GLANCE = 0.01
DATABASE = "customerInvoice"


@dataclass
class Tally:
    """What the clients saw."""

    #: Key -> order id and total, as the first 2xx told them.
    acknowledged: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: Keys that were sent at least once.
    sent: set[str] = field(default_factory=set)
    answers: dict[str, int] = field(default_factory=dict)
    #: The same key, another order: never.
    contradictions: list[str] = field(default_factory=list)
    without_retry_after: int = 0

    def count(self, answer: str) -> None:
        """One more of these."""
        self.answers[answer] = self.answers.get(answer, 0) + 1


class Backend:
    """The application as a process of its own, on a volume of its own.

    Args:
        folder: where its volume and its log lie.
        workers: how many processes serve.
        program: what starts it.
    """

    def __init__(
        self, folder: Path, workers: int, program: Sequence[str] = (sys.executable, "-m", "customer_invoice")
    ) -> None:
        self.volume = folder / "volume"
        self.port, database_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "backend.log"
        self._environment = {
            **os.environ,
            "PYTHON": sys.executable,
            "CUSTOMER_INVOICE_VOLUME": str(self.volume),
            "ALLOW_EPHEMERAL": "1",
            "PGPERSIST_CLUSTER_PORT": str(database_port),
            "PYTHONPATH": os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        self._arguments = [*program, "--port", str(self.port), "--workers", str(workers)]
        self.start()

    def start(self) -> None:
        """Starts it; again, when it has ended."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._arguments, cwd=HOME, env=self._environment, stdout=log, stderr=log)

    @property
    def data_directory(self) -> Path:
        """Where its cluster's files lie."""
        return self.volume / "pgdata"

    def postmaster(self) -> int | None:
        """The server's first process, if it says that it is ready."""
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None
        return int(lines[0]) if len(lines) > 7 and lines[7].strip() == "ready" else None

    def socket_directory(self) -> str:
        """Where clients of this machine find the server."""
        return (self.data_directory / "postmaster.pid").read_text().splitlines()[4]

    def database_port(self) -> str:
        """Its port."""
        return (self.data_directory / "postmaster.pid").read_text().splitlines()[3]

    def log(self) -> str:
        """What it said last."""
        return "".join(self._log.read_text(errors="replace").splitlines(keepends=True)[-40:])

    def stop(self) -> int:
        """SIGTERM, as a service manager sends it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@dataclass
class Watch:
    """What ``/readyz`` said, whenever that changed."""

    changes: list[tuple[float, int]] = field(default_factory=list)

    @property
    def now(self) -> int | None:
        """The last status."""
        return self.changes[-1][1] if self.changes else None

    async def look(self, client: httpx.AsyncClient, done: asyncio.Event) -> None:
        """Looks until it is done."""
        while not done.is_set():
            with contextlib.suppress(httpx.HTTPError):
                status = (await client.get("/readyz")).status_code
                if status != self.now:
                    self.changes.append((time.monotonic(), status))
            await asyncio.sleep(GLANCE)

    async def wait_for(self, status: int, since: int) -> bool:
        """Whether it said so among the changes from ``since`` on, within the patience."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if any(seen == status for _, seen in self.changes[since:]):
                return True
            await asyncio.sleep(GLANCE)
        return False


async def buy(client: httpx.AsyncClient, customer: int, seed: int, tally: Tally, done: asyncio.Event) -> None:
    """One client: places an order, repeats it until it is acknowledged, and goes on with the next one."""
    dice = random.Random(seed)
    while not done.is_set():
        lines = [
            {
                "description": f"item {number}",
                "quantity": dice.randint(1, 9),
                "unit_price": f"{dice.randint(0, 9_999_999)}.{dice.randint(0, 99):02}",
            }
            for number in range(dice.randint(1, 4))
        ]
        await place(client, {"customer_id": customer, "lines": lines}, str(uuid.UUID(int=dice.getrandbits(128))), tally)


async def place(client: httpx.AsyncClient, order: dict[str, Any], key: str, tally: Tally) -> None:
    """Places one order; gives up after the patience, as its caller will notice."""
    until = time.monotonic() + PATIENCE
    tally.sent.add(key)
    while time.monotonic() < until:
        try:
            answer = await client.post("/orders", json=order, headers={"Idempotency-Key": key})
        except httpx.HTTPError as error:
            tally.count(type(error).__name__)
            await asyncio.sleep(0.2)
            continue
        tally.count(str(answer.status_code))
        if answer.is_success:
            told = (answer.json()["id"], answer.json()["total"])
            if tally.acknowledged.setdefault(key, told) != told:
                tally.contradictions.append(key)
            # Now and then a client has not heard the answer, and asks again.
            if answer.status_code == 201 and int(key[:2], 16) % 20 == 0:
                continue
            return
        if answer.status_code == 503:
            tally.without_retry_after += "retry-after" not in answer.headers
            await asyncio.sleep(float(answer.headers.get("retry-after", 1)) * random.random())
            continue
        raise AssertionError(f"{answer.status_code} for an order that is right: {answer.text}")
    raise AssertionError(f"no answer for {key} in {PATIENCE:g} s")


def kill_server(postmaster: int) -> int:
    """SIGKILL for every process of the server, the postmaster first; tells how many there were."""
    family = [postmaster, *_children_of(postmaster)]
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(family)


def _children_of(parent: int) -> list[int]:
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    children.append(int(entry.name))
    return children


@dataclass
class Kills:
    """What became of each kill."""

    processes: int = 0
    #: Whether ``/readyz`` went to 503 and back to 200, and after how many seconds.
    outages: list[tuple[bool, float]] = field(default_factory=list)


async def story(backend: Backend, kills: int, clients: int, seed: int) -> tuple[Tally, Kills]:
    """Load, kills, and what was seen."""
    tally, watch, quiet = Tally(), Watch(), asyncio.Event()
    limits = httpx.Limits(max_connections=clients + 2)
    async with httpx.AsyncClient(base_url=backend.url, timeout=30, limits=limits) as client:
        watching = asyncio.create_task(watch.look(client, quiet))
        try:
            if not await watch.wait_for(200, 0):
                raise AssertionError(f"the backend was not ready:\n{backend.log()}")
            made = await client.post("/customers", json={"name": "Asha", "email": "asha@example.com"})
            customer, done = int(made.raise_for_status().json()["id"]), asyncio.Event()
            buying = asyncio.gather(*(buy(client, customer, seed + number, tally, done) for number in range(clients)))
            killing = asyncio.create_task(kill_again_and_again(backend, watch, tally, kills, seed))
            # Whichever fails first tells why.
            both: set[asyncio.Future[Any]] = {buying, killing}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if buying.done():
                await buying
            seen = await killing
            done.set()
            await asyncio.wait_for(buying, PATIENCE)
            return tally, seen
        finally:
            quiet.set()
            await watching


async def kill_again_and_again(backend: Backend, watch: Watch, tally: Tally, kills: int, seed: int) -> Kills:
    """Kills the server as often as asked for, each time in the middle of the load."""
    dice, seen = random.Random(seed), Kills()
    for _ in range(kills):
        before, until = len(tally.acknowledged), time.monotonic() + PATIENCE
        while len(tally.acknowledged) < before + 20 or watch.now != 200 or backend.postmaster() is None:
            if time.monotonic() > until:
                raise AssertionError(f"the load does not go on:\n{backend.log()}")
            await asyncio.sleep(GLANCE)
        await asyncio.sleep(dice.random())
        postmaster, since, at = backend.postmaster(), len(watch.changes), time.monotonic()
        if postmaster is None:
            raise AssertionError(f"the server is away although nobody has killed it:\n{backend.log()}")
        seen.processes += kill_server(postmaster)
        followed = await watch.wait_for(503, since) and await watch.wait_for(200, since + 1)
        seen.outages.append((followed, round(time.monotonic() - at, 2)))
    return seen


def judge(backend: Backend, tally: Tally) -> dict[str, int]:
    """Asks ``psql`` what is there, and compares."""
    sql = (
        "SELECT o.idempotency_key, o.id, o.total_paise, coalesce(sum(l.quantity * l.unit_price_paise), -1) "
        "FROM orders o LEFT JOIN order_lines l ON l.order_id = o.id GROUP BY o.id"
    )
    found: dict[str, list[tuple[int, int]]] = {}
    torn = 0
    for row in _psql(backend, sql):
        key, order_id, total, of_lines = row.split("|")
        found.setdefault(key, []).append((int(order_id), int(total)))
        torn += total != of_lines
    lost = doubled = other = 0
    for key, (acknowledged_id, acknowledged_total) in tally.acknowledged.items():
        there = found.get(key, [])
        lost += not there
        doubled += len(there) > 1
        other += len(there) == 1 and there[0] != (acknowledged_id, int(Decimal(acknowledged_total) * 100))
    return {
        "orders_in_database": sum(len(rows) for rows in found.values()),
        "lost": lost,
        "doubled": doubled,
        "torn": torn,
        "not_as_acknowledged": other,
        "of_nobody": len(set(found) - tally.sent),
    }


def _psql(backend: Backend, sql: str) -> list[str]:
    connection = (
        f"host={backend.socket_directory()} port={backend.database_port()} dbname={DATABASE} user={_server_user()}"
    )
    arguments = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, connection]
    said: subprocess.CompletedProcess[str] = subprocess.run(
        arguments, check=True, capture_output=True, text=True, timeout=PATIENCE, **_as_server_user()
    )
    return said.stdout.splitlines()


def _server_user() -> str:
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _as_server_user() -> dict[str, Any]:
    return {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "cwd": "/"} if os.geteuid() == 0 else {}


def state_on_disk(backend: Backend) -> str:
    """What ``pg_controldata`` says of a server that has ended."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_controldata"), reverse=True)
    major = (backend.data_directory / "PG_VERSION").read_text().strip()
    program = next((str(path) for path in programs if path.parts[-3] == major), "pg_controldata")
    said = subprocess.run(
        [program, str(backend.data_directory)], check=True, capture_output=True, text=True, timeout=60
    )
    return next(line.partition(":")[2].strip() for line in said.stdout.splitlines() if "cluster state" in line)


@contextlib.contextmanager
def folder_for_server() -> Iterator[Path]:
    """A folder that the server's user can get to; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="invoice-"))
    try:
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        yield folder
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    """Runs it, and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    given = parser.parse_args()
    began = time.monotonic()
    with folder_for_server() as folder:
        backend = Backend(folder, given.workers)
        try:
            tally, seen = asyncio.run(story(backend, given.kills, given.clients, given.seed))
            found = judge(backend, tally)
        finally:
            code = backend.stop()
        state = state_on_disk(backend)
        followed = sum(was_seen for was_seen, _ in seen.outages)
        good = (
            followed == given.kills
            and not any(found[what] for what in ("lost", "doubled", "torn", "not_as_acknowledged", "of_nobody"))
            and not tally.contradictions
            and not tally.without_retry_after
            and set(tally.acknowledged) == tally.sent
            and state == "shut down"
        )
        line = {
            "verdict": "pass" if good else "fail",
            "kills": len(seen.outages),
            "processes_killed": seen.processes,
            "unready_and_ready_again": followed,
            "acknowledged": len(tally.acknowledged),
            "sent": len(tally.sent),
            **found,
            "contradictions": len(tally.contradictions),
            "answers": dict(sorted(tally.answers.items())),
            "without_retry_after": tally.without_retry_after,
            "outage_s": [duration for _, duration in seen.outages],
            "exit_code": code,
            "state_after_stop": state,
            "workers": given.workers,
            "seed": given.seed,
            "s": round(time.monotonic() - began, 1),
        }
        print(json.dumps(line))
        if not good:
            print(backend.log(), file=sys.stderr)
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
