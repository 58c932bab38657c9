"""What becomes of orders when PostgreSQL is killed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import KILLS, client_of, with_driver
from sqlalchemy.exc import OperationalError
from test_orders import a_customer, an_order

from customer_invoice import migrate as migrate_module
from customer_invoice.migrate import migrate

if TYPE_CHECKING:
    from pgpersist.pytest_plugin import PgDurable

HOME = Path(__file__).parent.parent


def test_an_acknowledged_order_outlives_a_kill_and_meanwhile_it_is_503(pg_durable: PgDurable) -> None:
    async def story() -> None:
        async with client_of(pg_durable.url) as client:
            order, key = an_order(await a_customer(client), ("chai", 2, "15.00")), {"Idempotency-Key": "order-0001"}
            placed = await client.post("/orders", json=order, headers=key)
            assert placed.status_code == 201
            await asyncio.to_thread(pg_durable.kill9)
            for headers in (key, {"Idempotency-Key": "order-0002"}):
                away = await client.post("/orders", json=order, headers=headers)
                assert away.status_code == 503 and away.headers["retry-after"] == "1"
            assert (await client.get(f"/orders/{placed.json()['id']}")).status_code == 503
            await asyncio.to_thread(pg_durable.restart)
            # The first that comes back finds a pool of dead connections, and does not notice.
            again = await client.post("/orders", json=order, headers=key)
            assert again.status_code == 200 and again.json() == placed.json()
            second = await client.post("/orders", json=order, headers={"Idempotency-Key": "order-0002"})
            assert second.status_code == 201

    asyncio.run(story())


def test_workers_that_migrate_at_once_do_it_once(pg_durable: PgDurable) -> None:
    pg_durable.cluster.create_database("empty")
    url = with_driver(pg_durable.cluster.url("empty"))
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(migrate, [url] * 4))

    async def story() -> None:
        async with client_of(pg_durable.cluster.url("empty")) as client:
            await a_customer(client)

    asyncio.run(story())


def test_nothing_is_lost_under_load(tmp_path: Path) -> None:
    arguments = [sys.executable, str(HOME / "crash_test.py"), "--kills", str(KILLS)]
    said = subprocess.run(arguments, capture_output=True, text=True, timeout=120 + 120 * KILLS, env=os.environ)
    assert said.returncode == 0, said.stdout + said.stderr
    line = json.loads(said.stdout)
    assert line["verdict"] == "pass" and line["unready_and_ready_again"] == KILLS and line["lost"] == 0


def test_without_a_database_it_does_not_begin_to_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "_PATIENCE", 0.5)

    async def story() -> None:
        async with client_of(f"postgresql://nobody@/nothing?host={tmp_path}&port=1"):
            raise AssertionError("it serves")

    with pytest.raises(OperationalError, match="connection"):
        asyncio.run(story())
