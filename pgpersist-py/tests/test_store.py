"""Stores: the library's own with both faces, and those that are written in Python."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Iterator

import pytest

import pgpersist
import pgpersist.testing
from pgpersist import ObjectMeta, UploadSource
from support import stores
from support.faces import Face, both_faces, faces
from support.loops import LEFT_PENDING, complaints_of
from support.places import new_folder, reachable_folder, running_cluster
from test_health import psql

MEBIBYTE = 1 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


# -- the library's own


@pytest.mark.parametrize("kind", ["memory", "local", "url"])
@both_faces
def test_own_stores_have_both_faces(folder: Path, face: Face, kind: str) -> None:
    stores_of: dict[str, pgpersist.OpenStore] = {
        "memory": pgpersist.MemoryBackupStore(),
        "local": pgpersist.LocalBackupStore(folder / "store"),
        "url": pgpersist.open_store(f"file://{folder}/store"),
    }
    store = stores_of[kind]
    face(store, "put", "a/b", b"0123456789")
    face(store, "put_if_absent", "a/c", memoryview(b"c"))
    with pytest.raises(FileExistsError):
        face(store, "put_if_absent", "a/c", b"d")
    assert face(store, "get", "a/b") == b"0123456789"
    assert face(store, "get_range", "a/b", 3, 100) == b"3456789"
    meta = face(store, "head", "a/b")
    assert (meta.key, meta.size_bytes) == ("a/b", 10) and meta.modified.tzinfo is not None
    assert [meta.key for meta in face(store, "list")] == ["a/b", "a/c"]
    assert face(store, "list", "x") == ()
    face(store, "delete", "a/b")
    face(store, "delete", "a/b")
    for method, arguments in [("get", ()), ("head", ()), ("get_range", (0, 1))]:
        with pytest.raises(pgpersist.NotFoundError):
            face(store, method, "a/b", *arguments)
    assert "store" in repr(store).lower()


@both_faces
def test_own_stores_take_files_of_any_size(face: Face) -> None:
    store, data = pgpersist.MemoryBackupStore(), os.urandom(3 * MEBIBYTE + 7)
    if face.__name__ == "_blocking":
        meta = store.upload("large", io.BytesIO(data))
    else:

        async def pieces() -> AsyncIterator[bytes]:
            for place in range(0, len(data), 100_000):
                yield data[place : place + 100_000]

        meta = asyncio.run(store.upload_async("large", pieces()))
    assert meta.size_bytes == len(data) and store.get("large") == data
    with pytest.raises(pgpersist.ConflictError):
        store.upload("large", io.BytesIO(b"again"))

    class Breaks(io.BytesIO):
        def read(self, size: Any = -1) -> bytes:
            raise ConnectionResetError("the source broke")

    with pytest.raises(ConnectionResetError):
        store.upload("other", Breaks())
    assert [meta.key for meta in store.list()] == ["large"]


def test_arguments_of_own_stores_are_checked(folder: Path) -> None:
    # What a type checker would refuse, too.
    store: Any = pgpersist.MemoryBackupStore()
    open_store: Any = pgpersist.open_store
    cluster: Any = pgpersist.Cluster
    calls: list[tuple[Callable[[], Any], type[BaseException], str]] = [
        (lambda: store.put("k", "text"), TypeError, "data"),
        (lambda: store.put("../k", b""), pgpersist.InvalidError, r"\.\./k"),
        (lambda: store.get_range("k", -1, 2), ValueError, "start"),
        (lambda: store.get_range("k", 0, 2.5), TypeError, "end"),
        (lambda: pgpersist.open_store("ftp://host/x"), pgpersist.InvalidError, "ftp"),
        (lambda: open_store(7), TypeError, "int"),
        (lambda: ObjectMeta("k", 1, datetime(2026, 1, 1)), ValueError, "zone"),
        (lambda: ObjectMeta("k", -1, datetime.now(timezone.utc)), ValueError, "size_bytes"),
        (lambda: cluster(folder / "data", store=stores.DictStore), TypeError, "class DictStore"),
        (lambda: cluster(folder / "data", store=object()), TypeError, "no method put"),
    ]
    for call, error, text in calls:
        with pytest.raises(error, match=text):
            call()


# -- Python's own


@both_faces
def test_a_dump_goes_into_a_python_store_and_comes_out_again(folder: Path, face: Face) -> None:
    for number, store in enumerate([stores.DictStore(), stores.AsyncDictStore(), stores.FolderStore(folder)]):
        with running_cluster(new_folder(folder, str(number)), store=store, databases=["shop"]) as cluster:
            # Random, so that it does not compress: 6 MB of dump.
            psql(cluster, "CREATE TABLE orders AS SELECT n, gen_random_uuid() AS u FROM generate_series(1, 200000) n")
            if isinstance(store, stores.AsyncDictStore):
                # Making the cluster ready has asked it, too.
                store.loops.clear()
            made = face(cluster, "dump").dumps
            assert [dump.database for dump in made] == ["shop"] and made[0].size_bytes > 3 * MEBIBYTE
            assert [entry.name for entry in face(cluster, "dumps")] == [made[0].name]
            assert face(cluster, "verify").is_good
            loaded = face(cluster, "load", made[0].name, database="copy")
            assert loaded.verified and psql(cluster, "SELECT count(*) FROM orders", "copy") == "200000"
            if isinstance(store, (stores.AsyncDictStore, stores.FolderStore)):
                assert 0 < store.largest_piece <= MEBIBYTE
            if isinstance(store, stores.AsyncDictStore):
                # All of it ran where it belongs: in the loops that awaited, which have ended, or in the library's.
                assert {loop.is_running() for loop in store.loops} == {face is not faces["awaited"]}


def test_a_restored_cluster_takes_its_dumps_from_a_python_store(folder: Path) -> None:
    store = stores.AsyncDictStore()
    with running_cluster(new_folder(folder, "old"), store=store, databases=["shop"]) as cluster:
        psql(cluster, "CREATE TABLE orders AS SELECT generate_series(1, 8)")
        cluster.dump()
    replacement = pgpersist.Cluster(new_folder(folder, "new") / "data", store=store, databases=["shop"])
    assert replacement.plan_init(allow_ephemeral=True, restore_latest=True).action == "restore"


class Throws(stores.DictStore):
    """Raises one exception in one method."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__()
        self.__dict__[method] = self._raise
        self._error = error

    def _raise(self, *_arguments: Any) -> Any:
        raise self._error


