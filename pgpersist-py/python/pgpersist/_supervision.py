"""``Supervision``: a cluster's life as one worker of an application sees it: owned by this one, or by another.

Every worker runs the same loop. One of them owns the cluster, through an :class:`~pgpersist.Agent` and its claim; the
others use its server, and one of them becomes the owner when there is none any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from types import TracebackType
from typing import Literal, Optional, Sequence

from pgpersist._agent import Agent
from pgpersist._agent_status import AgentPhase
from pgpersist._arguments import flag, of_type
from pgpersist._cluster import Cluster
from pgpersist._database_url import database_url, database_url_async
from pgpersist._exceptions import ConflictError, DeadlineError, InvalidError, PgPersistError
from pgpersist._health import HealthCheck, standing_checks
from pgpersist._readiness import Readiness, agent_of
from pgpersist._seconds import Seconds, deadline
from pgpersist._server_reports import ServerState, ServerStatus
from pgpersist._worker_group import WorkerGroup

OnExit = Literal["stop", "detach"]

logger = logging.getLogger("pgpersist.workers")

#: How often a worker looks after the cluster, in seconds, as all here.
_TURN = 1.0
#: The same while it waits for its first server.
_EAGER = 0.1
#: What was seen so short a time ago still holds: nobody stops a server by hand and starts another one in it.
_FRESH = 4 * _TURN
#: After an owner's failure, twice as long each time.
_AFTER_FAILURE, _AFTER_FAILURES = 1.0, 30.0
#: A server that has refused so often to be supervised is not asked again.
_REFUSED = 3
#: A loop that has not turned for so long is stuck.
_STUCK = 30.0
#: What a shutdown may take beyond the server's own time for it.
_MARGIN = 30.0
#: Owners that have left while others serve on: their agents live until the process ends, and the lease says so.
_handed_over: list[WorkerGroup] = []


class Supervision:
    """Keeps a cluster up while a worker of an application lives; of several workers on one machine, one owns the
    cluster.

    Entering it waits for a server: this worker's own, made ready, started or adopted by an :class:`~pgpersist.Agent`;
    or, where another worker, or ``pgpersist run``, has the cluster, that one's. A worker that owns nothing looks
    every second: when the owner has died, it takes over, and the server, which outlives its owner, goes on. So the
    server is up as long as any worker is, also while they are replaced one after the other. When an owner fails, as
    by a full disk, it tries again, at first after a second, later after thirty. A server that somebody has shut down
    (``pgpersist stop``) stays down until somebody starts it (``pgpersist start``, or the next worker that starts up);
    a fence keeps it down until it is taken away.

    Leaving it, with ``on_exit="stop"``, stops the server when the last worker on this machine leaves; others serve to
    their end. A server that somebody else supervises is never stopped. With ``on_exit="detach"`` the server runs on;
    the process's end releases the cluster, and whoever comes next adopts it. So it is, too, when the process is
    killed or ends without leaving. No file is ever removed.

    Args:
        cluster: the cluster, with its schedules and all else in its configuration. The dumps, drills and hooks that it
            configures are the owner's.
        attach_only: never own it: use the server that somebody else runs.
        wait: whether entering waits until the server accepts connections. Without it the application serves at once,
            and its probes tell how far the server is; what cannot succeed is logged, and tried again.
        on_exit: ``stop`` or ``detach``.
        ready_timeout: how long entering waits, in seconds. A recovery that takes longer goes on, and the next start
            adopts it.
        stop_timeout: how long a clean shutdown may take before an immediate one follows, in seconds.
        allow_ephemeral: accept a place that does not survive this machine.
        trust_stale_pid: a left ``postmaster.pid`` is stale although nothing proves it.
        checks: your own questions, asked beside the library's by the cluster's agent, where it lives in this worker, and
            by the routes that are made with this one.

    Raises:
        DeadlineError: entering: the server is not ready in time.
        UnsafeError: entering: making the directory ready could lose data; the remedy says how to insist.
        PgPersistError: entering: whatever else keeps the server from starting. Who is just busy with it is waited for.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        attach_only: bool = False,
        wait: bool = True,
        on_exit: OnExit = "stop",
        ready_timeout: Seconds = 600,
        stop_timeout: Seconds = 60,
        allow_ephemeral: bool = False,
        trust_stale_pid: bool = False,
        checks: Sequence[HealthCheck] = (),
    ) -> None:
        of_type(cluster, Cluster, "cluster")
        if on_exit not in ("stop", "detach"):
            raise ValueError(f"on_exit is 'stop' or 'detach', not {on_exit!r}")
        self.cluster = cluster
        self._attach_only = flag(attach_only, "attach_only")
        self._wait = flag(wait, "wait")
        self._on_exit = on_exit
        self._ready_timeout = deadline(ready_timeout, "ready_timeout")
        self._stop_timeout = deadline(stop_timeout, "stop_timeout")
        self._allow_ephemeral = flag(allow_ephemeral, "allow_ephemeral")
        self._trust_stale_pid = flag(trust_stale_pid, "trust_stale_pid")
        self.checks = tuple(check.asked for check in standing_checks(checks))
        self._agent: Optional[Agent] = None
        self.readiness = Readiness(cluster, lambda: self._agent)
        self._reset()

    def _reset(self) -> None:
        self._group: Optional[WorkerGroup] = None
        self._watching: Optional[asyncio.Task[None]] = None
        self._failure: Optional[PgPersistError] = None
        self._failures = 0
        self._has_started = False
        self._gave_up = False
        #: The process of the server that one of this application's workers supervises, or did.
        self._our_pid: Optional[int] = None
        #: When such a server was last seen supervised.
        self._seen_ours = -math.inf
        #: The process of a server that refuses to be supervised, and how often it did.
        self._refusing: tuple[Optional[int], int] = (None, 0)
        self._turned = time.monotonic()

    # -- how it stands

    @property
    def is_entered(self) -> bool:
        """Whether the worker serves, or starts up."""
        return self._watching is not None

    @property
    def is_owner(self) -> bool:
        """Whether the cluster's agent lives in this process."""
        return self._agent is not None and self._agent.is_running

    @property
    def has_started(self) -> bool:
        """Whether a server has been up in this worker's life, or is kept down by a fence."""
        return self._has_started

    @property
    def failure(self) -> Optional[PgPersistError]:
        """Why this worker could not get a server up, the last time it tried; none where there is one."""
        return self._failure

    @property
    def silent_for(self) -> Optional[float]:
        """For how many seconds its loop has not turned, when that is too long."""
        silent = time.monotonic() - self._turned
        return silent if self.is_entered and silent > _STUCK else None

    def url(self, database: Optional[str] = None, *, driver: Optional[str] = None) -> str:
        """How clients on this machine connect; see :func:`pgpersist.asgi.database_url`."""
        return database_url(self.cluster, database, driver=driver)

    async def url_async(self, database: Optional[str] = None, *, driver: Optional[str] = None) -> str:
        """As :meth:`url`."""
        return await database_url_async(self.cluster, database, driver=driver)

    # -- coming and going

    async def __aenter__(self) -> Supervision:
        if self.is_entered:
            raise RuntimeError("this lifespan is entered already: make one for each application")
        directory = self.cluster.data_directory
        if directory is None:
            raise InvalidError(
                "the cluster has no data directory",
                remedy='set `[cluster] data_directory`, or name it: `Cluster("/srv/app/pgdata")`',
            )
        self._reset()
        self._group = group = WorkerGroup(directory)
        # Whoever leaves as the last one may take so long.
        async with group.door(self._stop_timeout + _MARGIN):
            group.join()
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        try:
            if self._wait:
                await self._until_ready()
        except DeadlineError:
            # A recovery goes on without us, and the next start adopts it.
            await self._leave(stop=False)
            raise
        except BaseException:
            await self._leave(stop=self._on_exit == "stop")
            raise
        return self

    async def __aexit__(
        self, _type: Optional[type[BaseException]], _error: Optional[BaseException], _traceback: Optional[TracebackType]
    ) -> None:
        await self._leave(stop=self._on_exit == "stop")

    async def _until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._ready_timeout
        while True:
            look = await self.readiness.wait(min(_EAGER, max(until - loop.time(), 0)))
            if look.obstacle is None:
                self._has_started = True
                return
            if self._gave_up and self._failure is not None:
                raise self._failure
            if loop.time() >= until:
                message = f"the server in {self.cluster.data_directory} was not ready within {self._ready_timeout:g} s"
                raise DeadlineError(
                    message,
                    remedy="look at what `pgpersist.agent` logs; a long recovery goes on by itself",
                    causes=[look.obstacle],
                ) from self._failure

    async def _leave(self, *, stop: bool) -> None:
        group, watching = self._group, self._watching
        if group is None or watching is None:
            return
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        self._watching = None
        # A server that was started again since the last look has another process, and is no less ours.
        was_ours = time.monotonic() - self._seen_ours < _FRESH
        async with group.door(self._stop_timeout + _MARGIN):
            is_last = group.leave()
            if stop and is_last and not self._attach_only:
                try:
                    await self._stop_server(group, was_ours)
                except PgPersistError as error:
                    logger.error("the server could not be stopped: %s", error)
        if self.is_owner:
            logger.info("the server runs on: %s", "other workers use it" if stop else "it is left to the next start")
            _handed_over.append(group)
        else:
            self._agent = None
            group.lease.release()

    async def _stop_server(self, group: WorkerGroup, was_ours: bool) -> None:
        if self._agent is not None and self._agent.is_running:
            await self._agent.stop_async()
        # Nothing is left, mostly. But an agent that was only about to adopt the server has let it be.
        status = await self.cluster.status_async()
        if status.pid is None:
            return
        # The agent of a worker that left before lives until that process ends. Every other agent is somebody else's,
        # and so is a server that no worker has supervised.
        seen = was_ours or status.pid == self._our_pid
        is_ours = seen if agent_of(status) is None else group.lease.is_taken
        if is_ours:
            await self.cluster.stop_async(timeout=self._stop_timeout)

    # -- the loop

    async def _watch(self) -> None:
        while True:
            self._turned = time.monotonic()
            try:
                pause = await self._turn()
            except PgPersistError as error:
                pause = self._failed(error)
            except Exception:
                logger.exception("looking after the cluster failed")
                pause = _TURN
            await asyncio.sleep(pause)

    async def _turn(self) -> float:
        """Does what is to be done now, and tells after how many seconds to look again."""
        if self._agent is not None:
            return await self._stay_with(self._agent)
        status = await self.cluster.status_async()
        pause = _TURN if self._has_started else _EAGER
        if status.state is ServerState.RUNNING:
            self._has_started, self._failure = True, None
        if agent_of(status) is not None:
            assert self._group is not None
            if self._group.lease.is_taken:
                self._note(status.pid)
            return pause
        if self._attach_only or not self._wants_owner(status):
            return pause
        return await self._begin() or pause

    def _note(self, pid: Optional[int]) -> None:
        self._our_pid, self._seen_ours = pid, time.monotonic()

    def _wants_owner(self, status: ServerStatus) -> bool:
        if status.pid is not None:
            return self._refusing != (status.pid, _REFUSED)
        if not self._has_started:
            return True
        # Who shuts a server down wants it down: it is started again only where it has died. A crash leaves its pid
        # file.
        return (status.data_directory / "postmaster.pid").exists()

    async def _begin(self) -> Optional[float]:
        assert self._group is not None
        if not self._group.lease.take():
            # Another worker is about to.
            return None
        agent = Agent(
            self.cluster,
            allow_ephemeral=self._allow_ephemeral,
            trust_stale_pid=self._trust_stale_pid,
            stop_timeout=self._stop_timeout,
            checks=self.checks,
        )
        try:
            # It reads files.
            await asyncio.get_running_loop().run_in_executor(None, agent.begin)
        except BaseException:
            self._group.lease.release()
            raise
        self._agent = agent
        return 0.0

    async def _stay_with(self, agent: Agent) -> float:
        """Waits for the server of our own agent, or for the agent's end."""
        assert self._group is not None
        if agent.is_running:
            try:
                await agent.wait_until_ready_async(timeout=_TURN)
            except PgPersistError:
                # Not yet; or ended, which is asked below.
                pass
            else:
                self._has_started, self._failure, self._failures = True, None, 0
                self._note((await agent.status_async()).pid)
                return _TURN
        if agent.is_running:
            if (await agent.status_async()).phase is AgentPhase.FENCED:
                self._has_started = True
            return 0.0
        try:
            await agent.wait_async()
        except ConflictError as error:
            return await self._refused(error)
        finally:
            self._agent = None
            self._group.lease.release()
        # Without an error: somebody has shut the server down.
        self._has_started = True
        logger.warning("the server was shut down by somebody else, and stays down until it is started")
        return _TURN

    async def _refused(self, error: ConflictError) -> float:
        """Somebody else has the cluster: who only needs a moment is waited for."""
        status = await self.cluster.status_async()
        if status.state in (ServerState.FOREIGN, ServerState.DAMAGED):
            raise error
        if status.state is ServerState.RUNNING:
            # A `start` that is just done holds the directory for a moment. Who else has started a server keeps it.
            pid, refusals = self._refusing
            self._refusing = (status.pid, refusals + 1 if pid == status.pid else 1)
            if agent_of(status) is None and self._refusing[1] == _REFUSED:
                logger.warning("%s: the server, process %s, is used and not supervised", error, status.pid)
            return _TURN
        self._failure = error
        return _TURN if self._has_started else _EAGER

    def _failed(self, error: PgPersistError) -> float:
        if str(self._failure) != str(error):
            logger.error("there is no server: %s", error)
        self._failure = error
        self._gave_up = True
        self._failures += 1
        doubled = _AFTER_FAILURE * float(1 << min(self._failures - 1, 10))
        return min(doubled, _AFTER_FAILURES)
