"""``BackupStore``: where dumps live: a folder, a map in memory, or a class of yours."""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from os import PathLike
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterable,
    Awaitable,
    BinaryIO,
    Iterable,
    Optional,
    Protocol,
    Union,
    runtime_checkable,
)

from pgpersist import _native
from pgpersist._arguments import count
from pgpersist._faces import awaited, blocking
from pgpersist._progress import ProgressListener, told
from pgpersist._report import moment
from pgpersist._store_check import StoreCheck
from pgpersist._upload import UploadSource

if TYPE_CHECKING:
    from pgpersist._native import NativeStore, NativeUpload

_Path = Union[str, "PathLike[str]"]
#: What is stored: ``bytes``, or for large objects a read-only view of a temporary file.
Data = Union[bytes, memoryview]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: What is read at a time from a file that is stored.
_PIECE = 1 << 20


@dataclass(frozen=True)
class ObjectMeta:
    """What a store tells about an object without reading it.

    Attributes:
        key: its key.
        size_bytes: its size.
        modified: when it was published, by the clock of whatever keeps the store; with a zone.
    """

    key: str
    size_bytes: int
    modified: datetime

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise TypeError(f"key is a str, not a {type(self.key).__name__}")
        if isinstance(self.size_bytes, bool) or not isinstance(self.size_bytes, int):
            raise TypeError(f"size_bytes is an int, not a {type(self.size_bytes).__name__}")
        if self.size_bytes < 0:
            raise ValueError(f"size_bytes is {self.size_bytes}; it is not negative")
        if not isinstance(self.modified, datetime):
            raise TypeError(f"modified is a datetime, not a {type(self.modified).__name__}")
        if self.modified.tzinfo is None:
            raise ValueError(
                "modified has no zone: use datetime.now(timezone.utc), or datetime.fromtimestamp(…, timezone.utc)"
            )

    def to_dict(self) -> dict[str, Any]:
        """The same as strings and numbers."""
        return {"key": self.key, "size_bytes": self.size_bytes, "modified": self.modified.isoformat()}

    @classmethod
    def _of(cls, document: dict[str, Any]) -> ObjectMeta:
        return cls(document["key"], document["size_bytes"], moment(document["modified"]))

    def _told(self) -> tuple[str, int, int]:
        return self.key, self.size_bytes, (self.modified - _EPOCH) // timedelta(microseconds=1)


@runtime_checkable
class BackupStore(Protocol):
    """A place that keeps objects: bytes under keys such as ``a/b.sql.gz``. Implement it to keep dumps where you like.

    A class need not derive from this one; its methods may be plain or ``async def``, also mixed. Plain ones run on
    worker threads, up to 32 at once. Coroutines run in the event loop that awaits the operation (``await
    cluster.dump_async()``), and in a loop of the library's own while the caller blocks (``cluster.dump()``), as for
    all that an :class:`~pgpersist.Agent` does with it, whose jobs nobody awaits. One that is cancelled leaves the old
    state or the new one; a plain method that has begun runs to its end.

    What a store promises, and :func:`pgpersist.testing.check_store` asks for:

    * A key shows nothing, the old object or the new one, whole, to every reader at every moment, also after a crash.
      What a call has published, every later call sees, and no power cut takes it away.
    * Of several concurrent :meth:`put_if_absent` of one key exactly one succeeds.
    * Exceptions say what happened: ``FileNotFoundError`` there is no such object; ``FileExistsError`` there is one
      already; ``PermissionError``; ``ValueError`` the request is wrong; any other ``OSError`` and ``TimeoutError`` it
      may work later. So do the library's own, such as :class:`DamagedError`. Anything else is taken for a defect of
      the store. The caller of the operation finds the exception in the chain of ``__cause__``.

    One more method is optional: ``upload(key, source)`` stores an object of unknown size, as dumps are, unless the
    key exists: ``source`` is an :class:`UploadSource`, to be read to its end, like a file or in an ``async for``;
    nothing is seen under the key before. Without it, the library collects the object in a temporary file (``TMPDIR``)
    and calls :meth:`put_if_absent` with a view of it.

    ``str(store)`` names it for people, so it holds no secrets.
    """

    @abstractmethod
    def put(self, key: str, data: Data) -> Union[None, Awaitable[None]]:
        """Stores an object, replacing what the key showed."""
        ...

    @abstractmethod
    def put_if_absent(self, key: str, data: Data) -> Union[None, Awaitable[None]]:
        """Stores an object unless the key exists, which raises ``FileExistsError`` and changes nothing."""
        ...

    @abstractmethod
    def get(self, key: str) -> Union[Data, bytearray, Awaitable[Union[Data, bytearray]]]:
        """Reads a whole object."""
        ...

    @abstractmethod
    def get_range(self, key: str, start: int, end: int) -> Union[Data, bytearray, Awaitable[Union[Data, bytearray]]]:
        """Reads the bytes ``data[start:end]`` of an object: fewer, or none, where it ends before."""
        ...

    @abstractmethod
    def head(self, key: str) -> Union[ObjectMeta, Awaitable[ObjectMeta]]:
        """Size and age of one object."""
        ...

    @abstractmethod
    def list(
        self, prefix: str
    ) -> Union[
        Iterable[ObjectMeta],
        AsyncIterable[ObjectMeta],
        Awaitable[Union[Iterable[ObjectMeta], AsyncIterable[ObjectMeta]]],
    ]:
        """All objects whose key starts with ``prefix`` (characters, not folders), sorted by key. May be a generator."""
        ...

    @abstractmethod
    def delete(self, key: str) -> Union[None, Awaitable[None]]:
        """Removes an object. One that is already gone is fine."""
        ...