class ThrowsLater(Throws):
    async def _raise(self, *_arguments: Any) -> Any:
        await asyncio.sleep(0)
        raise self._error


EXCEPTIONS = [
    (FileNotFoundError("gone"), pgpersist.NotFoundError),
    (FileExistsError("there"), pgpersist.ConflictError),
    (PermissionError(13, "no"), pgpersist.DeniedError),
    (ValueError("odd"), pgpersist.InvalidError),
    (OSError(28, "full"), pgpersist.UnavailableError),
    (TimeoutError("slow"), pgpersist.UnavailableError),
    (asyncio.TimeoutError("slow"), pgpersist.UnavailableError),
    (ConnectionResetError("reset"), pgpersist.UnavailableError),
    (pgpersist.DamagedError("rotten", remedy="use the other copy"), pgpersist.DamagedError),
    (pgpersist.UnsafeError("no"), pgpersist.UnsafeError),
    (KeyError("k"), pgpersist.BugError),
    (ZeroDivisionError("z"), pgpersist.BugError),
    (SystemExit(3), pgpersist.BugError),
]


@pytest.mark.parametrize("kind", [Throws, ThrowsLater])
@pytest.mark.parametrize(("error", "expected"), EXCEPTIONS, ids=[type(error).__name__ for error, _ in EXCEPTIONS])
@both_faces
def test_what_a_store_raises_reaches_the_caller(
    folder: Path, face: Face, kind: Any, error: BaseException, expected: Any
) -> None:
    cluster = pgpersist.Cluster(folder / "data", store=kind("list", error))
    with pytest.raises(expected) as caught:
        face(cluster, "dumps")
    assert type(caught.value) is expected
    assert kind.__name__ in str(caught.value) and "`list`" in str(caught.value)
    chain, seen = caught.value.__cause__, []
    while chain is not None:
        seen.append(chain)
        chain = chain.__cause__
    assert error in seen
    if isinstance(error, pgpersist.DamagedError):
        assert caught.value.remedy == "use the other copy"


@pytest.mark.parametrize(
    ("method", "answer", "text"),
    [
        ("list", "names", "iterable of ObjectMeta, found str"),
        ("list", [("k", 1)], "expected an ObjectMeta, found tuple"),
        ("list", [ObjectMeta("../k", 1, datetime.now(timezone.utc))], r"\.\./k"),
        ("list", None, "iterable"),
    ],
)
@both_faces
def test_what_is_no_answer_is_a_defect_of_the_store(
    folder: Path, face: Face, method: str, answer: Any, text: str
) -> None:
    store = stores.DictStore()
    store.__dict__[method] = lambda *_arguments: answer
    with pytest.raises(pgpersist.BugError, match=text) as caught:
        face(pgpersist.Cluster(folder / "data", store=store), "dumps")
    assert "store `DictStore`" in str(caught.value) and f"`{method}`" in str(caught.value)


