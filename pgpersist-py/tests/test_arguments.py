"""What is no possible argument is refused by its name, before anything happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

import pgpersist
from pgpersist import Cluster, TemporaryCluster
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
]
_OUT_OF_RANGE: list[tuple[str, Attempt]] = [
    ("rounds", lambda _: pgpersist.crash_drill(rounds=-1)),
    ("writers", lambda _: pgpersist.crash_drill(writers=2**40)),
    ("seed", lambda _: pgpersist.crash_drill(seed=-1)),
    ("major", lambda _: TemporaryCluster(major=-1)),
    ("throughput_bytes", lambda _: pgpersist.MemoryBackupStore().check(throughput_bytes=-1)),
    ("cluster.port", lambda _: Cluster(port=70000)),
]


@pytest.mark.parametrize(("name", "attempt"), _WRONG_TYPES)
def test_what_has_the_wrong_type(name: str, attempt: Attempt, place: Path) -> None:
    with pytest.raises(TypeError, match=name):
        attempt(Cluster(place / "data", store=place / "backups"))
    assert not (place / "data").exists() and not (place / "backups").exists()


@pytest.mark.parametrize(("name", "attempt"), _OUT_OF_RANGE)
def test_what_is_out_of_range(name: str, attempt: Attempt, place: Path) -> None:
    with pytest.raises(ValueError, match=name):
        attempt(Cluster(place / "data", store=place / "backups"))
    assert not (place / "data").exists()


def test_the_types_of_the_fixtures_can_be_imported() -> None:
    assert {one.__name__ for one in (PgCluster, PgDatabase, PgDurable, PgTemplate)} == {
        "PgCluster",
        "PgDatabase",
        "PgDurable",
        "PgTemplate",
    }
