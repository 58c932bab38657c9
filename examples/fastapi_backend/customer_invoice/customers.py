"""``/customers``: who orders, and what they owe."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from customer_invoice.database import TheDatabase
from customer_invoice.money import Rupees
from customer_invoice.tables import Customer, Invoice, Order

router = APIRouter(prefix="/customers", tags=["customers"])


class NewCustomer(BaseModel):
    """A customer to be."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)]


class CustomerOut(NewCustomer):
    """A customer."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class Statement(BaseModel):
    """What a customer has ordered, and how much of it is invoiced."""

    orders: int
    ordered: Rupees
    invoiced: Rupees


@router.post("", status_code=201)
async def create(wish: NewCustomer, database: TheDatabase) -> CustomerOut:
    """Makes a customer; each e-mail address has one."""
    try:
        async with database.transaction() as session:
            customer = Customer(name=wish.name, email=wish.email)
            session.add(customer)
    except IntegrityError as error:
        raise HTTPException(409, "this e-mail address has a customer already") from error
    return CustomerOut.model_validate(customer)


@router.get("/{customer_id}/statement")
async def statement(customer_id: int, database: TheDatabase) -> Statement:
    """Sums it up."""
    async with database.transaction() as session:
        if await session.get(Customer, customer_id) is None:
            raise HTTPException(404, "no such customer")
        orders = select(func.count(), func.sum(Order.total)).where(Order.customer_id == customer_id)
        count, ordered = (await session.execute(orders)).one()
        invoices = select(func.sum(Invoice.amount)).join(Order, Order.id == Invoice.order_id)
        invoiced = await session.scalar(invoices.where(Order.customer_id == customer_id))
    nothing = Decimal(0)
    return Statement(orders=count, ordered=ordered or nothing, invoiced=invoiced or nothing)
