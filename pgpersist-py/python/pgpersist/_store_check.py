"""What a store can really do, found out by trying."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional

from pgpersist._report import Report


class Fitness(enum.Enum):
    """Whether a store is good for backups."""

    GOOD = "good"
    #: It can be used, with weaker promises that the findings tell.
    WEAK = "weak"
    #: It is not to be used.
    UNFIT = "unfit"


@dataclass(frozen=True)
class StoreFinding(Report):
    """Something that was asked of a store.

    Attributes:
        name: what was asked, such as ``conditional_put``.
        status: ``pass``, ``unknown``, ``warn`` or ``fail``.
        summary: the answer.
        remedy: what to do about it, where something can be done.
    """

    name: str
    status: str
    summary: str
    remedy: Optional[str]


@dataclass(frozen=True)
class StoreCheck(Report):
    """What was found out about a store.

    Attributes:
        store: what it is called.
        fitness: whether it is good for backups.
        findings: everything that was asked.
    """

    store: str
    fitness: Fitness
    findings: tuple[StoreFinding, ...]
