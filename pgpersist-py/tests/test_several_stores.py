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


def test_a_listing_tells_where_each_dump_is(stores: Stores, call: Call) -> None:
    (dump,) = stores.cluster.dump().dumps
    listing = call(stores.cluster, "dumps")
    assert [(entry.name, entry.stores, entry.rows) for entry in listing] == [(dump.name, (1, 2), 0)]
    assert [(store.place, store.store, store.error) for store in listing.stores] == [
        (1, str(stores.first), None),
        (2, str(stores.second), None),
    ]
    assert listing.is_complete and listing.warnings == ()
    assert call(stores.cluster, "find_dump").stores == (1, 2)
    assert listing.to_dict()["dumps"][0]["stores"] == [1, 2] and listing.to_dict()["backups"] == []


def test_a_listing_is_a_sequence_of_dumps(stores: Stores) -> None:
    for _ in range(2):
        stores.cluster.dump()
    listing = stores.cluster.dumps()
    newest, oldest = listing
    assert newest.name > oldest.name and len(listing) == 2 and newest in listing
    assert listing[0] == newest and listing[-1] == oldest and listing[1:] == (oldest,)
    assert listing == [newest, oldest] and listing == (newest, oldest) and listing == stores.cluster.dumps()
    assert listing != [oldest, newest] and listing != "dumps" and hash(listing) == hash((newest, oldest))


def test_a_listing_tells_of_a_store_that_does_not_answer(
    stores: Stores, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    stores.cluster.dump()
    stores.second.rename(stores.second.with_name("away"))
    stores.second.write_text("no folder")
    listing = call(stores.cluster, "dumps")
    assert [entry.stores for entry in listing] == [(1,)] and not listing.is_complete
    assert listing.stores[0].error is None and listing.stores[1].error
    assert len(listing.warnings) == 1 and f"the store {stores.second} is left out" in listing.warnings[0]
    assert ("pgpersist", "WARNING", listing.warnings[0]) in [
        (record.name, record.levelname, record.getMessage()) for record in caplog.records
    ]


def test_a_listing_warns_of_a_folder_that_is_not_there(place: Path, call: Call) -> None:
    listing = call(Cluster(store=place / "unmounted"), "dumps")
    assert listing == [] and listing.is_complete
    assert listing.warnings == (f"there is no folder {place / 'unmounted'}: is its volume mounted?",)


def test_a_configured_store_is_asked_by_its_place(stores: Stores, call: Call) -> None:
    first, second = stores.cluster.stores
    assert (str(first), str(second)) == (str(stores.first), str(stores.second))
    report = call(second, "check")
    assert report.fitness is Fitness.GOOD and report.store == str(stores.second), report
    (dump,) = stores.cluster.dump().dumps
    assert f"{dump.name}.age" in [meta.key for meta in call(second, "list")]
    assert Cluster().stores == ()


def test_a_store_of_ones_own_is_the_only_one(place: Path) -> None:
    memory = pgpersist.MemoryBackupStore()
    (own,) = Cluster(config=Config.from_dict({"store": [{"url": str(place / "configured")}]}), store=memory).stores
    own.put("a", b"1")
    assert memory.get("a") == b"1" and not (place / "configured").exists()


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