@both_faces
def test_a_store_that_fails_in_the_middle_of_a_dump_leaves_no_dump(folder: Path, face: Face) -> None:
    class FillsUp(stores.AsyncDictStore):
        async def upload(self, key: str, source: UploadSource) -> None:
            await source.read_async(1000)
            raise OSError(28, "No space left on device")

    store = FillsUp()
    with running_cluster(folder, store=store, databases=["shop"]) as cluster:
        with pytest.raises(pgpersist.UnavailableError) as caught:
            face(cluster, "dump")
        assert "No space left" in str(caught.value)
        assert not [key for key in store.objects if key.endswith(".gz")]


def test_a_cancelled_dump_cancels_the_upload_and_leaves_nothing(folder: Path) -> None:
    class Slow(stores.AsyncDictStore):
        def __init__(self) -> None:
            super().__init__()
            self.reading, self.ended = asyncio.Event(), threading.Event()

        async def upload(self, key: str, source: UploadSource) -> None:
            try:
                await source.read_async(100)
                self.reading.set()
                await asyncio.sleep(600)
            finally:
                self.ended.set()

    async def cancelled(cluster: pgpersist.Cluster, store: Slow) -> None:
        task = asyncio.create_task(cluster.dump_async("shop"))
        await asyncio.wait_for(store.reading.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(1000):
            if store.ended.is_set():
                break
            await asyncio.sleep(0.01)

    async def main() -> None:
        store = Slow()
        cluster = pgpersist.Cluster(folder / "data", config=running.config, store=store)
        await cancelled(cluster, store)
        assert store.ended.is_set()
        assert not [key for key in store.objects if key.endswith(".gz")]

    with running_cluster(folder, databases=["shop"]) as running:
        asyncio.run(main())


def test_ctrl_c_cancels_the_coroutine_of_a_store(folder: Path) -> None:
    ended = threading.Event()

    class Interrupts(stores.AsyncDictStore):
        async def list(self, prefix: str) -> AsyncIterator[ObjectMeta]:
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(600)
            finally:
                ended.set()
            yield ObjectMeta("never", 0, datetime.now(timezone.utc))

    with pytest.raises(KeyboardInterrupt):
        pgpersist.Cluster(folder / "data", store=Interrupts()).dumps()
    assert ended.wait(30)


def test_the_interpreter_ends_while_a_coroutine_waits(folder: Path) -> None:
    program = (
        "import asyncio, threading, pgpersist\n"
        "from tests.support.stores import AsyncDictStore\n"
        "waiting = threading.Event()\n"
        "class Waits(AsyncDictStore):\n"
        "    async def list(self, prefix):\n"
        "        waiting.set()\n"
        "        try:\n"
        "            await asyncio.sleep(600)\n"
        "        finally:\n"
        "            print('cancelled', flush=True)\n"
        f"cluster = pgpersist.Cluster({str(folder / 'data')!r}, store=Waits())\n"
        "threading.Thread(target=cluster.dumps, daemon=True).start()\n"
        "waiting.wait(60)\n"
    )
    here = Path(__file__).parent.parent
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "cancelled\n"), done.stderr


def test_plain_methods_run_on_worker_threads_and_coroutines_where_they_belong(folder: Path) -> None:
    plain, coroutine = stores.DictStore(), stores.AsyncDictStore()
    for store in (plain, coroutine):
        key, data = "backup_20260208_093316.sql.gz", b"x"
        store.objects[key] = (data, datetime.now(timezone.utc))
        assert len(pgpersist.Cluster(folder / "data", store=store).dumps()) == 1
    assert plain.threads and threading.main_thread().name not in plain.threads
    (own_loop,) = coroutine.loops
    assert own_loop.is_running()

    async def awaited() -> asyncio.AbstractEventLoop:
        await pgpersist.Cluster(folder / "data", store=coroutine).dumps_async()
        return asyncio.get_running_loop()

    assert coroutine.loops == {own_loop, asyncio.run(awaited())}

    async def blocking_within() -> int:
        return len(pgpersist.Cluster(folder / "data", store=coroutine).dumps())

    assert asyncio.run(blocking_within()) == 1
    assert len(coroutine.loops) == 2


