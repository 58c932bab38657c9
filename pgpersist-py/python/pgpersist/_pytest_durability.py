"""``PgDurable``: a durable cluster for one test, which may kill it, fill its disk, and look at what is still there."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from pgpersist._cluster import Cluster
from pgpersist._config import Config
from pgpersist._drill import crash_drill
from pgpersist._drill_reports import CrashReport
from pgpersist._exceptions import ConflictError, DeniedError
from pgpersist._pytest_cluster import ClusterOptions, PgCluster
from pgpersist._pytest_load import Load
from pgpersist._pytest_volume import Volume
from pgpersist._session import ServerAddress
from pgpersist._temporary import TemporaryCluster

#: The test's database in it.
DATABASE = "test"
#: How large the volume of a cluster is whose disk is to be filled.
VOLUME = "1G"


class PgDurable:
    """A cluster that loses nothing that it has acknowledged, started when it is first used. It ends with the test.

    A power loss is not among what it can do: what the kernel has in its cache survives a killed process.

    Args:
        options: what kind of cluster.
        load: what its database is made of.
        volume: the size of a volume of its own, such as ``256M``; else it lies where temporary files do.
    """

    def __init__(self, options: ClusterOptions, load: tuple[Load, ...] = (), *, volume: Optional[str] = None) -> None:
        self._options = options
        self._load = load
        self._volume_size = volume
        self._volume: Optional[Volume] = None
        self._cluster: Optional[TemporaryCluster] = None

    @property
    def cluster(self) -> TemporaryCluster:
        """The cluster itself."""
        if self._cluster is None:
            parent: Optional[Path] = None
            if self._volume_size is not None and self._volume is None:
                try:
                    self._volume = Volume(self._volume_size)
                except DeniedError as error:
                    pytest.skip(f"pgpersist cannot fill a disk here: {error}")
            if self._volume is not None:
                parent = self._volume.folder
            # Nothing is kept on a volume that goes.
            options = self._options if parent is None else replace(self._options, keep=False)
            cluster = options.begin(durable=True, parent=parent).start()
            # From here on it is ended, whatever happens to its database.
            self._cluster = cluster
            cluster.create_database(DATABASE)
            for load in self._load:
                load.run(PgCluster.of(cluster), DATABASE)
        return self._cluster

    @property
    def url(self) -> str:
        """The URL of its database, which was made by the same loads as the tests' template. It stays the same."""
        return self.cluster.url(DATABASE)

    def query(self, sql: str) -> list[list[Optional[str]]]:
        """Asks without a driver: rows of PostgreSQL's texts."""
        with self._address.session(DATABASE) as session:
            return session.rows(sql)

    def execute(self, sql: str) -> None:
        """Executes statements without a driver, in one transaction unless they say otherwise."""
        with self._address.session(DATABASE) as session:
            session.execute(sql)

    def kill9(self) -> None:
        """Kills every process of the server with SIGKILL, as a crash does; returns when the last one is gone."""
        self.cluster.kill9()

    def restart(self) -> None:
        """Stops the server, where it still runs, and starts it again; recovers what a crash has left."""
        self.cluster.restart()

    def crash_drill(self, **options: Any) -> CrashReport:
        """Kills a copy of this cluster under load, several times, and looks for every acknowledged commit.

        Args:
            options: those of :func:`pgpersist.crash_drill`, such as ``rounds`` and ``writers``.
        """
        options.setdefault("target", "copy")
        cluster = self.cluster
        # The superuser of a throw-away cluster is `postgres`, whoever runs it.
        values = {"cluster": {"bin_directory": cluster.bin_directory}}
        config = Config(os.devnull, environment={"PGUSER": "postgres"}, values=values)
        return crash_drill(Cluster(cluster.data_directory, config=config), **options)

    @contextmanager
    def fill_disk(self) -> Iterator[None]:
        """Within it, the cluster's disk is full: a write that needs room fails with ENOSPC, in the server's data and in its WAL.

        The disk is a volume of its own, so this has to be known before the cluster starts: call it before the first use of
        the cluster, or mark the test with ``@pytest.mark.pg_volume``.

        Where this process may not mount a volume, the test is skipped, and told how it may.

        Raises:
            ConflictError: the cluster runs already, on a disk that others use.
        """
        if self._cluster is None and self._volume_size is None:
            self._volume_size = VOLUME
        self.cluster  # noqa: B018 - starts it
        if self._volume is None:
            raise ConflictError(
                "this cluster lies on a disk that others use, and nobody fills that",
                remedy="mark the test with @pytest.mark.pg_volume, or call fill_disk() before the cluster is first used",
            )
        self._volume.fill()
        try:
            yield
        finally:
            self._volume.free()

    def close(self) -> None:
        """Ends it, and returns when nothing of it is left."""
        try:
            if self._cluster is not None:
                self._cluster.stop()
        finally:
            if self._volume is not None:
                self._volume.close()

    @property
    def _address(self) -> ServerAddress:
        return PgCluster.of(self.cluster).address

    def __repr__(self) -> str:
        return f"<PgDurable, {self._cluster!r}>"
