"""Stores in a cloud, encrypted dumps, and a second store, as a program in Python uses them: a bucket of moto."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

import pgpersist
from pgpersist import Config
from support.buckets import SECRET_KEY, bucket
from support.faces import Face, both_faces
from support.places import new_folder, reachable_folder, running_cluster
from test_health import psql

ORDERS = "SELECT count(*), sum(n) FROM orders"


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with bucket(folder) as address:
        yield address


def _command(*words: str) -> str:
    run = subprocess.run([sys.executable, "-m", "pgpersist", *words], capture_output=True, text=True)
    assert run.returncode == 0 and SECRET_KEY not in run.stdout + run.stderr, run
    return run.stdout


@both_faces
def test_a_bucket_is_a_store_like_any_other(address: str, face: Face) -> None:
    store = pgpersist.open_store(address)
    large = bytes(range(256)) * 40_000
    face(store, "put", "a b/ü", b"0123456789")
    face(store, "put_if_absent", "large", large)
    with pytest.raises(FileExistsError):
        face(store, "put_if_absent", "a b/ü", b"x")
    assert face(store, "get", "a b/ü") == b"0123456789" and face(store, "get", "large") == large
    assert face(store, "get_range", "large", 9_000_000, 9_000_100) == large[9_000_000:9_000_100]
    assert [(meta.key, meta.size_bytes) for meta in face(store, "list")] == [("a b/ü", 10), ("large", len(large))]
    face(store, "delete", "large")
    with pytest.raises(pgpersist.NotFoundError):
        face(store, "get", "large")
    assert SECRET_KEY not in repr(store)


def test_a_bucket_that_is_not_there_is_told_without_the_key(address: str) -> None:
    store = pgpersist.open_store(address.replace("pgpersist-tests/", "another-bucket/"))
    with pytest.raises(pgpersist.InvalidError) as caught:
        store.put("a", b"")
    told = "".join([str(caught.value), str(caught.value.remedy), repr(caught.value.__cause__)])
    assert "another-bucket" in told and SECRET_KEY not in told


@both_faces
def test_an_encrypted_dump_goes_to_a_bucket_and_a_copy_and_opens_with_its_key_alone(
    folder: Path, address: str, face: Face
) -> None:
    key, copy = folder / "key.txt", new_folder(folder, "copy")
    told = _command("store", "key", "new", str(key))
    public = next(line for line in told.splitlines() if line.startswith("Public key: ")).split()[-1]

    def config(**more: Any) -> Config:
        encryption = {"recipients": [public], **more}
        return Config.from_dict({"store": [{"url": address, "encryption": encryption}, {"url": copy}]})

    place = new_folder(folder, "cluster")
    with running_cluster(place, config=config(), databases=["shop"]) as cluster:
        psql(cluster, "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS n")
        expected = psql(cluster, ORDERS)
        dump = face(cluster, "dump").dumps[0]
        assert dump.name.endswith(".sql.gz.age")
        bytes_there = pgpersist.open_store(address).get(dump.name)
        assert bytes_there.startswith(b"age-encryption.org/v1\n")
        # The second store has the same, and no less encrypted.
        assert (copy / dump.name).read_bytes() == bytes_there

        # With the public key alone nothing is read, and nothing changed.
        with pytest.raises(pgpersist.PgPersistError, match="key") as caught:
            face(cluster, "load", dump.name, database="back")
        assert caught.value.remedy is not None and "identity_file" in caught.value.remedy
        assert psql(cluster, "SELECT count(*) FROM pg_database WHERE datname = 'back'") == "0"

        reader = pgpersist.Cluster(
            place / "data",
            config=config(identity_file=key),
            databases=["shop"],
            port=cluster.config["cluster.port"],
            settings={"unix_socket_directories": str(place)},
        )
        assert face(reader, "load", dump.name, database="back").verified
        assert psql(cluster, ORDERS, "back") == expected
        assert face(reader, "verify").is_good


def test_the_command_brings_a_second_store_up_to_date(folder: Path, address: str) -> None:
    copy = new_folder(folder, "copy")
    with running_cluster(new_folder(folder, "cluster"), store=address, databases=["shop"]) as cluster:
        psql(cluster, "CREATE TABLE orders AS SELECT generate_series(1, 10) AS n")
        name = cluster.dump().dumps[0].name
        data = str(cluster.data_directory)
    assert not (copy / name).exists()
    told = json.loads(_command("sync", "-D", data, "--store", address, "--store", str(copy), "--json"))
    # The dump, and that of the roles.
    assert [store["copied"] for store in told["stores"]] == [2], told
    assert (copy / name).read_bytes() == pgpersist.open_store(address).get(name)
    again = json.loads(_command("sync", "-D", data, "--store", address, "--store", str(copy), "--json"))
    assert [store["copied"] for store in again["stores"]] == [0], again
