"""``PgSession``: what one pytest process has of PostgreSQL, from its first request to its end."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Iterable, Mapping, Optional, Union

from pgpersist._exceptions import PgPersistError
from pgpersist._pytest_cluster import ClusterOptions, PgCluster, Setting
from pgpersist._pytest_external import Presence
from pgpersist._pytest_keeper import Keeper, Reception, clusters_of
from pgpersist._pytest_load import Load, Loadable, loads_of
from pgpersist._pytest_pool import LEFT_BYTES, Pool
from pgpersist._pytest_template import PREFIX, PgTemplate, made_once
from pgpersist._session import ServerAddress

Base = Union[PgCluster, PgTemplate]


class PgSession:
    """Makes clusters, templates and pools once each, and ends them.

    Args:
        defaults: what kind of cluster the options and the ini file ask for.
        root: where relative paths start.
        worker: this worker's name under pytest-xdist.
        workers: how many there are.
        run: the whole run's name, common to its workers.
        invitation: the controller's, where a worker was invited.
    """

    def __init__(
        self,
        defaults: ClusterOptions,
        *,
        root: Path,
        worker: Optional[str] = None,
        workers: int = 1,
        run: Optional[str] = None,
        invitation: Optional[tuple[str, str]] = None,
    ) -> None:
        self.defaults = defaults
        self.root = root
        self._worker = worker
        self._workers = workers
        self._run = (run or uuid.uuid4().hex).replace("-", "")[:12]
        self._clusters = clusters_of(invitation)
        self._reception: Optional[Reception] = None
        self._presences: dict[ServerAddress, Presence] = {}
        self._templates: dict[tuple[PgCluster, str, tuple[Load, ...]], PgTemplate] = {}
        # By process, too: in a forked child there is no thread that would fill its parent's pool.
        self._pools: dict[tuple[int, PgTemplate], Pool] = {}
        self._process = os.getpid()

    def invite(self) -> tuple[str, str]:
        """Lets workers share this process's clusters; what they need to do so."""
        if self._reception is None:
            assert isinstance(self._clusters, Keeper), "a worker has no workers"
            self._reception = Reception(self._clusters)
        return self._reception.invitation

    def loads(self, given: Union[Loadable, Iterable[Loadable]]) -> tuple[Load, ...]:
        """The steps of what a user has given.

        Raises:
            LoadError: one of them is none.
        """
        return loads_of(given, self.root)

    def cluster(
        self,
        *,
        name: Optional[str] = None,
        load: tuple[Load, ...] = (),
        major: Optional[int] = None,
        bin_directory: Optional[str] = None,
        tcp: Optional[bool] = None,
        settings: Optional[Mapping[str, Setting]] = None,
    ) -> PgCluster:
        """The session's throw-away cluster of this kind; what is not given, the options say."""
        merged = {**dict(self.defaults.settings), **(settings or {})}
        options = replace(
            self.defaults,
            name=name or self.defaults.name,
            major=major or self.defaults.major,
            bin_directory=bin_directory or self.defaults.bin_directory,
            tcp=self.defaults.tcp if tcp is None else tcp,
            settings=tuple(sorted(merged.items())),
        )
        return replace(self._clusters.get(options), load=load)

    def external(self, address: ServerAddress, *, load: tuple[Load, ...] = ()) -> PgCluster:
        """A server that others keep. What is made on it is dropped at the end."""
        presence = self._presences.get(address)
        if presence is None:
            presence = self._presences[address] = Presence(address, self._run)
        return PgCluster(address, presence.version, load=load)

    def template(self, base: Base, load: tuple[Load, ...] = ()) -> PgTemplate:
        """The template of a cluster's loads and these, or of another template and these."""
        if isinstance(base, PgTemplate):
            if not load:
                return base
            cluster, name = base.cluster, base.name
        else:
            cluster, name, load = base, "template1", base.load + load
        template = self._templates.get((cluster, name, load))
        if template is None:
            template = made_once(cluster, load, base=name, prefix=self._prefix(cluster))
            self._templates[cluster, name, load] = template
        return template

    def pool(self, template: PgTemplate, size: int) -> Pool:
        """The pool of a template's copies."""
        process = os.getpid()
        pool = self._pools.get((process, template))
        if pool is None:
            is_own = template.cluster.is_own
            number = len(self._pools)
            parts = [self._worker, f"p{number}" if number else None, str(process) if process != self._process else None]
            name = "".join(f"{part}_" for part in ["test", *parts] if part)
            pool = Pool(
                template,
                size=size,
                name=name if is_own else self._prefix(template.cluster) + name,
                left_bytes=None if self.defaults.keep else LEFT_BYTES if is_own else 0,
                workers=self._workers,
            )
            self._pools[process, template] = pool
        return pool

    @property
    def kept(self) -> list[str]:
        """The folders that stay, with ``--pg-keep``."""
        return self._clusters.kept if isinstance(self._clusters, Keeper) else []

    def close(self) -> list[PgPersistError]:
        """Ends everything, and returns what of it has failed."""
        failed: list[PgPersistError] = []
        if os.getpid() != self._process:
            return failed
        if self._reception is not None:
            self._reception.close()
        for end in [
            *(pool.close for pool in self._pools.values()),
            *(presence.leave for presence in self._presences.values()),
            self._clusters.close,
        ]:
            try:
                end()
            except PgPersistError as error:
                failed.append(error)
        return failed

    def _prefix(self, cluster: PgCluster) -> str:
        presence = self._presences.get(cluster.address)
        return PREFIX if presence is None else presence.prefix
