"""Who holds the session's clusters: one process, whatever the number of workers.

Under pytest-xdist that is the controller. A worker asks it through a socket that only knows those who have its key; the
first who asks for a cluster has it started. A cluster ends with the process that holds it, however that one ends, and the
workers end with their controller.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Optional, Protocol, Union

from pgpersist._exceptions import DeadlineError, PgPersistError, UnavailableError
from pgpersist._pytest_cluster import ClusterOptions, PgCluster
from pgpersist._temporary import TemporaryCluster

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: How long a worker waits for a cluster: the first of a PostgreSQL version takes as long as ``initdb``.
_STARTING = 120.0
#: How long one who was let in may take to say what it wants.
_ASKING = 5.0


class Clusters(Protocol):
    """Who can be asked for clusters."""

    def get(self, options: ClusterOptions) -> PgCluster:
        """The session's cluster of this kind, started when it is the first time."""
        ...

    def close(self) -> None:
        """The session is over."""
        ...


class Keeper:
    """Holds clusters in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clusters: dict[ClusterOptions, TemporaryCluster] = {}
        self._is_closed = False

    def get(self, options: ClusterOptions) -> PgCluster:
        """Starts it, or returns what was started. Callable from any thread."""
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the test session is over", remedy="ask for clusters while it runs")
            cluster = self._clusters.get(options)
            if cluster is None:
                cluster = options.begin().start()
                self._clusters[options] = cluster
            return PgCluster.of(cluster)

    def close(self) -> None:
        """Ends all of them. May be repeated."""
        with self._lock:
            self._is_closed = True
            clusters, self._clusters = self._clusters, {}
        for cluster in clusters.values():
            cluster.stop()

    @property
    def kept(self) -> list[str]:
        """The folders that stay after :meth:`close`."""
        with self._lock:
            return [str(cluster.folder) for options, cluster in self._clusters.items() if options.keep]


class Reception:
    """Lets the workers ask a keeper."""

    def __init__(self, keeper: Keeper) -> None:
        from multiprocessing.connection import Listener

        self._keeper = keeper
        self._key = os.urandom(32)
        # No file, so none that a killed process could leave.
        self._name = f"pgpersist-{os.urandom(16).hex()}"
        self._listener = Listener(f"\0{self._name}", "AF_UNIX", backlog=64, authkey=self._key)
        threading.Thread(target=self._serve, name="pgpersist reception", daemon=True).start()

    @property
    def invitation(self) -> tuple[str, str]:
        """What a worker needs: the address and the key, as xdist can send them."""
        return self._name, self._key.hex()

    def close(self) -> None:
        """Lets nobody in any more. The thread ends with the process at the latest."""
        self._listener.close()

    def _serve(self) -> None:
        from multiprocessing import AuthenticationError

        while True:
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):
                continue
            except OSError:
                return
            # One after the other: who asks for the same cluster has to wait for it anyway.
            with connection:
                try:
                    if connection.poll(_ASKING):
                        connection.send(self._answer(connection.recv()))
                except (EOFError, OSError):
                    continue

    def _answer(self, options: ClusterOptions) -> Union[PgCluster, Exception]:
        try:
            return self._keeper.get(options)
        except Exception as error:
            return error


class Guest:
    """Asks the controller's keeper, from a worker."""

    def __init__(self, invitation: tuple[str, str]) -> None:
        self._address, self._key = "\0" + invitation[0], bytes.fromhex(invitation[1])

    def get(self, options: ClusterOptions) -> PgCluster:
        """Asks, and waits for the answer."""
        from multiprocessing.connection import Client

        try:
            connection: Connection = Client(self._address, "AF_UNIX", authkey=self._key)
            with connection:
                connection.send(options)
                if not connection.poll(_STARTING):
                    raise DeadlineError(f"the controller has not started a cluster within {_STARTING:.0f} s")
                answer = connection.recv()
        except (EOFError, OSError) as error:
            if isinstance(error, PgPersistError):
                raise
            raise UnavailableError(
                f"the controller that holds the session's cluster does not answer: {error}",
                remedy="look whether it still runs",
            ) from error
        if isinstance(answer, PgCluster):
            return answer
        raise answer

    def close(self) -> None:
        """Nothing of the clusters is ours."""


def clusters_of(invitation: Optional[tuple[str, str]]) -> Clusters:
    """Whom this process asks: its controller, where it was invited by one, else itself."""
    return Keeper() if invitation is None else Guest(invitation)
