"""The tables, as SQLAlchemy sees them. What they are in the database is written in ``migrations/``."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import DateTime, ForeignKey, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from customer_invoice.money import Paise


class Table(DeclarativeBase):
    """What all tables share."""

    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}


class Customer(Table):
    """Who orders."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Order(Table):
    """What a customer has ordered; never changed."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    #: The client's name for this order: however often it is sent, there is one.
    idempotency_key: Mapped[str] = mapped_column(unique=True)
    #: What was asked for under that name, so that another wish under the same name is noticed.
    request_sha256: Mapped[str]
    total: Mapped[Decimal] = mapped_column("total_paise", Paise)
    placed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lines: Mapped[list[OrderLine]] = relationship(order_by="OrderLine.number", lazy="selectin")


class OrderLine(Table):
    """One line of an order."""

    __tablename__ = "order_lines"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    description: Mapped[str]
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column("unit_price_paise", Paise)


class InvoiceNumber(Table):
    """The last number that was given in a year. Numbers have no gaps: the tax office asks."""

    __tablename__ = "invoice_numbers"

    year: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last: Mapped[int]


class Invoice(Table):
    """An order's invoice; at most one."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), unique=True)
    number: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[Decimal] = mapped_column("amount_paise", Paise)
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
