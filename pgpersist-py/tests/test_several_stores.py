"""Copies in a second store, encrypted on their way, and what a store can do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Callable

import pytest

import pgpersist
from pgpersist import Cluster, Config, Fitness

Call = Callable[..., Any]


class Stores:
    """A cluster whose second store is encrypted."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self.first, self.second, self.key = place / "backups", place / "copy", place / "key.txt"
        self.public = pgpersist.new_key(self.key).public_key
        self.cluster_values = {
            "data_directory": str(cluster.data_directory),
            "databases": ["shop"],
            "port": cluster.config["cluster.port"],
            "settings": {"unix_socket_directories": str(place), "shared_buffers": "16MB"},
        }
        copy = {"url": str(self.second), "encryption": {"recipients": [self.public]}}
        config = self.config([{"url": str(self.first)}, copy])
        self.cluster = Cluster(config=config)
        self.with_key = Cluster(config=config, identity_file=self.key)

    def config(self, stores: list[dict[str, Any]]) -> Config:
        return Config.from_dict({"cluster": self.cluster_values, "store": stores})


@pytest.fixture
def stores(cluster: Cluster, place: Path) -> Stores:
    stores = Stores(cluster, place)
    stores.cluster.init(allow_ephemeral=True)
    stores.cluster.start()
    return stores


def test_a_copy_is_encrypted_on_its_way_and_loads_with_its_key(stores: Stores, call: Call) -> None:
    (dump,) = call(stores.cluster, "dump").dumps
    assert (stores.second / f"{dump.name}.age").exists() and not (stores.second / dump.name).exists()
    report = call(stores.cluster, "sync")
    (copy,) = report.stores
    assert report.is_up_to_date and (copy.place, copy.copied, copy.behind, copy.error) == (2, 0, 0, None)
    # The first store is lost.
    (stores.first / dump.name).unlink()
    with pytest.raises(pgpersist.DeniedError, match="encrypted"):
        call(stores.cluster, "load", database="without_a_key")
    loaded = call(stores.with_key, "load", database="with_its_key")
    assert loaded.verified and any("comes from" in warning for warning in loaded.warnings)
    assert call(stores.with_key, "verify").is_good
    assert [entry.encrypted for entry in call(stores.cluster, "dumps")] == [True]


def test_what_a_copy_lacks_is_planned_and_brought(stores: Stores, call: Call) -> None:
    (dump,) = call(stores.cluster, "dump").dumps
    for file in stores.second.glob("*.age*"):
        file.unlink()
    (planned,) = call(stores.cluster, "plan_sync").stores
    assert planned.copies is not None and f"{dump.name}.age" in [copy.name for copy in planned.copies]
    assert not list(stores.second.glob("*.age"))
    steps: list[pgpersist.ProgressEvent] = []
    report = call(stores.cluster, "sync", progress=steps.append)
    assert report.stores[0].copied == 2 and steps
    # Something else under the name of a dump is told, and stays.
    (stores.second / f"{dump.name}.age").write_bytes(b"something else")
    (copy,) = call(stores.cluster, "sync").stores
    assert not copy.is_up_to_date and [left.name for left in copy.conflicts] == [dump.name]


def test_retention_tells_of_each_store(stores: Stores, call: Call) -> None:
    for _ in range(3):
        stores.cluster.dump()
    plan = call(stores.cluster, "plan_prune", keep_last=2)
    assert [store.place for store in plan.stores] == [1, 2] and plan.is_complete
    assert plan.stores[0].kept == plan.kept and len(plan.dropped) >= 1 and len(plan.stores[1].dropped) >= 1
    # A store that cannot be read keeps no other from its turn.
    stores.second.rename(stores.second.with_name("away"))
    stores.second.write_text("no folder")
    done = call(stores.cluster, "prune", keep_last=2)
    assert not done.is_complete and done.stores[1].error is not None and done.stores[1].kept == ()
    assert done.stores[0].error is None and done.to_dict()["stores"][1]["error"] == done.stores[1].error


def test_without_a_second_store_there_is_nothing_to_sync(cluster: Cluster, call: Call) -> None:
    with pytest.raises(pgpersist.InvalidError, match="second store"):
        call(cluster, "sync")


def test_a_dump_that_should_be_encrypted_and_is_not_is_read_only_when_that_is_said(stores: Stores) -> None:
    asyncio.run(stores.cluster.dump_async())
    both = {"recipients": [stores.public], "identity_file": str(stores.key)}
    # From here on the first store is encrypted, too.
    config = stores.config([{"url": str(stores.first), "encryption": both}])
    with pytest.raises(pgpersist.UnsafeError, match="not encrypted"):
        Cluster(config=config).load(database="refused")
    assert Cluster(config=config, unencrypted=True).load(database="insisted").verified


def test_a_store_tells_what_it_can_do(place: Path, call: Call) -> None:
    store = pgpersist.open_store(place / "store")
    report = call(store, "check", throughput_bytes=1 << 20)
    assert report.fitness is Fitness.GOOD, report
    assert {finding.status for finding in report.findings} <= {"pass", "unknown"}
    assert report.to_dict()["throughput"]["bytes"] == 1 << 20
    assert call(store, "list") == ()
