"""``Plan``: what an operation would do, for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgpersist._report import Report


@dataclass(frozen=True)
class Plan(Report):
    """What an operation would do. :meth:`to_dict` is the document of the command's ``--dry-run --json``.

    Attributes:
        steps: the steps in their order, for people.
        warnings: what should be known beforehand.
    """

    steps: tuple[str, ...] = field(metadata={"key": "plan"})
    warnings: tuple[str, ...] = ()
