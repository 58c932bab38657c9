"""``Agent``: makes a cluster ready, starts its server, and stays with it."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Optional, Sequence

from pgpersist import _native
from pgpersist._agent_status import AgentStatus
from pgpersist._arguments import flag, of_type
from pgpersist._cluster import Cluster
from pgpersist._faces import awaited, blocking
from pgpersist._health import HealthCheck, natives_of, standing_checks
from pgpersist._seconds import Seconds, deadline

_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "NOTICE": logging.INFO,
    "LOG": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.ERROR,
    "PANIC": logging.CRITICAL,
}

#: Agents that run: one that nobody holds any more must not end by itself.
_running: set[Agent] = set()


class Agent:
    """What ``pgpersist run`` does, inside of this process: makes the data directory ready, starts the server, starts it again
    when it crashes, does the scheduled dumps, prunes and drills of the configuration, and tells its hooks.

    A server that runs already, as after a crash of the process, is adopted. Of several processes one alone gets the cluster:
    the others' :meth:`start` raises ``ConflictError``. What it says is logged to ``pgpersist.agent``, the server's log to
    ``pgpersist.server``, with its levels. Without :meth:`stop`, the server runs on when the process ends, and the next agent
    adopts it; no file is ever removed. A child that is forked from this process has no part in it.

    Use it as a context manager, ``with`` or ``async with``; or call :meth:`start` and :meth:`stop`. Signals are the
    program's own affair.

    Args:
        cluster: the cluster, with its schedules and all else in its configuration.
        allow_ephemeral: accept a place that does not survive this machine.
        trust_stale_pid: a left ``postmaster.pid`` is stale although nothing proves it.
        stop_timeout: how long a clean shutdown may take before an immediate one follows.
        ready_timeout: how long entering the context waits for the server.
        checks: your own questions, asked beside the library's: ``/health``, ``/metrics``, the status page and the hooks
            tell of them. They live as long as the agent, also over a reload.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        allow_ephemeral: bool = False,
        trust_stale_pid: bool = False,
        stop_timeout: Seconds = 60,
        ready_timeout: Seconds = 600,
        checks: Sequence[HealthCheck] = (),
    ) -> None:
        self.cluster = of_type(cluster, Cluster, "cluster")
        self._ready_timeout = deadline(ready_timeout, "ready_timeout")
        self._native = _native.NativeAgent(
            cluster._native,
            flag(allow_ephemeral, "allow_ephemeral"),
            flag(trust_stale_pid, "trust_stale_pid"),
            deadline(stop_timeout, "stop_timeout"),
            natives_of(standing_checks(checks)),
        )

    def begin(self) -> None:
        """Sets it going and does not wait; see :meth:`wait_until_ready` and :meth:`wait`."""
        self._native.begin(_log)
        _running.add(self)

    def start(self) -> Agent:
        """Sets it going and waits until the server accepts connections.

        Raises:
            ConflictError: another process has the cluster.
            UnsafeError: making the directory ready could lose data; the remedy says how to insist.
            DeadlineError: the server is not ready within ``ready_timeout``; the agent goes on.
        """
        self.begin()
        self.wait_until_ready(timeout=self._ready_timeout)
        return self

    async def start_async(self) -> Agent:
        """As :meth:`start`. Cancelling ends the wait; the agent goes on until it is stopped."""
        self.begin()
        await self.wait_until_ready_async(timeout=self._ready_timeout)
        return self

    def wait_until_ready(self, *, timeout: Seconds = 600) -> None:
        """Waits until the server accepts connections.

        Raises:
            DeadlineError: it does not, within the time.
            PgPersistError: the agent has ended, with its error.
        """
        try:
            blocking(self._native.ready(deadline(timeout, "timeout")))
        finally:
            self._forget_if_ended()

    async def wait_until_ready_async(self, *, timeout: Seconds = 600) -> None:
        """As :meth:`wait_until_ready`."""
        try:
            await awaited(self._native.ready(deadline(timeout, "timeout")))
        finally:
            self._forget_if_ended()

    def wait(self) -> None:
        """Waits for the agent's end, and raises its error if it ended by one."""
        try:
            blocking(self._native.ended())
        finally:
            self._forget_if_ended()

    async def wait_async(self) -> None:
        """As :meth:`wait`."""
        try:
            await awaited(self._native.ended())
        finally:
            self._forget_if_ended()

    def stop(self, *, immediate: bool = False) -> None:
        """Shuts the server down, and waits for the agent's end. May be repeated: a second one makes the shutdown immediate.

        Args:
            immediate: cut sessions off; the next start recovers.
        """
        try:
            blocking(self._native.stop(flag(immediate, "immediate")))
        finally:
            self._forget_if_ended()

    async def stop_async(self, *, immediate: bool = False) -> None:
        """As :meth:`stop`."""
        try:
            await awaited(self._native.stop(flag(immediate, "immediate")))
        finally:
            self._forget_if_ended()

    def reload(self, cluster: Cluster) -> None:
        """Goes on with another configuration of the same cluster; what cannot change meanwhile counts from the next start."""
        blocking(self._native.reload(of_type(cluster, Cluster, "cluster")._native))
        self.cluster = cluster

    async def reload_async(self, cluster: Cluster) -> None:
        """As :meth:`reload`."""
        await awaited(self._native.reload(of_type(cluster, Cluster, "cluster")._native))
        self.cluster = cluster

    def status(self) -> AgentStatus:
        """What it is doing."""
        return AgentStatus._of(blocking(self._native.status()))

    async def status_async(self) -> AgentStatus:
        """As :meth:`status`."""
        return AgentStatus._of(await awaited(self._native.status()))

    @property
    def is_running(self) -> bool:
        """Whether it has been started in this process and has not ended."""
        return self._native.is_running

    def _forget_if_ended(self) -> None:
        if not self._native.is_running:
            _running.discard(self)

    def __enter__(self) -> Agent:
        try:
            return self.start()
        except BaseException:
            self._stop_if_running()
            raise

    def __exit__(
        self, _type: Optional[type[BaseException]], _error: Optional[BaseException], _traceback: Optional[TracebackType]
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Agent:
        try:
            return await self.start_async()
        except BaseException:
            if self.is_running:
                await self.stop_async()
            raise

    async def __aexit__(
        self, _type: Optional[type[BaseException]], _error: Optional[BaseException], _traceback: Optional[TracebackType]
    ) -> None:
        await self.stop_async()

    def _stop_if_running(self) -> None:
        if self.is_running:
            self.stop()

    def __repr__(self) -> str:
        return f"<Agent of {self.cluster!r}, {'running' if self.is_running else 'not running'}>"


_SPEAKERS = {"agent": logging.getLogger("pgpersist.agent"), "server": logging.getLogger("pgpersist.server")}


def _log(speaker: str, severity: str, text: str) -> None:
    _SPEAKERS[speaker].log(_LEVELS.get(severity, logging.INFO), "%s", text)
