"""Physical backups: made, listed, verified, restored, exported, pruned, and given up half-way."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import subprocess
import tarfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import psycopg
import pytest

import pgpersist
from pgpersist import Cluster, Step

Call = Callable[..., Any]


@pytest.fixture
def running(cluster: Cluster) -> Cluster:
    """A cluster whose server runs, with eight orders."""
    cluster.init(allow_ephemeral=True)
    cluster.start()
    with psycopg.connect(cluster.url("shop")) as connection:
        connection.execute("CREATE TABLE orders AS SELECT i AS id, i AS amount FROM generate_series(1, 8) i")
    return cluster


def _elsewhere(cluster: Cluster, place: Path) -> Cluster:
    """The same cluster in another directory, with what is configured of the first one."""
    return Cluster(place / "restored", config=cluster.config)


def _sum(cluster: Cluster) -> int:
    with psycopg.connect(cluster.url("shop")) as connection:
        (total,) = connection.execute("SELECT sum(amount) FROM orders").fetchone() or (0,)
        return int(total)


def _in_backup(cluster: Cluster) -> int:
    with psycopg.connect(cluster.url()) as connection:
        (count,) = connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() or (0,)
        return int(count)


class _StopAt:
    """Gives up when a step begins that starts like this."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __call__(self, event: pgpersist.ProgressEvent) -> None:
        if isinstance(event, Step) and event.text.startswith(self._words):
            raise KeyError(event.text)


def test_a_backup_is_made_listed_found_and_verified(running: Cluster, call: Call, place: Path) -> None:
    plan = call(running, "plan_backup")
    assert plan.steps == (f"back up {place / 'data'} to {place / 'backups'}",) and call(running, "backups") == []
    events: list[pgpersist.ProgressEvent] = []
    first = call(running, "backup", label="the first", progress=events.append)
    assert any(isinstance(event, Step) and event.text.startswith("reading ") for event in events)
    assert first.is_good and first.damaged == () and first.warnings == () and first.unread_bytes == 0
    assert 0 < first.new_bytes <= first.stored_bytes < first.size_bytes
    assert datetime.now(timezone.utc) - first.started_at < timedelta(minutes=5)
    assert first.phases.copy > timedelta() and first.phases.effort["read_s"] >= 0
    assert first.to_dict()["start_lsn"] == first.start_lsn and "warnings" in first.to_dict()
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "another"
    second = call(running, "backup", compression="lz4", checkpoint="spread", jobs=1, full_read=True)
    assert second.unread_bytes == 0
    listing = call(running, "backups")
    assert [entry.name for entry in listing] == [second.name, first.name] and listing.warnings == ()
    assert listing[-1].label == "the first" and listing[:1] == (listing[0],) and len(listing) == 2
    assert all(entry.is_good and not entry.dropped and entry.timeline == 1 for entry in listing)
    assert listing == call(running, "backups") and hash(listing) == hash(call(running, "backups"))
    latest = call(running, "find_backup")
    assert (latest.name, latest.parent, latest.tablespaces) == (second.name, first.name, ()) and latest.files > 100
    assert call(running, "find_backup", first.name).label == "the first"
    report = call(running, "verify", first.name)
    assert report.is_good and report.objects >= 2 and report.unreadable == ()
    whole = call(running, "verify", quick=True)
    assert whole.is_good and whole.objects > report.objects
    finding = running.health().finding("backups")
    assert finding.status is pgpersist.HealthStatus.PASS and finding.observed["name"] == second.name


def test_what_is_damaged_is_named_with_the_backups_that_need_it(running: Cluster, call: Call, place: Path) -> None:
    made = call(running, "backup")
    pack = next((place / "backups/.pgpersist/main/repository/packs" / made.name).iterdir())
    content = bytearray(pack.read_bytes())
    content[100] ^= 0xFF
    pack.write_bytes(content)
    for report in (call(running, "verify"), call(running, "verify", made.name)):
        (bad,) = [damaged for damaged in report.damaged if damaged.name.endswith(pack.name)]
        assert not report.is_good and bad.backups == (made.name,) and bad.reason
    manifest = next((place / "backups/.pgpersist/main/repository/backups").glob("*"))
    manifest.write_bytes(manifest.read_bytes()[:-1])
    listing = call(running, "backups")
    assert listing == [] and len(listing.warnings) == 1 and made.name in listing.warnings[0]
    with pytest.raises(pgpersist.DamagedError):
        call(_elsewhere(running, place), "restore")
    assert not (place / "restored").exists()


