"""``PgTemplate``: the database that each test's own one is a copy of, made once a session."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from pgpersist._exceptions import DeadlineError
from pgpersist._pytest_cluster import PgCluster
from pgpersist._pytest_load import Load
from pgpersist._session import Session, identifier, literal

#: How long one worker waits for another that loads the same template.
_LOADING = "1h"
#: How long sessions of the template may take to end.
_LEAVING = 10.0
#: All of our names begin so.
PREFIX = "pgpersist_"


@dataclass(frozen=True)
class PgTemplate:
    """A template database. Nobody can connect to it: the server refuses to copy one that somebody uses.

    Attributes:
        cluster: the server it is on.
        name: its name.
        size_bytes: its size.
    """

    cluster: PgCluster
    name: str
    size_bytes: int


def made_once(
    cluster: PgCluster, loads: tuple[Load, ...], *, base: str = "template1", prefix: str = PREFIX
) -> PgTemplate:
    """The template of these loads, made by whoever comes first; the others wait for it.

    Args:
        cluster: the server.
        loads: what makes it, in their order.
        base: the template that it is itself made of.
        prefix: how its name begins.

    Raises:
        LoadError: a load failed; nothing is left of it.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (base.encode(), *(load.fingerprint() for load in loads)):
        digest.update(len(part).to_bytes(8, "big") + part)
    name = f"{prefix}template_{digest.hexdigest()}"
    with cluster.address.session() as session:
        # The lock goes with the session, and so with a worker that dies on the way.
        session.execute(f"SET lock_timeout = '{_LOADING}'")
        session.execute(
            f"SELECT pg_advisory_lock({int.from_bytes(digest.digest(), 'big', signed=True)})",
            action="wait for another worker that makes the same template",
        )
        state = session.rows(f"SELECT datistemplate FROM pg_database WHERE datname = {literal(name)}")
        if state != [["t"]]:
            if state:
                # Of one that died on the way: only a whole one is called a template.
                _drop(session, name)
            _make(session, cluster, loads, name, base)
        size = session.rows(f"SELECT pg_database_size({literal(name)})")[0][0]
    return PgTemplate(cluster, name, int(size or 0))


def _make(session: Session, cluster: PgCluster, loads: tuple[Load, ...], name: str, base: str) -> None:
    session.execute(
        f"CREATE DATABASE {identifier(name)} TEMPLATE {identifier(base)}", action=f"create the template `{name}`"
    )
    try:
        for load in loads:
            load.run(cluster, name)
        with cluster.address.session(name) as inside:
            # Copied with all else, so that each test's queries are planned as they would be with statistics.
            inside.execute("ANALYZE", action=f"analyze the template `{name}`")
        session.execute(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS false")
        _empty(session, name)
        session.execute(f"ALTER DATABASE {identifier(name)} IS_TEMPLATE true")
    except BaseException:
        _drop(session, name)
        raise


def _empty(session: Session, name: str) -> None:
    """Ends what hooks have left open. A session that was closed ends a moment after its client."""
    deadline = time.monotonic() + _LEAVING
    while True:
        left = session.rows(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {literal(name)}")
        if not left:
            return
        if time.monotonic() >= deadline:
            raise DeadlineError(f"{len(left)} sessions do not leave the template `{name}`")
        time.sleep(0.002)


def _drop(session: Session, name: str) -> None:
    session.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)", action=f"drop `{name}`")
