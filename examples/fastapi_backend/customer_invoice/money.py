"""₹, exactly: ``Decimal`` in Python, text with two decimals in JSON, paise as a whole number in the database."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer
from sqlalchemy import BigInteger, Dialect
from sqlalchemy.types import TypeDecorator

PAISA = Decimal("0.01")


def exact(value: Any) -> Any:
    """Refuses what has passed through binary fractions already: 0.1 + 0.2 is no amount of money."""
    if isinstance(value, float):
        raise ValueError('an amount is text, such as "1499.50", or a whole number')
    return value


def in_words(amount: Decimal) -> str:
    """With two decimals."""
    return str(amount.quantize(PAISA))


#: An amount of at most ₹ 99,99,99,99,999.99, as requests and answers have it.
Rupees = Annotated[
    Decimal,
    BeforeValidator(exact),
    Field(ge=0, max_digits=13, decimal_places=2, examples=["1499.50"]),
    PlainSerializer(in_words, return_type=str),
]


class Paise(TypeDecorator[Decimal]):
    """A column of paise that is read and written as ₹."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """To the database."""
        if value is None:
            return None
        paise = value / PAISA
        if paise != paise.to_integral_value():
            raise ValueError(f"{value} is no whole number of paise")
        return int(paise)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """From the database."""
        return None if value is None else Decimal(value) * PAISA
