"""``Probes``: the answers of ``/livez``, ``/readyz``, ``/startupz``, ``/health`` and ``/metrics``, apart from any
framework."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Sequence, Union

from pgpersist._agent_status import AgentPhase
from pgpersist._arguments import flag
from pgpersist._cluster import Cluster
from pgpersist._exceptions import InvalidError
from pgpersist._health import HealthCheck, standing_checks, tables_of
from pgpersist._kept import Busy, Kept
from pgpersist._native import VERSION
from pgpersist._readiness import Look, Readiness
from pgpersist._supervision import Supervision

if TYPE_CHECKING:
    from pgpersist._health import HealthReport

#: The pages there are.
PAGES = ("livez", "readyz", "startupz", "health", "metrics")

#: For how many seconds a report is shown, how long one may take, and how many wait for it at most: as `pgpersist run`
#: has it.
_REPORT_LASTS, _REPORT_DEADLINE, _MOST_WAITING = 5.0, 20.0, 16
_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP.

    Attributes:
        headers: those that are its own; see :meth:`all_headers`.
    """

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = field(default=())

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """As ASGI takes them."""
        common = (
            ("content-type", self.content_type),
            ("content-length", str(len(self.body))),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        )
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*common, *self.headers)]


class Probes:
    """What the pages of a cluster say.

    Args:
        cluster: the cluster, or this worker's part in it, which knows more.
        token: what opens the details; a path is a file that holds it.
        open_details: show them to everybody.
        checks: the user's own questions, besides those that this worker's part has.
        tables: tables whose rows are counted.
    """

    def __init__(
        self,
        cluster: Union[Cluster, Supervision],
        *,
        token: Union[str, Path, None] = None,
        open_details: bool = False,
        checks: Sequence[HealthCheck] = (),
        tables: Sequence[str] = (),
    ) -> None:
        self._supervision = cluster if isinstance(cluster, Supervision) else None
        if isinstance(cluster, Supervision):
            self._cluster, self._readiness = cluster.cluster, cluster.readiness
        elif isinstance(cluster, Cluster):
            self._cluster, self._readiness = cluster, Readiness(cluster)
        else:
            raise TypeError(f"cluster is a pgpersist.Cluster or a lifespan, not a {type(cluster).__name__}")
        self._token = _token(self._cluster, token)
        self._open_details = flag(open_details, "open_details")
        known = () if self._supervision is None else self._supervision.checks
        # Checked first: errors tell of the argument.
        given = [check.asked for check in standing_checks(checks)]
        more = [check for check in given if not any(check is other for other in known)]
        self._checks = standing_checks([*known, *more])
        self._tables = tables_of(tables)
        self._has_been_ready = False
        self._report = Kept(self._look_at_all, lasts=_REPORT_LASTS, most_waiting=_MOST_WAITING)

    async def answer(self, page: str, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
        """The answer to a request for one of :data:`PAGES`."""
        if method not in ("GET", "HEAD"):
            return Answer(405, b"only GET and HEAD\n", headers=(("allow", "GET, HEAD"),))
        sees_details = self._open_details or self._fits(headers)
        if page == "livez":
            return await self._live(sees_details)
        if page == "readyz":
            return await self._ready(sees_details)
        if page == "startupz":
            return await self._started(sees_details)
        if not sees_details:
            return Answer(401, b"a token is needed\n", headers=(("www-authenticate", "Bearer"),))
        return await self._health() if page == "health" else await self._metrics()

    def _fits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        if self._token is None:
            return False
        for name, value in headers:
            if name.lower() == b"authorization" and value[:7].lower() == b"bearer ":
                return hmac.compare_digest(value[7:].strip(), self._token)
        return False

    # -- the probes

    async def _live(self, sees_details: bool) -> Answer:
        silent = None if self._supervision is None else self._supervision.silent_for
        if silent is None:
            # Not a look at the server: whether that hangs is no question of this process's life.
            return await self._probe(200, "alive", None, None, sees_details)
        return await self._probe(503, "stuck", f"the loop has not turned for {silent:.0f} s", None, sees_details)

    async def _ready(self, sees_details: bool) -> Answer:
        look = await self._readiness.look()
        self._has_been_ready |= look.obstacle is None
        reason = look.obstacle
        if reason is not None and self._supervision is not None and self._supervision.failure is not None:
            reason = f"{reason}; {self._supervision.failure}"
        return await self._probe(200 if look.obstacle is None else 503, look.word, reason, look, sees_details)

    async def _started(self, sees_details: bool) -> Answer:
        has_started = self._supervision.has_started if self._supervision is not None else self._has_been_ready
        if has_started:
            return await self._probe(200, "started", None, None, sees_details)
        look = await self._readiness.look()
        if look.obstacle is None or look.phase == AgentPhase.FENCED.value:
            self._has_been_ready = True
            return await self._probe(200, "started", None, look, sees_details)
        return await self._probe(503, look.word, look.obstacle, look, sees_details)

    async def _probe(
        self, status: int, state: str, reason: Optional[str], look: Optional[Look], sees_details: bool
    ) -> Answer:
        if not sees_details:
            return Answer(status, f"{state}\n".encode())
        if look is None:
            look = await self._readiness.look()
        document: dict[str, Any] = {
            "state": state,
            "reason": reason,
            "phase": look.phase,
            "phase_s": look.phase_s,
            "pid": look.pid,
            "restarts": look.restarts,
            "recovery": look.recovery,
        }
        if self._supervision is not None:
            document["is_owner"] = self._supervision.is_owner
        return _json(status, document)

    # -- what costs something

    async def _look_at_all(self) -> HealthReport:
        return await self._cluster.health_async(tables=self._tables, checks=self._checks)

    async def _health(self) -> Answer:
        try:
            report = await self._report.get(timeout=_REPORT_DEADLINE)
        except (Busy, asyncio.TimeoutError):
            return _later()
        return _json(200 if report.is_ok else 503, report.to_dict())

    async def _metrics(self) -> Answer:
        look = await self._readiness.look()
        text = _agent_metrics(look)
        if self._supervision is not None:
            text += _gauge("pgpersist_worker_is_owner", "1 in the worker that the cluster's agent lives in.")
            text += f"pgpersist_worker_is_owner {int(self._supervision.is_owner)}\n"
        try:
            text += (await self._report.get(timeout=_REPORT_DEADLINE)).to_prometheus()
        except (Busy, asyncio.TimeoutError):
            return _later()
        return Answer(200, text.encode(), _PROMETHEUS)


def _token(cluster: Cluster, token: Union[str, Path, None]) -> Optional[bytes]:
    if token is None:
        configured = [value.value for value in cluster.config.values() if value.key == "health.token_file"]
        if not configured or not configured[0]:
            return None
        token = Path(configured[0])
    if isinstance(token, Path):
        try:
            token = token.read_text().rstrip("\r\n")
        except OSError as error:
            raise InvalidError("the token's file cannot be read", causes=[str(error)]) from error
    if not isinstance(token, str):
        raise TypeError(f"token is a str or a Path, not a {type(token).__name__}")
    if not token.strip() or any(letter.isspace() for letter in token.strip()):
        raise ValueError("token is one word that nobody can guess")
    return token.strip().encode()


def _json(status: int, document: object) -> Answer:
    return Answer(status, json.dumps(document).encode() + b"\n", _JSON)


def _later() -> Answer:
    return Answer(503, b"the report is not ready yet\n", headers=(("retry-after", "5"),))


def _agent_metrics(look: Look) -> str:
    text = _gauge("pgpersist_build_info", "Always 1, with the version of pgpersist.")
    text += f'pgpersist_build_info{{version="{VERSION}"}} 1\n'
    if not look.is_supervised:
        return text
    text += _gauge("pgpersist_agent_phase", "What the agent is doing: 1 for that phase, 0 for the others.")
    for phase in AgentPhase:
        text += f'pgpersist_agent_phase{{phase="{phase.value}"}} {int(phase.value == look.phase)}\n'
    if look.phase_s is not None:
        text += _gauge("pgpersist_agent_phase_seconds", "For how long the agent has been in its phase.")
        text += f"pgpersist_agent_phase_seconds {look.phase_s}\n"
    help_text = "How often the server was started again after it had ended by itself."
    text += f"# HELP pgpersist_server_restarts_total {help_text}\n# TYPE pgpersist_server_restarts_total counter\n"
    return text + f"pgpersist_server_restarts_total {look.restarts}\n"


def _gauge(name: str, help_text: str) -> str:
    return f"# HELP {name} {help_text}\n# TYPE {name} gauge\n"
