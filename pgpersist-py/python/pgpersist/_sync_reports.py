"""What operations on copies in other stores tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from pgpersist._report import Report


@dataclass(frozen=True)
class NotCopied(Report):
    """A dump that is left as it is.

    Attributes:
        name: its name.
        reason: why.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class StoreSync(Report):
    """What became of one store that receives copies.

    Attributes:
        place: its place among the stores; the first one has 1.
        store: what it is called.
        copied: how many dumps, those of roles included, were copied.
        bytes: how many bytes that were.
        behind: how many dumps are still missing there; ``None`` where that is not known.
        behind_s: by how many seconds its newest dump is older than the first store's; ``None`` where that is not known.
        conflicts: what lies there under the same name and is something else.
        damaged: what is damaged in the first store, and was not copied.
        error: what kept the rest from being copied; ``None`` where nothing did.
        remedy: what to do about that.
    """

    place: int
    store: str
    copied: int
    bytes: int
    behind: Optional[int]
    behind_s: Optional[float]
    conflicts: tuple[NotCopied, ...]
    damaged: tuple[NotCopied, ...]
    error: Optional[str]
    remedy: Optional[str]

    @property
    def is_up_to_date(self) -> bool:
        """Whether it has all that it is to have."""
        return self.error is None and not self.conflicts and not self.damaged


@dataclass(frozen=True)
class SyncReport(Report):
    """What became of all copies: each store by itself, since one that is down delays no other."""

    stores: tuple[StoreSync, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_up_to_date(self) -> bool:
        """Whether all copies have what they are to have."""
        return all(store.is_up_to_date for store in self.stores)


@dataclass(frozen=True)
class PlannedCopy(Report):
    """A dump that would be copied.

    Attributes:
        name: its name there.
        bytes: how much is read of the first store.
    """

    name: str
    bytes: int


@dataclass(frozen=True)
class StoreSyncPlan(Report):
    """What would be done with one store that receives copies.

    Attributes:
        place: its place among the stores; the first one has 1.
        store: what it is called.
        copies: what would be copied, in this order; ``None`` where it does not answer.
        conflicts: what lies there under the same name and is something else.
        damaged: what is damaged in the first store.
        left_out: what retention there would drop at once.
        error: why nothing is known of it.
        remedy: what to do about that.
    """

    place: int
    store: str
    copies: Optional[tuple[PlannedCopy, ...]]
    conflicts: Optional[tuple[NotCopied, ...]]
    damaged: Optional[tuple[NotCopied, ...]]
    left_out: Optional[tuple[NotCopied, ...]]
    error: Optional[str]
    remedy: Optional[str]


@dataclass(frozen=True)
class SyncPlan(Report):
    """What :meth:`Cluster.sync` would do."""

    stores: tuple[StoreSyncPlan, ...]
