"""``./run``: one command starts all of it, SIGTERM ends all of it, and what is to be done at night is done."""

from __future__ import annotations

import gzip
import json
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

import httpx

from crash_test import HOME, PATIENCE, Backend, folder_for_server, state_on_disk

Seen = TypeVar("Seen")


def eventually(backend: Backend, what: str, look: Callable[[], Seen]) -> Seen:
    """What is seen at last, when it is true. A backend that has ended is not waited for."""
    until = time.monotonic() + PATIENCE
    while True:
        has_ended = backend.process.poll() is not None
        with suppress(httpx.HTTPError):
            if seen := look():
                return seen
        assert not has_ended and time.monotonic() < until, f"{what}: not seen\n{backend.log()}"
        time.sleep(0.05)


def ready(backend: Backend) -> None:
    """Waits until it serves, with its database."""
    eventually(backend, "it is ready", lambda: httpx.get(f"{backend.url}/readyz", timeout=30).status_code == 200)


def end(backend: Backend) -> None:
    """Ends it as a service manager does, and looks whether anything of it is left."""
    assert backend.stop() in (0, -signal.SIGTERM), backend.log()
    assert state_on_disk(backend) == "shut down"
    assert not (backend.data_directory / "postmaster.pid").exists()
    assert not list(backend.volume.glob(".s.PGSQL.*"))
    until = time.monotonic() + PATIENCE
    while left := processes_of(backend.volume):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def processes_of(folder: Path) -> list[str]:
    """The command lines that name it."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if str(folder) in line]


def test_one_command_serves_ends_cleanly_and_makes_up_for_a_missed_dump() -> None:
    with folder_for_server() as folder:
        backend = Backend(folder, 1, [str(HOME / "run")])
        try:
            ready(backend)
            with httpx.Client(base_url=backend.url, timeout=PATIENCE) as client:
                customer = client.post("/customers", json={"name": "Asha", "email": "asha@example.com"}).json()["id"]
                order = {
                    "customer_id": customer,
                    "lines": [{"description": "chai", "quantity": 3, "unit_price": "0.10"}],
                }
                placed = client.post("/orders", json=order, headers={"Idempotency-Key": "2026-0001"})
                assert placed.status_code == 201 and placed.json()["total"] == "0.30"
                assert client.post(f"/orders/{placed.json()['id']}/invoice").status_code == 201
            # What the agent remembers of the nightly dump.
            record = backend.volume / ".pgpersist" / "pgdata" / "schedule" / "dump.json"
            eventually(backend, f"{record} is there", record.exists)
            end(backend)
            # Two nights in which nothing ran.
            remembered = json.loads(record.read_text())
            remembered["handled"] = (datetime.now(timezone.utc) - timedelta(days=2)).isoformat()
            record.write_text(json.dumps(remembered))
            backend.start()
            ready(backend)
            store = backend.volume / "backups"
            dumps = eventually(backend, f"a dump is in {store}", lambda: list(store.glob("backup_*.sql.gz")))
            assert "asha@example.com" in gzip.decompress(max(dumps).read_bytes()).decode()
            shown = httpx.get(f"{backend.url}/orders/{placed.json()['id']}", timeout=PATIENCE)
            assert shown.json() == placed.json()
            end(backend)
        finally:
            backend.stop()