def test_a_restore_is_planned_and_becomes_a_cluster(running: Cluster, call: Call, place: Path) -> None:
    made = call(running, "backup")
    running.stop()
    restored = _elsewhere(running, place)
    plan = call(restored, "plan_restore")
    assert plan.name == made.name and plan.data_directory == place / "restored" and plan.steps
    assert plan.requires.major == int(plan.requires.server_version.split(".")[0]) and plan.requires.at_least
    assert plan.files > 100 and plan.bytes > 0 and plan.space[0].needed_bytes > plan.bytes > plan.stored_bytes
    assert (plan.kept_aside, plan.consent_to, plan.estimated, plan.tablespaces) == (None, None, None, ())
    assert plan.to_dict()["plan"] == list(plan.steps) and not (place / "restored").exists()
    report = call(restored, "restore", made.name)
    assert report.verified and (report.name, report.kept_aside) == (made.name, None) and report.duration > timedelta()
    assert report.data_directory == place / "restored" and report.files == plan.files
    try:
        restored.start()
        assert _sum(restored) == 36
    finally:
        restored.stop()
    # A speed is known now.
    again = Cluster(place / "restored", config=running.config)
    assert call(again, "plan_restore", in_place=True).estimated is not None


def test_a_restore_in_place_needs_consent_and_keeps_what_was_there(running: Cluster, call: Call, place: Path) -> None:
    call(running, "backup")
    with psycopg.connect(running.url("shop")) as connection:
        connection.execute("DELETE FROM orders")
    with pytest.raises(pgpersist.ConflictError, match="a server runs"):
        call(running, "restore", in_place=True, consent=True)
    running.stop()
    with pytest.raises(pgpersist.UnsafeError):
        call(running, "restore")
    plan = call(running, "plan_restore", in_place=True)
    assert plan.consent_to is not None and plan.kept_aside is not None and not plan.kept_aside.exists()
    with pytest.raises(pgpersist.ConsentNeededError) as refused:
        call(running, "restore", in_place=True)
    assert refused.value.plan
    report = call(running, "restore", in_place=True, consent=True)
    assert report.kept_aside is not None and (report.kept_aside / "global/pg_control").exists()
    running.start()
    assert _sum(running) == 36


def test_a_delta_writes_what_differs_and_asks_for_the_log_that_no_backup_holds(running: Cluster, call: Call) -> None:
    made = call(running, "backup")
    with psycopg.connect(running.url("shop")) as connection:
        connection.execute("DELETE FROM orders")
    running.stop()
    plan = call(running, "plan_restore", delta=True)
    assert (
        plan.goes_on is False and plan.consent_to is not None and plan.unshipped_wal is not None and plan.damage is None
    )
    assert plan.kept_files > 100 and plan.kept_bytes > plan.written_bytes > 0
    with pytest.raises(pgpersist.UnsafeError, match=plan.unshipped_wal.end_lsn):
        call(running, "restore", delta=True, consent=True)
    end = plan.unshipped_wal.end_lsn
    with pytest.raises(pgpersist.ConsentNeededError):
        call(running, "restore", delta=True, discard_unshipped_wal=end)
    report = call(running, "restore", delta=True, discard_unshipped_wal=end, consent=True)
    assert (report.name, report.damaged) == (made.name, ())
    assert report.kept_aside is not None and (report.kept_aside / "pg_wal").is_dir()
    assert report.kept_files > 100 and report.kept_bytes > report.written_bytes > 0
    running.start()
    assert _sum(running) == 36


