"""How an application's own driver reaches the cluster."""

from __future__ import annotations

from typing import Optional
from urllib.parse import urlsplit

from pgpersist._cluster import Cluster


def database_url(cluster: Cluster, database: Optional[str] = None, *, driver: Optional[str] = None) -> str:
    """How clients on this machine connect: ``postgresql://…``, of the running server.

    Args:
        database: which one; else the first that the cluster is configured with, else ``postgres``.
        driver: for SQLAlchemy: ``asyncpg`` or ``psycopg`` make it ``postgresql+asyncpg://…``.

    Raises:
        UnavailableError: no server runs.
    """
    return _for(driver, cluster.url(_chosen(cluster, database)))


async def database_url_async(cluster: Cluster, database: Optional[str] = None, *, driver: Optional[str] = None) -> str:
    """As :func:`database_url`."""
    return _for(driver, await cluster.url_async(_chosen(cluster, database)))


def _chosen(cluster: Cluster, database: Optional[str]) -> str:
    if database is not None:
        return database
    return cluster.databases[0] if cluster.databases else "postgres"


def _for(driver: Optional[str], url: str) -> str:
    if driver is None:
        return url
    scheme = urlsplit(url).scheme
    return f"{scheme}+{driver}{url[len(scheme) :]}"
