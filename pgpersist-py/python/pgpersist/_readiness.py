"""``Readiness``: whether a cluster's server answers, for probes and for requests that wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Callable, Optional

from pgpersist import _server_answer
from pgpersist._agent import Agent
from pgpersist._cluster import Cluster
from pgpersist._exceptions import PgPersistError
from pgpersist._faces import awaited
from pgpersist._kept import Kept
from pgpersist._server_reports import ServerState, ServerStatus

#: How long whoever asks waits, whatever hangs; in seconds, as all here.
DEADLINE = 2.0
#: How long an answer of the server stays: probes cannot hammer it.
_ANSWER_LASTS = 1.0
#: How long a look at the files and the agent of another process stays.
_LOOK_LASTS = 0.1
#: How often whoever waits for a server looks again.
_AGAIN = 0.05

#: What an agent does before it has a server of its own.
_ON_THE_WAY = ("preparing", "starting")
_PHASE_OF = {
    ServerState.RUNNING: "ready",
    ServerState.RECOVERING: "recovering",
    ServerState.STARTING: "starting",
    ServerState.STOPPING: "stopping",
}


@dataclass(frozen=True)
class Look:
    """A look at the server.

    Attributes:
        obstacle: what keeps it from being ready, in one line; ``None`` when nothing does.
        phase: what the agent of the cluster does, whichever process it lives in; without one, the state of the server.
        phase_s: for how many seconds, where there is an agent.
        pid: the postmaster's process id.
        restarts: how often it was started again after it had ended by itself.
        recovery: how far a recovery is.
        is_supervised: whether there is an agent.
    """

    obstacle: Optional[str]
    phase: str
    phase_s: Optional[float] = None
    pid: Optional[int] = None
    restarts: int = 0
    recovery: Optional[Any] = None
    is_supervised: bool = False

    @property
    def word(self) -> str:
        """``ready``, ``unready``, or the phase."""
        if self.obstacle is None:
            return "ready"
        return "unready" if self.phase == "ready" else self.phase


class Readiness:
    """Whether the server of a cluster answers: bounded, kept for a moment, asked once for all.

    Args:
        agent: the agent of this process, where it has one.
    """

    def __init__(self, cluster: Cluster, agent: Callable[[], Optional[Agent]] = lambda: None) -> None:
        self.cluster = cluster
        self._agent = agent
        self._status = Kept(cluster.status_async, lasts=_LOOK_LASTS)
        self._answer = Kept(self._ask, lasts=_ANSWER_LASTS)
        #: A server that does not let us in, as one whose rules know no root.
        self._turned_away_by: Optional[tuple[str, int]] = None

    async def look(self) -> Look:
        """Looks; answers within :data:`DEADLINE` whatever hangs."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DEADLINE
        try:
            seen = await self._seen()
        except asyncio.TimeoutError:
            return Look(f"the data directory could not be looked at within {DEADLINE:g} s", "unknown")
        except PgPersistError as error:
            return Look(str(error), "unknown")
        if seen.phase != "ready":
            return seen
        try:
            about = (seen.pid, seen.restarts)
            obstacle = await self._answer.get(timeout=max(until - loop.time(), 0.01), about=about)
        except asyncio.TimeoutError:
            obstacle = f"the server did not answer within {DEADLINE:g} s"
        except PgPersistError as error:
            obstacle = str(error)
        return Look(obstacle, *_rest(seen))

    async def wait(self, timeout: float) -> Look:
        """Waits until it is ready, at most so many seconds; the last look tells whether it is."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            look = await self.look()
            if look.obstacle is None or loop.time() >= until:
                return look
            await asyncio.sleep(min(_AGAIN, max(until - loop.time(), 0)))

    async def _seen(self) -> Look:
        """What is seen without asking the server: by our own agent, else by files and the socket of another one."""
        agent = self._agent()
        if agent is not None and agent.is_running:
            view = (await agent.status_async()).to_dict()
            if view["phase"] not in _ON_THE_WAY:
                return _of_agent(view)
            return _of_status(await self._status.get(timeout=DEADLINE), view)
        status = await self._status.get(timeout=DEADLINE)
        return _of_status(status, agent_of(status))

    async def _ask(self) -> Optional[str]:
        host, port, user, _password = await awaited(self.cluster._native.connection("postgres"))
        answered = await _server_answer.ask(
            host, port, user, "postgres", timeout=DEADLINE, log_in=self._turned_away_by != (host, port)
        )
        if answered.lets_in is False:
            self._turned_away_by = (host, port)
        return answered.obstacle


def _of_status(status: ServerStatus, view: Optional[dict[str, Any]]) -> Look:
    if view is not None:
        if view["phase"] in _ON_THE_WAY and status.state is ServerState.RUNNING:
            # An agent that is about to adopt a server does not keep anybody from it.
            view = {**view, "phase": "ready"}
        return _of_agent({**view, "pid": status.pid})
    phase = _PHASE_OF.get(status.state, status.state.value)
    obstacle = None
    if phase != "ready":
        obstacle = f"the server is {phase}" + (f": {status.detail}" if status.detail else "")
    return Look(obstacle, phase, pid=status.pid)


def _of_agent(view: dict[str, Any]) -> Look:
    phase = view["phase"]
    obstacle = None
    if phase != "ready":
        failure = view.get("last_failure")
        obstacle = f"the server is {phase}" + (f": {failure}" if failure and phase == "waiting" else "")
    return Look(
        obstacle, phase, view.get("phase_s"), view.get("pid"), view.get("restarts", 0), view.get("recovery"), True
    )


def _rest(look: Look) -> tuple[str, Optional[float], Optional[int], int, Optional[Any], bool]:
    return look.phase, look.phase_s, look.pid, look.restarts, look.recovery, look.is_supervised


def agent_of(status: ServerStatus) -> Optional[dict[str, Any]]:
    """What the agent that supervises a cluster says of itself, in whichever process it lives."""
    view = status._document.get("agent")
    return view if isinstance(view, dict) else None