def test_what_is_left_of_a_damaged_backup_is_restored_on_request(running: Cluster, call: Call, place: Path) -> None:
    with psycopg.connect(running.url("shop")) as connection:
        (path,) = connection.execute("SELECT pg_relation_filepath('orders')").fetchone() or ("",)
    # Nothing but the table is in a pack of the second backup, and what every backup has anew.
    call(running, "backup")
    with psycopg.connect(running.url("shop")) as connection:
        connection.execute("UPDATE orders SET amount = amount + 1")
    made = call(running, "backup")
    running.stop()
    restored, lost = _elsewhere(running, place), None
    for pack in (place / "backups/.pgpersist/main/repository/packs" / made.name).iterdir():
        content = pack.read_bytes()
        pack.write_bytes(content[:100] + bytes([content[100] ^ 0xFF]) + content[101:])
        try:
            plan = call(restored, "plan_restore", without_damaged=True)
        except pgpersist.DamagedError:
            plan = None
        if plan is not None and plan.damage is not None and path in [file.path for file in plan.damage.files]:
            lost = plan.damage
            break
        pack.write_bytes(content)
    assert lost is not None and lost.packs and lost.backups == ()
    with pytest.raises(pgpersist.DamagedError):
        call(restored, "restore")
    with pytest.raises(pgpersist.ConsentNeededError):
        call(restored, "restore", without_damaged=True)
    report = call(restored, "restore", without_damaged=True, consent=True)
    (orders,) = [file for file in report.damaged if file.path == path]
    assert orders.blocks == ((0, 0),) and orders.fork == "main" and orders.relation == int(path.rsplit("/", 1)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": True, "in_place": True}, "delta and in_place"),
        ({"delta": True, "without_damaged": True}, "delta and without_damaged"),
        ({"discard_unshipped_wal": "0/1"}, "goes with delta"),
        ({"delta": True, "discard_unshipped_wal": "here"}, "`here` is no position"),
    ],
)
def test_ways_of_a_restore_that_make_no_sense_are_refused(
    running: Cluster, call: Call, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(running, "restore", **options)


def test_an_export_is_what_postgresql_knows(running: Cluster, call: Call, place: Path) -> None:
    made = call(running, "backup")
    # As root, what is written is the cluster's user's.
    plan = call(running, "plan_export", place / "plain")
    assert plan.steps == (f"export {made.name} to {place / 'plain'}",) and not (place / "plain").exists()
    report = call(running, "export", place / "plain", made.name)
    assert (report.name, report.path) == (made.name, place / "plain") and report.files > 100 and report.bytes > 0
    verify = shutil.which("pg_verifybackup") or _program(running, "pg_verifybackup")
    subprocess.run([verify, str(place / "plain")], check=True, capture_output=True, cwd="/")
    with pytest.raises(pgpersist.UnsafeError):
        call(running, "export", place / "plain")
    report = call(running, "export", str(place / "whole.tar"), tar=True)
    with tarfile.open(place / "whole.tar") as archive:
        assert {"backup_manifest", "backup_label", "global/pg_control"} <= set(archive.getnames())
    with pytest.raises(pgpersist.UnsafeError, match="is there already"):
        call(running, "plan_export", place / "whole.tar", tar=True)


def _program(cluster: Cluster, name: str) -> str:
    with psycopg.connect(cluster.url()) as connection:
        (folder,) = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone() or ("",)
        return os.path.join(folder, name)


def test_retention_buries_backups_and_says_until_when_they_can_be_restored(running: Cluster, call: Call) -> None:
    names = [call(running, "backup").name for _ in range(2)]
    plan = call(running, "plan_prune", keep_last=1)
    assert [dropped.name for dropped in plan.dropped] == [names[0]]
    (dropped,) = plan.dropped
    assert dropped.removed_after is not None and dropped.size_bytes > 0
    assert timedelta(hours=23) < dropped.removed_after - datetime.now(timezone.utc) <= timedelta(hours=24)
    assert [kept.name for kept in plan.kept] == [names[1]] and plan.blocked is None and plan.freed_bytes == 0
    assert not any(entry.dropped for entry in call(running, "backups"))
    done = call(running, "prune", keep_last=1)
    assert done.pending_bytes > 0 and done.stores[0].pending_bytes == done.pending_bytes and done.is_complete
    assert [entry.dropped for entry in call(running, "backups")] == [False, True]
    assert call(running, "find_backup", names[0]).dropped and call(running, "find_backup").name == names[1]


def test_a_repository_that_cannot_be_read_blocks_the_removal(running: Cluster, call: Call, place: Path) -> None:
    made = call(running, "backup")
    manifest = next((place / "backups/.pgpersist/main/repository/backups").glob(f"{made.name}*"))
    manifest.write_bytes(manifest.read_bytes()[:-1])
    plan = call(running, "plan_prune", keep_last=1)
    assert plan.blocked and plan.stores[0].blocked == plan.blocked


def test_a_backup_that_is_given_up_is_none(running: Cluster, call: Call) -> None:
    # The last step before it would be one.
    with pytest.raises(KeyError, match="looking at what was stored"):
        call(running, "backup", progress=_StopAt("looking at what was stored"))
    assert call(running, "backups") == [] and call(running, "verify").is_good
    assert call(running, "backup").is_good


def test_a_cancelled_backup_is_none_and_leaves_nothing_at_the_server(running: Cluster) -> None:
    async def cancelled() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hear(event: pgpersist.ProgressEvent) -> None:
            if isinstance(event, Step) and event.text.startswith("reading "):
                loop.call_soon_threadsafe(begun.set)

        task = asyncio.ensure_future(running.backup_async(rate_limit=400_000, jobs=1, progress=hear))
        await asyncio.wait_for(begun.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await running.backups_async() == []

    asyncio.run(cancelled())
    deadline = datetime.now() + timedelta(seconds=30)
    while _in_backup(running) and datetime.now() < deadline:
        pass
    assert _in_backup(running) == 0
    assert running.backup().is_good


def test_a_restore_or_an_export_that_is_given_up_leaves_nothing(running: Cluster, call: Call, place: Path) -> None:
    running.backup()
    with pytest.raises(KeyError):
        call(_elsewhere(running, place), "restore", progress=_StopAt("restoring "))
    assert not (place / "restored").exists()
    with pytest.raises(KeyError):
        call(running, "export", place / "plain", progress=_StopAt("export"))
    assert not (place / "plain").exists()
    assert call(running, "export", place / "plain").files > 100


def test_what_does_not_fit_is_told(running: Cluster, call: Call, place: Path) -> None:
    with pytest.raises(pgpersist.NotFoundError, match="there is no backup"):
        call(running, "find_backup")
    with pytest.raises(pgpersist.NotFoundError, match="there is no backup"):
        call(_elsewhere(running, place), "restore")
    with pytest.raises(pgpersist.NotFoundError):
        call(running, "verify", "20200101T000000Z-00000000")
    with pytest.raises(pgpersist.InvalidError, match="`yesterday` is no name of a backup"):
        call(running, "find_backup", "yesterday")
    with pytest.raises(ValueError, match='compression is "zip"; it is one of "zstd", "lz4", "none"'):
        call(running, "backup", compression="zip")
    with pytest.raises(ValueError, match='checkpoint is "soon"'):
        call(running, "backup", checkpoint="soon")
    out_of_range: list[dict[str, Any]] = [{"jobs": 0}, {"jobs": 65}, {"rate_limit": 0}]
    for wrong in out_of_range:
        with pytest.raises(pgpersist.InvalidError, match="is (0|65)"):
            call(running, "backup", **wrong)
    of_another_type: list[dict[str, Any]] = [{"jobs": "2"}, {"full_read": "no"}, {"rate_limit": 1.5}]
    for wrong in of_another_type:
        with pytest.raises(TypeError, match=next(iter(wrong))):
            call(running, "backup", **wrong)
    with pytest.raises(TypeError, match="tablespaces is a mapping"):
        call(running, "restore", tablespaces=["fast"])
    with pytest.raises(TypeError, match="in_place"):
        call(running, "restore", in_place="no")
    assert call(running, "backups") == []
    call(running, "backup")
    with pytest.raises(pgpersist.InvalidError, match="nowhere"):
        call(_elsewhere(running, place), "plan_restore", tablespaces={"nowhere": place / "nowhere"})
    running.stop()
    with pytest.raises(pgpersist.UnavailableError):
        call(running, "backup")


def test_a_store_of_ones_own_holds_backups_too(place: Path, running: Cluster, call: Call) -> None:
    memory = pgpersist.MemoryBackupStore()
    own = Cluster(config=running.config, store=memory)
    made = call(own, "backup")
    assert [entry.name for entry in call(own, "backups")] == [made.name] and call(running, "backups") == []
    assert call(own, "verify").is_good
    target = Cluster(place / "restored", config=running.config, store=memory)
    assert call(target, "restore").name == made.name and (place / "restored/PG_VERSION").exists()