_METHODS = ("put", "put_if_absent", "get", "get_range", "head", "list", "delete")


class OpenStore:
    """A store of the library's own, with two faces for each method. It also serves as a :class:`BackupStore`.

    Raises:
        NotFoundError: there is no such object.
        ConflictError: there is one already.
        UnavailableError: it may work later: the disk is full, a volume is missing.
    """

    def __init__(self, native: NativeStore, address: Optional[str] = None) -> None:
        self._native = native
        self._address = address

    def put(self, key: str, data: Union[Data, bytearray]) -> None:
        """Stores an object, replacing what the key showed."""
        blocking(self._native.put(key, _bytes(data)))

    async def put_async(self, key: str, data: Union[Data, bytearray]) -> None:
        """As :meth:`put`."""
        await awaited(self._native.put(key, _bytes(data)))

    def put_if_absent(self, key: str, data: Union[Data, bytearray]) -> None:
        """Stores an object unless the key exists, which is a :class:`ConflictError` and changes nothing."""
        blocking(self._native.put_if_absent(key, _bytes(data)))

    async def put_if_absent_async(self, key: str, data: Union[Data, bytearray]) -> None:
        """As :meth:`put_if_absent`."""
        await awaited(self._native.put_if_absent(key, _bytes(data)))

    def get(self, key: str) -> bytes:
        """Reads a whole object into memory."""
        return _read(blocking(self._native.get(key)))

    async def get_async(self, key: str) -> bytes:
        """As :meth:`get`."""
        return _read(await awaited(self._native.get(key)))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Reads the bytes ``data[start:end]``: fewer, or none, where the object ends before."""
        return _read(blocking(self._native.get_range(key, _place(start, "start"), _place(end, "end"))))

    async def get_range_async(self, key: str, start: int, end: int) -> bytes:
        """As :meth:`get_range`."""
        return _read(await awaited(self._native.get_range(key, _place(start, "start"), _place(end, "end"))))

    def head(self, key: str) -> ObjectMeta:
        """Size and age of one object."""
        return ObjectMeta._of(blocking(self._native.head(key)))

    async def head_async(self, key: str) -> ObjectMeta:
        """As :meth:`head`."""
        return ObjectMeta._of(await awaited(self._native.head(key)))

    def delete(self, key: str) -> None:
        """Removes an object. One that is already gone is fine."""
        blocking(self._native.delete(key))

    async def delete_async(self, key: str) -> None:
        """As :meth:`delete`."""
        await awaited(self._native.delete(key))

    def upload(self, key: str, source: Union[BinaryIO, UploadSource]) -> ObjectMeta:
        """Stores what a binary file holds, in bounded memory, unless the key exists. Seen only once it is whole."""
        upload: NativeUpload = blocking(self._native.upload(key))
        try:
            while True:
                piece = source.read(_PIECE)
                if not piece:
                    break
                blocking(upload.write(piece))
            return ObjectMeta._of(blocking(upload.finish()))
        except BaseException:
            blocking(upload.abort())
            raise

    async def upload_async(self, key: str, source: Union[AsyncIterable[bytes], Iterable[bytes]]) -> ObjectMeta:
        """As :meth:`upload`, of the pieces that ``source`` yields."""
        upload: NativeUpload = await awaited(self._native.upload(key))
        try:
            if isinstance(source, AsyncIterable):
                async for piece in source:
                    await awaited(upload.write(_bytes(piece)))
            else:
                for piece in source:
                    await awaited(upload.write(_bytes(piece)))
            return ObjectMeta._of(await awaited(upload.finish()))
        except BaseException:
            await awaited(upload.abort())
            raise

    def check(
        self, *, throughput_bytes: Optional[int] = None, progress: Optional[ProgressListener] = None
    ) -> StoreCheck:
        """Finds out by trying what the store can really do. Writes below ``.pgpersist/check/``, and removes that again.

        Args:
            throughput_bytes: how large an object measures how fast bytes move; by default none does.
            progress: told of each step.
        """
        with told(progress) as listener:
            return StoreCheck._of(blocking(self._native.check(_throughput(throughput_bytes), *listener)))

    async def check_async(
        self, *, throughput_bytes: Optional[int] = None, progress: Optional[ProgressListener] = None
    ) -> StoreCheck:
        """As :meth:`check`."""
        with told(progress) as listener:
            return StoreCheck._of(await awaited(self._native.check(_throughput(throughput_bytes), *listener)))

    def __str__(self) -> str:
        return str(self._native)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self)!r}>"

    # Last, since its name is also that of a type.
    def list(self, prefix: str = "") -> tuple[ObjectMeta, ...]:
        """All objects whose key starts with ``prefix``, characters and not folders, in the byte order of their keys."""
        return tuple(ObjectMeta._of(entry) for entry in blocking(self._native.list(prefix)))

    async def list_async(self, prefix: str = "") -> tuple[ObjectMeta, ...]:
        """As :meth:`list`."""
        return tuple(ObjectMeta._of(entry) for entry in await awaited(self._native.list(prefix)))


def _throughput(given: Optional[int]) -> Optional[int]:
    return None if given is None else count(given, "throughput_bytes", most=2**63 - 1)


class LocalBackupStore(OpenStore):
    """A folder. It is created by the first write.

    Args:
        path: the folder.

    Raises:
        InvalidError: there is something else at that place.
    """

    def __init__(self, path: _Path) -> None:
        super().__init__(_native.NativeStore.local(path), os.fspath(path))


class MemoryBackupStore(OpenStore):
    """A map in this process, for tests: it goes with this object."""

    def __init__(self) -> None:
        super().__init__(_native.NativeStore.memory())


def open_store(url: _Path) -> OpenStore:
    """Opens the store at a URL, or in a folder. Nothing is created before the first write.

    Raises:
        InvalidError: it is no address of a store.
    """
    address = os.fspath(url)
    return OpenStore(_native.NativeStore.open(address), address)


def native_of(store: object, argument: str = "store") -> NativeStore:
    """What the native module takes for a store: one of ours, or an object with a store's methods.

    Raises:
        TypeError: it is no store, with the argument's name and what is missing.
    """
    if isinstance(store, OpenStore):
        return store._native
    kind = type(store).__name__
    if isinstance(store, type):
        raise TypeError(f"{argument} is the class {store.__name__}, not a store: make one of it")
    missing = [name for name in _METHODS if not callable(getattr(store, name, None))]
    if missing:
        raise TypeError(f"{argument} is a path, a URL or a BackupStore; {kind} has no method {', '.join(missing)}")
    shown = str(store) if type(store).__str__ is not object.__str__ else kind
    return _native.NativeStore.python(store, shown, callable(getattr(store, "upload", None)))


def configured_or_own(
    store: Union[_Path, BackupStore, OpenStore, None],
) -> tuple[Optional[_Path], Optional[NativeStore]]:
    """A store's address for the configuration, or the store itself."""
    if store is None or isinstance(store, (str, PathLike)):
        return store, None
    if isinstance(store, OpenStore) and store._address is not None:
        # What is configured, health also looks at the place of.
        return store._address, None
    return None, native_of(store)


def _bytes(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"data is bytes, not a {type(data).__name__}")


def _place(given: int, argument: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{argument} is an int, not a {type(given).__name__}")
    if not 0 <= given < 1 << 64:
        raise ValueError(f"{argument} is {given}; it is not negative, and below 2^64")
    return given


def _read(answer: object) -> bytes:
    assert isinstance(answer, bytes)
    return answer
