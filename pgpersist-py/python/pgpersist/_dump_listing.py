"""``DumpListing``: the dumps of a cluster, and the stores that were asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional, Union, overload

from pgpersist._report import Report


@dataclass(frozen=True)
class DumpEntry(Report):
    """A dump in the stores.

    Attributes:
        name: its name.
        database: of which database, where that is known.
        taken_at: when.
        size_bytes: as stored.
        encrypted: whether it is encrypted.
        rows: how many rows it holds, where that was recorded.
        stores: the places of the stores that have it; the first one has 1.
    """

    name: str
    database: Optional[str]
    taken_at: datetime
    size_bytes: int
    encrypted: bool = False
    rows: Optional[int] = None
    stores: tuple[int, ...] = ()


@dataclass(frozen=True)
class ListedStore(Report):
    """A store that was asked for its dumps.

    Attributes:
        place: its place among the stores; the first one has 1.
        store: what it is called.
        error: why it did not answer; ``None`` where it did.
    """

    place: int
    store: str
    error: Optional[str]


@dataclass(frozen=True, eq=False)
class DumpListing(Report, Sequence[DumpEntry]):
    """The dumps of a cluster, the newest first: a sequence of them, equal to any other with the same dumps.

    Attributes:
        dumps: the same as a tuple.
        stores: the stores that were asked. The dumps of one that did not answer are missing here.
        warnings: what should be known, such as that a store did not answer or its folder is not there.
    """

    dumps: tuple[DumpEntry, ...]
    stores: tuple[ListedStore, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every store answered."""
        return all(store.error is None for store in self.stores)

    @overload
    def __getitem__(self, index: int) -> DumpEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[DumpEntry, ...]: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[DumpEntry, tuple[DumpEntry, ...]]:
        return self.dumps[index]

    def __len__(self) -> int:
        return len(self.dumps)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (DumpListing, list, tuple)):
            return self.dumps == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.dumps)
