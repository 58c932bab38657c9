"""``Overview``: how it stands with a cluster's persistence, on one page for people."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Optional

from pgpersist._health import HealthReport, HealthStatus
from pgpersist._progress import logger
from pgpersist._report import Report

if TYPE_CHECKING:
    from pgpersist._native import NativeOverview


@dataclass(frozen=True)
class Gap(Report):
    """Something that could not be found out.

    Attributes:
        part: which part of the overview: a key of :meth:`Overview.to_dict`.
        reason: why it is not known.
        remedy: the next step, where one is known.
    """

    part: str
    reason: str
    remedy: Optional[str]


@dataclass(frozen=True)
class Overview(Report):
    """Where a cluster lies and whether that survives, its databases and dumps, what drills proved, what to do next.

    :meth:`to_dict` is the document of ``pgpersist report --format json``, with all of that.

    Attributes:
        time: when it was looked.
        program_version: the version of pgpersist that looked.
        status: the worst of all findings.
        health: what the checks found.
        gaps: what could not be found out, and why.
    """

    time: datetime
    program_version: str
    status: HealthStatus
    health: HealthReport
    gaps: tuple[Gap, ...]
    _native: Any = field(default=None, repr=False, compare=False)

    def to_markdown(self) -> str:
        """The page as Markdown."""
        page: str = self._native.markdown()
        return page

    def to_html(self) -> str:
        """The page as one file of HTML that needs nothing from anywhere, in dark and light."""
        page: str = self._native.html()
        return page

    @classmethod
    def _looked(cls, native: NativeOverview) -> Overview:
        overview = dataclasses.replace(cls._of(native.document()), _native=native)
        for gap in overview.gaps:
            logger.warning("%s not known: %s", gap.part, gap.reason)
        return overview
