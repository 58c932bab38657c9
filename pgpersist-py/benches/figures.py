"""What a bench has measured: a line of JSON for each figure on stdout, a table on stderr, each beside its target.

A figure that misses its target is told and is no failure: how long something takes depends on what else the machine does.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from dataclasses import dataclass
from typing import Any, Optional, Sequence


@dataclass(frozen=True)
class Figure:
    """Something that was measured, once or more often.

    Attributes:
        name: what it is of.
        unit: of the values.
        values: each measured one.
        most: what the median has to be at most, where there is a target.
    """

    name: str
    unit: str
    values: Sequence[float]
    most: Optional[float] = None

    def is_met(self) -> Optional[bool]:
        """Whether the median is as small as was wanted; what was not seen is not."""
        if self.most is None:
            return None
        return bool(self.values) and statistics.median(self.values) <= self.most

    def document(self) -> dict[str, Any]:
        """As it is written for programs. Of what was not seen, the numbers are null."""
        values = sorted(self.values)
        return {
            "figure": self.name,
            "unit": self.unit,
            "count": len(values),
            "min": round(values[0], 3) if values else None,
            "median": round(statistics.median(values), 3) if values else None,
            "p95": round(values[math.ceil(0.95 * len(values)) - 1], 3) if values else None,
            "max": round(values[-1], 3) if values else None,
            "target": self.most,
            "met": self.is_met(),
            "told": self._told(),
        }

    def _told(self) -> str:
        """In a sentence, for tables of others."""
        if self.values:
            low, median, high = min(self.values), statistics.median(self.values), max(self.values)
            said = f"median {median:.2f} {self.unit}, from {low:.2f} to {high:.2f}, of {len(self.values)}"
        else:
            said = "was not seen"
        if self.most is None:
            return said
        return f"{said}; at most {self.most:g} {self.unit} wanted: {'met' if self.is_met() else 'missed'}"


def head() -> None:
    """The table's first line."""
    print(
        f"{'':72} {'count':>6} {'min':>9} {'median':>9} {'p95':>9} {'max':>9} {'':4} target",
        file=sys.stderr,
        flush=True,
    )


def tell(figures: Sequence[Figure]) -> None:
    """Writes them down."""
    for figure in figures:
        document = figure.document()
        print(json.dumps(document, ensure_ascii=False), flush=True)
        numbers = " ".join(
            f"{'-' if document[name] is None else format(document[name], '.2f'):>9}"
            for name in ("min", "median", "p95", "max")
        )
        target = "" if figure.most is None else f"{figure.most:g}, {'met' if document['met'] else 'MISSED'}"
        print(
            f"{figure.name:<72} {document['count']:>6} {numbers} {figure.unit:<4} {target}", file=sys.stderr, flush=True
        )
