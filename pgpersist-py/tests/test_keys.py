"""The keys of an encrypted store: made, tested, given, taken, renewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

import pgpersist
from pgpersist import Cluster, Config

Call = Callable[..., Any]


@pytest.fixture
def first(place: Path) -> pgpersist.NewKey:
    return pgpersist.new_key(place / "first.txt")


@pytest.fixture
def encrypted(cluster: Cluster, place: Path, first: pgpersist.NewKey) -> Cluster:
    """A running cluster whose dumps are encrypted to one key, with one dump."""
    values = {
        "data_directory": str(cluster.data_directory),
        "databases": ["shop"],
        "port": cluster.config["cluster.port"],
        "settings": {"unix_socket_directories": str(place), "shared_buffers": "16MB"},
    }
    store = {"url": str(place / "encrypted"), "encryption": {"recipients": [first.public_key]}}
    encrypted = Cluster(config=Config.from_dict({"cluster": values, "store": [store]}))
    encrypted.init(allow_ephemeral=True)
    encrypted.start()
    encrypted.dump()
    return encrypted


def test_a_key_is_made_once_for_its_owner_alone(place: Path, call: Call) -> None:
    made = call(pgpersist, "new_key", place / "key.txt")
    assert made.file == place / "key.txt" and made.public_key.startswith("age1")
    assert made.file.stat().st_mode & 0o077 == 0
    assert "AGE-SECRET-KEY-1" in made.file.read_text() and "AGE-SECRET-KEY-1" not in repr(made)
    with pytest.raises(pgpersist.ConflictError):
        call(pgpersist, "new_key", place / "key.txt")


def test_a_recovery_key_is_tested_and_that_is_remembered(
    encrypted: Cluster, first: pgpersist.NewKey, place: Path, call: Call
) -> None:
    before = call(encrypted.keys, "list")
    (key,) = before.data_keys
    assert (key.holders, key.missing, before.proof) == ((first.public_key,), (), None)
    assert key.made_at.tzinfo is not None and before.warnings
    stranger = call(pgpersist, "new_key", place / "stranger.txt")
    with pytest.raises(pgpersist.DeniedError, match="nothing is encrypted"):
        call(encrypted.keys, "test", stranger.file)
    tested = call(encrypted.keys, "test", first.file)
    newest = encrypted.dumps()[0].name
    assert (tested.holder, tested.data_keys, tested.dump) == (first.public_key, 1, newest)
    after = call(encrypted.keys, "list")
    assert after.proof is not None and after.proof.holder == first.public_key and after.warnings == ()
    assert after.proof.proven_at == tested.proven_at


def test_somebody_is_let_in_and_shut_out_again(
    encrypted: Cluster, first: pgpersist.NewKey, place: Path, call: Call
) -> None:
    second = pgpersist.new_key(place / "second.txt")
    with pytest.raises(pgpersist.DeniedError):
        call(encrypted.keys, "add", second.public_key)
    with_key = Cluster(config=encrypted.config, identity_file=first.file)
    added = call(with_key.keys, "add", second.public_key)
    assert len(added.added) == 1 and "not among the configured" in added.warnings[0]
    assert call(with_key.keys, "add", second.public_key).added == ()

    def holders() -> set[str]:
        return {holder for key in encrypted.keys.list().data_keys for holder in key.holders}

    assert holders() == {first.public_key, second.public_key}
    # It opens what was written before.
    assert Cluster(config=encrypted.config, identity_file=second.file).load(database="by_the_second").verified
    assert len(call(encrypted.keys, "plan_remove", second.public_key).removed) == 1
    with pytest.raises(pgpersist.ConsentNeededError) as refused:
        call(encrypted.keys, "remove", second.public_key)
    assert len(refused.value.plan) == 1 and second.public_key in holders()
    assert len(call(encrypted.keys, "remove", second.public_key, consent=True).removed) == 1
    assert holders() == {first.public_key}
    # Nobody else would open it.
    with pytest.raises(pgpersist.UnsafeError):
        call(encrypted.keys, "remove", first.public_key, consent=True)


def test_what_comes_is_encrypted_to_a_new_data_key(encrypted: Cluster, first: pgpersist.NewKey, call: Call) -> None:
    (old,) = encrypted.keys.list().data_keys
    rotated = call(encrypted.keys, "rotate")
    assert rotated.recipients == (first.public_key,) and rotated.public_key != old.public_key and rotated.warnings == ()
    # Those of one second are in no order.
    assert {key.public_key for key in encrypted.keys.list().data_keys} == {rotated.public_key, old.public_key}
    encrypted.dump()
    with_key = Cluster(config=encrypted.config, identity_file=first.file)
    assert with_key.verify().is_good


def test_bad_input(cluster: Cluster, encrypted: Cluster, call: Call) -> None:
    for operation in ["list", "add", "rotate"]:
        with pytest.raises(pgpersist.InvalidError, match="nothing in .* is encrypted"):
            call(cluster.keys, operation)
    with pytest.raises(pgpersist.InvalidError):
        call(encrypted.keys, "add", "age1nonsense")
    with pytest.raises(pgpersist.NotFoundError):
        call(encrypted.keys, "test", "/nowhere/key.txt")
    with pytest.raises(TypeError, match="either identity_file or passphrase_file"):
        call(encrypted.keys, "test")
    with pytest.raises(TypeError, match="a recipient is a public key"):
        call(encrypted.keys, "add", 5)
