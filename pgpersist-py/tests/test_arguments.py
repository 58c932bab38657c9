"""What is no possible argument is refused by its name, before anything happens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import pytest

import pgpersist
from pgpersist import Agent, Cluster, TemporaryCluster
from pgpersist.asgi import HealthApp, Supervision, with_cluster
from pgpersist.fastapi import health_router, lifespan
from pgpersist.pytest_plugin import PgCluster, PgDatabase, PgDurable, PgTemplate

Attempt = Callable[[Cluster], Any]

_WRONG_TYPES: list[tuple[str, Attempt]] = [
    ("cluster", lambda _: pgpersist.crash_drill("x")),  # type: ignore[arg-type]
    ("cluster", lambda _: pgpersist.restore_drill("x")),  # type: ignore[arg-type]
    ("cluster", lambda _: pgpersist.past_drills("x")),  # type: ignore[arg-type]
    ("rounds", lambda _: pgpersist.crash_drill(rounds="5")),  # type: ignore[arg-type]
    ("writers", lambda _: pgpersist.crash_drill(writers=True)),
    ("invariants", lambda cluster: pgpersist.restore_drill(cluster, invariants=[1])),  # type: ignore[list-item]
    ("config", lambda _: Cluster(config="pgpersist.toml")),  # type: ignore[arg-type]
    ("databases", lambda _: Cluster(databases=5)),  # type: ignore[arg-type]
    ("databases", lambda _: Cluster(databases="shop")),
    ("databases", lambda _: Cluster(databases=[5])),  # type: ignore[list-item]
    ("settings", lambda _: Cluster(settings=5)),  # type: ignore[arg-type]
    ("settings", lambda _: TemporaryCluster(settings=5)),  # type: ignore[arg-type]
    ("databases", lambda _: TemporaryCluster(databases="shop")),
    ("major", lambda _: TemporaryCluster(major="17")),  # type: ignore[arg-type]
    ("timeout", lambda _: TemporaryCluster(timeout="60")),  # type: ignore[arg-type]
    ("timeout", lambda cluster: cluster.start(timeout="60")),  # type: ignore[arg-type]
    ("progress", lambda cluster: cluster.dump(progress=5)),  # type: ignore[arg-type]
    ("keep_weeks", lambda cluster: cluster.prune(keep_weeks=5)),
    ("throughput_bytes", lambda _: pgpersist.MemoryBackupStore().check(throughput_bytes=1.5)),  # type: ignore[arg-type]
    ("cluster", lambda _: pgpersist.plan_restore_drill("x")),  # type: ignore[arg-type]
    ("seed", lambda _: pgpersist.plan_crash_drill(seed="7")),  # type: ignore[arg-type]
    ("cluster", lambda _: Agent("x")),  # type: ignore[arg-type]
    ("allow_ephemeral", lambda cluster: Agent(cluster, allow_ephemeral="no")),  # type: ignore[arg-type]
    ("trust_stale_pid", lambda cluster: Agent(cluster, trust_stale_pid=1)),  # type: ignore[arg-type]
    ("ready_timeout", lambda cluster: Agent(cluster, ready_timeout="60")),  # type: ignore[arg-type]
    ("stop_timeout", lambda cluster: Agent(cluster, stop_timeout=None)),  # type: ignore[arg-type]
    ("checks", lambda cluster: Agent(cluster, checks=5)),  # type: ignore[arg-type]
    ("cluster", lambda cluster: Agent(cluster).reload("x")),  # type: ignore[arg-type]
    ("cluster", lambda _: Supervision("x")),  # type: ignore[arg-type]
    ("attach_only", lambda cluster: Supervision(cluster, attach_only="no")),  # type: ignore[arg-type]
    ("wait", lambda cluster: Supervision(cluster, wait=0)),  # type: ignore[arg-type]
    ("allow_ephemeral", lambda cluster: Supervision(cluster, allow_ephemeral=None)),  # type: ignore[arg-type]
    ("trust_stale_pid", lambda cluster: Supervision(cluster, trust_stale_pid="no")),  # type: ignore[arg-type]
    ("ready_timeout", lambda cluster: Supervision(cluster, ready_timeout="60")),  # type: ignore[arg-type]
    ("checks", lambda cluster: Supervision(cluster, checks=[5])),  # type: ignore[list-item]
    ("cluster_or_config", lambda _: lifespan("x")),  # type: ignore[arg-type]
    ("inner", lambda cluster: lifespan(cluster, inner=5)),  # type: ignore[arg-type]
    ("stop_timeout", lambda cluster: lifespan(cluster, stop_timeout="60")),  # type: ignore[arg-type]
    ("wait", lambda cluster: lifespan(cluster, wait="no")),  # type: ignore[arg-type]
    ("cluster", lambda _: health_router("x")),  # type: ignore[arg-type]
    ("prefix", lambda cluster: health_router(cluster, prefix=5)),  # type: ignore[arg-type]
    ("token", lambda cluster: health_router(cluster, token=5)),  # type: ignore[arg-type]
    ("open_details", lambda cluster: health_router(cluster, open_details="no")),  # type: ignore[arg-type]
    ("checks", lambda cluster: health_router(cluster, checks=5)),  # type: ignore[arg-type]
    ("tables", lambda cluster: health_router(cluster, tables=5)),  # type: ignore[arg-type]
    ("tables", lambda cluster: HealthApp(cluster, tables=[5])),  # type: ignore[list-item]
    ("app", lambda cluster: with_cluster(5, Supervision(cluster))),  # type: ignore[arg-type]
    ("supervision", lambda cluster: with_cluster(HealthApp(cluster), cluster)),  # type: ignore[arg-type]
    ("health", lambda cluster: with_cluster(HealthApp(cluster), Supervision(cluster), health=5)),  # type: ignore[arg-type]
]
_OUT_OF_RANGE: list[tuple[str, Attempt]] = [
    ("rounds", lambda _: pgpersist.crash_drill(rounds=-1)),
    ("writers", lambda _: pgpersist.crash_drill(writers=2**40)),
    ("seed", lambda _: pgpersist.crash_drill(seed=-1)),
    ("major", lambda _: TemporaryCluster(major=-1)),
    ("throughput_bytes", lambda _: pgpersist.MemoryBackupStore().check(throughput_bytes=-1)),
    ("cluster.port", lambda _: Cluster(port=70000)),
    ("ready_timeout", lambda cluster: Agent(cluster, ready_timeout=-1)),
    ("stop_timeout", lambda cluster: Agent(cluster, stop_timeout=timedelta(0))),
    ("timeout", lambda cluster: Agent(cluster).wait_until_ready(timeout=0)),
    ("ready_timeout", lambda cluster: Supervision(cluster, ready_timeout=float("inf"))),
    ("stop_timeout", lambda cluster: Supervision(cluster, stop_timeout=float("nan"))),
    ("ready_timeout", lambda cluster: lifespan(cluster, ready_timeout=10**400)),
    ("on_exit", lambda cluster: lifespan(cluster, on_exit="remove")),  # type: ignore[arg-type]
    ("prefix", lambda cluster: health_router(cluster, prefix="internal")),
    ("token", lambda cluster: health_router(cluster, token="two words")),
]


@pytest.mark.parametrize(("name", "attempt"), _WRONG_TYPES)
def test_what_has_the_wrong_type(name: str, attempt: Attempt, place: Path) -> None:
    with pytest.raises(TypeError, match=rf"\b{name}\b"):
        attempt(Cluster(place / "data", store=place / "backups"))
    assert not (place / "data").exists() and not (place / "backups").exists()


@pytest.mark.parametrize(("name", "attempt"), _OUT_OF_RANGE)
def test_what_is_out_of_range(name: str, attempt: Attempt, place: Path) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        attempt(Cluster(place / "data", store=place / "backups"))
    assert not (place / "data").exists()


def test_the_types_of_the_fixtures_can_be_imported() -> None:
    assert {one.__name__ for one in (PgCluster, PgDatabase, PgDurable, PgTemplate)} == {
        "PgCluster",
        "PgDatabase",
        "PgDurable",
        "PgTemplate",
    }
