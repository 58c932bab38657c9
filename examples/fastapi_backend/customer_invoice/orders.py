"""``/orders``: each is there once, however often it is sent, and a 2xx says that it is durable."""

from __future__ import annotations

import hashlib
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from customer_invoice.database import TheDatabase
from customer_invoice.money import Rupees
from customer_invoice.tables import Customer, Invoice, InvoiceNumber, Order, OrderLine

router = APIRouter(prefix="/orders", tags=["orders"])

IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", min_length=8, max_length=200)]


class Line(BaseModel):
    """One line of an order."""

    model_config = ConfigDict(from_attributes=True)

    description: Annotated[str, Field(min_length=1, max_length=500)]
    quantity: Annotated[int, Field(gt=0, le=1_000_000)]
    unit_price: Rupees


class NewOrder(BaseModel):
    """An order to be."""

    customer_id: int
    lines: Annotated[list[Line], Field(min_length=1, max_length=1000)]

    def total(self) -> Decimal:
        """The sum of its lines."""
        return sum((line.quantity * line.unit_price for line in self.lines), Decimal(0))

    def sha256(self) -> str:
        """The same for the same wish."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class OrderOut(BaseModel):
    """An order."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    customer_id: int
    total: Rupees
    placed_at: datetime
    lines: list[Line]


class InvoiceOut(BaseModel):
    """An invoice."""

    model_config = ConfigDict(from_attributes=True)

    number: str
    order_id: int
    amount: Rupees
    issued_at: datetime


@router.post("", status_code=201, responses={200: {"description": "it was placed before, under the same key"}})
async def place(wish: NewOrder, key: IdempotencyKey, response: Response, database: TheDatabase) -> OrderOut:
    """Places an order. Whoever got no answer sends it again under the same key, and gets the order that is there."""
    async with database.transaction() as session:
        if await session.get(Customer, wish.customer_id) is None:
            raise HTTPException(404, "no such customer")
        # Waits for another request with this key that is under way.
        placing = (
            upsert(Order)
            .values(
                customer_id=wish.customer_id,
                idempotency_key=key,
                request_sha256=wish.sha256(),
                total=wish.total(),
            )
            .on_conflict_do_nothing(index_elements=[Order.idempotency_key])
            .returning(Order.id)
        )
        order_id = await session.scalar(placing)
        if order_id is not None:
            lines = [
                OrderLine(
                    order_id=order_id,
                    number=number,
                    description=line.description,
                    quantity=line.quantity,
                    unit_price=line.unit_price,
                )
                for number, line in enumerate(wish.lines, start=1)
            ]
            session.add_all(lines)
            await session.flush()
        order = (await session.scalars(select(Order).where(Order.idempotency_key == key))).one()
        if order.request_sha256 != wish.sha256():
            raise HTTPException(422, "this Idempotency-Key was used for another order")
    # Committed. Nothing that can fail comes between this and the answer but the way to the client.
    if order_id is None:
        response.status_code = 200
    return OrderOut.model_validate(order)


@router.get("/{order_id}")
async def show(order_id: int, database: TheDatabase) -> OrderOut:
    """One order."""
    async with database.transaction() as session:
        order = await session.get(Order, order_id)
        if order is None:
            raise HTTPException(404, "no such order")
    return OrderOut.model_validate(order)


@router.post("/{order_id}/invoice", status_code=201, responses={200: {"description": "it was issued before"}})
async def issue_invoice(order_id: int, response: Response, database: TheDatabase) -> InvoiceOut:
    """Issues an order's invoice, or shows the one that was issued."""
    async with database.transaction() as session:
        # Locked, so that two requests do not both find none.
        order = await session.get(Order, order_id, with_for_update=True)
        if order is None:
            raise HTTPException(404, "no such order")
        invoice = await session.scalar(select(Invoice).where(Invoice.order_id == order_id))
        if invoice is None:
            year = order.placed_at.year
            counting = upsert(InvoiceNumber).values(year=year, last=1)
            counting = counting.on_conflict_do_update(
                index_elements=[InvoiceNumber.year], set_={"last": InvoiceNumber.last + 1}
            )
            # Its row stays locked until the commit: the number is given back by a rollback, and there is no gap.
            number = await session.scalar(counting.returning(InvoiceNumber.last))
            invoice = Invoice(order_id=order_id, number=f"{year}-{number:06}", amount=order.total)
            session.add(invoice)
        else:
            response.status_code = 200
    return InvoiceOut.model_validate(invoice)