@both_faces
def test_a_store_may_stand_on_one_of_ours(folder: Path, face: Face) -> None:
    class Upside:
        """Turns each byte over: what an encrypting store looks like."""

        def __init__(self) -> None:
            self.below = pgpersist.MemoryBackupStore()

        @staticmethod
        def turned(data: Any) -> bytes:
            return bytes(data).translate(bytes(range(255, -1, -1)))

        def put(self, key: str, data: Any) -> None:
            self.below.put(key, self.turned(data))

        async def put_if_absent(self, key: str, data: Any) -> None:
            await self.below.put_if_absent_async(key, self.turned(data))

        def get(self, key: str) -> bytes:
            return self.turned(self.below.get(key))

        async def get_range(self, key: str, start: int, end: int) -> bytes:
            return self.turned(await self.below.get_range_async(key, start, end))

        def head(self, key: str) -> ObjectMeta:
            return self.below.head(key)

        def list(self, prefix: str) -> Any:
            return self.below.list(prefix)

        def delete(self, key: str) -> None:
            self.below.delete(key)

        async def upload(self, key: str, source: UploadSource) -> None:
            async def pieces() -> AsyncIterator[bytes]:
                async for piece in source:
                    yield self.turned(piece)

            await self.below.upload_async(key, pieces())

    assert face(pgpersist.testing, "check_store", Upside) == []


def test_a_large_object_is_collected_outside_of_memory(folder: Path) -> None:
    """A store without `upload` is handed a view of a temporary file, which outlives the call."""
    seen: list[Any] = []

    class Keeps(stores.DictStore):
        def put_if_absent(self, key: str, data: Any) -> None:
            seen.append(data)
            super().put_if_absent(key, data)

    found = pgpersist.testing.check_store(Keeps)
    assert found == []
    assert {bytes, memoryview} == {type(data) for data in seen}
    assert all(isinstance(data, bytes) or data.readonly for data in seen)


def test_nothing_is_printed(folder: Path) -> None:
    program = (
        "import asyncio, pgpersist, pgpersist.testing\n"
        "from tests.support.stores import AsyncDictStore, RaisesKeyError\n"
        f"cluster = pgpersist.Cluster({str(folder / 'data')!r}, store=AsyncDictStore())\n"
        "cluster.health(), cluster.report(), cluster.dumps(), asyncio.run(cluster.dumps_async())\n"
        "pgpersist.testing.check_store(RaisesKeyError)\n"
    )
    here = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=here, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_forked_child_has_an_event_loop_of_its_own(folder: Path) -> None:
    store = stores.AsyncDictStore()
    cluster = pgpersist.Cluster(folder / "data", store=store)
    assert cluster.dumps() == []
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if cluster.dumps() == [] else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert cluster.dumps() == []


def test_an_event_loop_that_was_closed_meanwhile_is_told(folder: Path) -> None:
    """A loop that is run without waiting for its tasks leaves operations behind, and nobody hangs."""
    entered, release = threading.Event(), threading.Event()

    class Slow(stores.AsyncDictStore):
        # Plain, and so it goes on although the loop has gone; what it returns wants the loop.
        def list(self, prefix: str) -> Any:
            entered.set()
            release.wait(60)
            return self._listed(prefix)

        async def _listed(self, prefix: str) -> Any:
            return []

    loop = asyncio.new_event_loop()
    complaints = complaints_of(loop)
    task = loop.create_task(pgpersist.Cluster(folder / "data", store=Slow()).dumps_async())
    loop.run_until_complete(asyncio.sleep(0))
    assert entered.wait(60)
    loop.close()
    release.set()
    assert not task.done()
    # Others are served as before.
    assert pgpersist.Cluster(folder / "data", store=stores.AsyncDictStore()).dumps() == []
    del task
    gc.collect()
    assert set(complaints) <= {LEFT_PENDING}


def test_a_store_that_hangs_takes_so_many_threads_and_no_more(folder: Path) -> None:
    class Hangs(stores.DictStore):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.inside, self.most = threading.Event(), 0, 0

        def list(self, prefix: str) -> Iterator[ObjectMeta]:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            self.gate.wait(300)
            with self.lock:
                self.inside -= 1
            return iter(())

    store = Hangs()
    cluster = pgpersist.Cluster(folder / "data", store=store)

    async def story() -> None:
        asking = [asyncio.create_task(cluster.dumps_async()) for _ in range(80)]
        try:
            until = asyncio.get_running_loop().time() + 120
            while store.inside < 32:
                assert asyncio.get_running_loop().time() < until, store.inside
                await asyncio.sleep(0.01)
        finally:
            store.gate.set()
        # Nobody was forgotten who had to wait.
        assert not any(await asyncio.gather(*asking))

    asyncio.run(story())
    assert store.most == 32
