"""``TemporaryCluster``: a real PostgreSQL in the time of a function call, gone with its handle."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Optional, Sequence, Union

from pgpersist import _native
from pgpersist._arguments import count, mapping, names
from pgpersist._faces import awaited, blocking
from pgpersist._seconds import Seconds, seconds

if TYPE_CHECKING:
    from pgpersist._native import NativeTemporaryCluster

_Path = Union[str, "PathLike[str]"]


class TemporaryCluster:
    """A running PostgreSQL that nobody will miss, for tests.

    The first cluster of a PostgreSQL version takes as long as ``initdb``, each later one is a copy that is ready within
    100 ms. There is a superuser ``postgres``. It listens on a Unix socket alone, unless ``tcp`` is asked for. However the
    process ends that has made it, its server is ended and its files are removed. In a child that was forked from that
    process its URL works, and nothing else; the cluster does not wait for the child's end.

    Use it as a context manager, ``with`` or ``async with``; or call :meth:`start` and :meth:`stop`.

    Args:
        major: PostgreSQL's major version, where it matters.
        durable: whether it survives :meth:`kill9` with all that was committed, and not only tests.
        tcp: also listen on a free port of 127.0.0.1, with a password of its own.
        settings: any settings of ``postgresql.conf``.
        databases: the databases to create.
        keep: leave the files at the end, for a look at them.
        parent: the folder that holds the cluster's; else ``TMPDIR``, else ``/tmp``.
        cache: the folder of templates, instead of the user's cache.
        bin_directory: where PostgreSQL's programs lie, when they are not to be searched for.
        timeout: how long starting may take; a number is in seconds.
    """

    def __init__(
        self,
        *,
        major: Optional[int] = None,
        durable: bool = False,
        tcp: bool = False,
        settings: Optional[Mapping[str, Union[str, int, float, bool]]] = None,
        databases: Sequence[str] = (),
        keep: bool = False,
        parent: Optional[_Path] = None,
        cache: Optional[_Path] = None,
        bin_directory: Optional[_Path] = None,
        timeout: Seconds = 60,
    ) -> None:
        asked = mapping({} if settings is None else settings, "settings")
        written = {name: _setting(value) for name, value in asked.items()}
        version = None if major is None else count(major, "major")
        wishes = (
            version,
            durable,
            tcp,
            written,
            names(databases, "databases") or [],
            keep,
            parent,
            cache,
            bin_directory,
        )
        self._wishes = (*wishes, seconds(timeout, "timeout"))
        self._native: Optional[NativeTemporaryCluster] = None

    def start(self) -> TemporaryCluster:
        """Makes the cluster and starts it; where it is started, does nothing."""
        if self._native is None:
            self._native = blocking(_native.NativeTemporaryCluster.begin(*self._wishes))
        return self

    async def start_async(self) -> TemporaryCluster:
        """As :meth:`start`."""
        if self._native is None:
            self._native = await awaited(_native.NativeTemporaryCluster.begin(*self._wishes))
        return self

    def stop(self) -> None:
        """Ends it, and returns when nothing of it is left. May be repeated."""
        if self._native is not None:
            blocking(self._native.stop())

    async def stop_async(self) -> None:
        """As :meth:`stop`."""
        if self._native is not None:
            await awaited(self._native.stop())

    def keep(self) -> Path:
        """Stops the server and lets the files stay after all, as evidence; returns their folder."""
        return Path(blocking(self._started().keep()))

    async def keep_async(self) -> Path:
        """As :meth:`keep`."""
        return Path(await awaited(self._started().keep()))

    def url(self, database: str = "postgres") -> str:
        """How clients connect to a database, password and all: ``postgresql://…``."""
        return self._started().url(database)

    def create_database(self, name: str, *, template: Optional[str] = None) -> str:
        """Creates a database, as a copy of ``template`` where one is named, and returns its URL.

        Raises:
            ConflictError: it exists, or somebody is connected to the template.
        """
        blocking(self._started().create_database(name, template))
        return self.url(name)

    async def create_database_async(self, name: str, *, template: Optional[str] = None) -> str:
        """As :meth:`create_database`."""
        await awaited(self._started().create_database(name, template))
        return self.url(name)

    def execute(self, sql: str, *, database: str = "postgres") -> None:
        """Executes statements as the superuser, in one transaction unless they say otherwise."""
        blocking(self._started().execute(database, sql))

    async def execute_async(self, sql: str, *, database: str = "postgres") -> None:
        """As :meth:`execute`."""
        await awaited(self._started().execute(database, sql))

    def kill9(self) -> None:
        """Kills every process of the server with SIGKILL, as a crash does; returns when the last one is gone."""
        blocking(self._started().kill9())

    async def kill9_async(self) -> None:
        """As :meth:`kill9`."""
        await awaited(self._started().kill9())

    def restart(self) -> None:
        """Stops the server, where it still runs, and starts it again; recovers what a crash has left."""
        blocking(self._started().restart())

    async def restart_async(self) -> None:
        """As :meth:`restart`."""
        await awaited(self._started().restart())

    @property
    def folder(self) -> Path:
        """The folder that holds all of it, for files that are to vanish with it."""
        return Path(self._started().folder)

    @property
    def data_directory(self) -> Path:
        """The data directory."""
        return Path(self._started().data_directory)

    @property
    def bin_directory(self) -> Path:
        """Where PostgreSQL's programs lie, ``psql`` among them where it is installed."""
        return Path(self._started().bin_directory)

    @property
    def version(self) -> str:
        """PostgreSQL's version, such as ``17.4``."""
        return self._started().version

    @property
    def host(self) -> str:
        """The folder of the socket, or the address."""
        return self._started().host

    @property
    def port(self) -> int:
        """The port, also of the socket's name."""
        return self._started().port

    @property
    def user(self) -> str:
        """The superuser."""
        return self._started().user

    @property
    def password(self) -> Optional[str]:
        """Its password, where the cluster listens on TCP."""
        return self._started().password

    def _started(self) -> NativeTemporaryCluster:
        if self._native is None:
            raise RuntimeError("this temporary cluster is not started: use it in a `with`, or call start()")
        return self._native

    def __enter__(self) -> TemporaryCluster:
        return self.start()

    def __exit__(
        self, _type: Optional[type[BaseException]], _error: Optional[BaseException], _traceback: Optional[TracebackType]
    ) -> None:
        self.stop()

    async def __aenter__(self) -> TemporaryCluster:
        return await self.start_async()

    async def __aexit__(
        self, _type: Optional[type[BaseException]], _error: Optional[BaseException], _traceback: Optional[TracebackType]
    ) -> None:
        await self.stop_async()

    def __repr__(self) -> str:
        if self._native is None:
            return "<TemporaryCluster, not started>"
        state = "stopped" if self._native.is_closed else f"PostgreSQL {self._native.version}"
        return f"<TemporaryCluster {str(self._native.folder)!r}, {state}>"


def _setting(value: Union[str, int, float, bool]) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
