"""Customers, orders and invoices, over HTTP, each test on a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from conftest import client_of

Story = Callable[[httpx.AsyncClient], Awaitable[None]]


def told(url: str, story: Story) -> None:
    """Tells a story to a client."""

    async def tell() -> None:
        async with client_of(url) as client:
            await story(client)

    asyncio.run(tell())


async def a_customer(client: httpx.AsyncClient, email: str = "asha@example.com") -> int:
    """Makes one."""
    made = await client.post("/customers", json={"name": "Asha", "email": email})
    assert made.status_code == 201, made.text
    return int(made.json()["id"])


def an_order(customer: int, *lines: tuple[str, int, str]) -> dict[str, Any]:
    """As clients send it."""
    named = ("description", "quantity", "unit_price")
    return {"customer_id": customer, "lines": [dict(zip(named, line, strict=True)) for line in lines]}


def test_amounts_are_exact(pg_url: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        customer = await a_customer(client)
        order = an_order(customer, ("chai", 3, "0.10"), ("desk", 1, "1499.50"), ("bolt", 999_999, "0.01"))
        placed = await client.post("/orders", json=order, headers={"Idempotency-Key": "order-0001"})
        assert placed.status_code == 201 and placed.json()["total"] == "11499.79"
        shown = (await client.get(f"/orders/{placed.json()['id']}")).json()
        assert shown == placed.json() and [line["unit_price"] for line in shown["lines"]] == ["0.10", "1499.50", "0.01"]
        statement = (await client.get(f"/customers/{customer}/statement")).json()
        assert statement == {"orders": 1, "ordered": "11499.79", "invoiced": "0.00"}

    told(pg_url, story)


@pytest.mark.parametrize("amount", ["0.001", "-1", "NaN", "1e3000", 0.1, None, "100000000000.00"])
def test_what_is_no_amount_is_refused(pg_url: str, amount: object) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        order: dict[str, Any] = an_order(await a_customer(client), ("chai", 1, "1"))
        order["lines"][0]["unit_price"] = amount
        placed = await client.post("/orders", json=order, headers={"Idempotency-Key": "order-0001"})
        assert placed.status_code == 422

    told(pg_url, story)


def test_an_order_is_there_once_however_often_it_is_sent(pg_url: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        customer = await a_customer(client)
        order, key = an_order(customer, ("chai", 2, "15.00")), {"Idempotency-Key": "order-0001"}
        answers = await asyncio.gather(*(client.post("/orders", json=order, headers=key) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1
        other = await client.post("/orders", json=an_order(customer, ("chai", 3, "15.00")), headers=key)
        assert other.status_code == 422 and "another order" in other.json()["detail"]
        assert (await client.post("/orders", json=order)).status_code == 422
        assert (await client.get(f"/customers/{customer}/statement")).json()["orders"] == 1

    told(pg_url, story)


def test_invoices_have_numbers_without_gaps(pg_url: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        customer = await a_customer(client)
        orders = []
        for number in range(6):
            order = an_order(customer, ("chai", 1, f"{number}.50"))
            placed = await client.post("/orders", json=order, headers={"Idempotency-Key": f"order-{number:04}"})
            orders.append(placed.json()["id"])
        issuing = [client.post(f"/orders/{order}/invoice") for order in orders + orders]
        answers = await asyncio.gather(*issuing)
        assert sorted(answer.status_code for answer in answers) == [200] * 6 + [201] * 6
        numbers = sorted({answer.json()["number"] for answer in answers})
        assert [number.rpartition("-")[2] for number in numbers] == [f"{number:06}" for number in range(1, 7)]
        statement = (await client.get(f"/customers/{customer}/statement")).json()
        assert Decimal(statement["invoiced"]) == Decimal(statement["ordered"]) == Decimal("18.00")
        assert (await client.post("/orders/999999/invoice")).status_code == 404

    told(pg_url, story)


def test_each_test_begins_without_customers(pg_url: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        first = await a_customer(client)
        again = await client.post("/customers", json={"name": "Asha", "email": "asha@example.com"})
        assert again.status_code == 409
        assert (await client.get(f"/customers/{first + 1}/statement")).status_code == 404
        order = an_order(first + 1, ("chai", 1, "1"))
        placed = await client.post("/orders", json=order, headers={"Idempotency-Key": "order-0001"})
        assert placed.status_code == 404

    told(pg_url, story)
