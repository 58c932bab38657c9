"""Stores written in Python: two that keep their promises, and some that do not."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, AsyncIterator, Dict, Iterator, Tuple

from pgpersist import ObjectMeta, UploadSource


class DictStore:
    """A dictionary: plain methods, no ``upload``."""

    def __init__(self) -> None:
        self.objects: Dict[str, Tuple[Any, datetime]] = {}
        self.lock = threading.Lock()
        self.threads: set[str] = set()

    def _found(self, key: str) -> Tuple[Any, datetime]:
        self.threads.add(threading.current_thread().name)
        try:
            return self.objects[key]
        except KeyError:
            raise FileNotFoundError(f"no object {key}") from None

    def put(self, key: str, data: Any) -> None:
        with self.lock:
            self.objects[key] = (data, datetime.now(timezone.utc))

    def put_if_absent(self, key: str, data: Any) -> None:
        with self.lock:
            if key in self.objects:
                raise FileExistsError(key)
            self.objects[key] = (data, datetime.now(timezone.utc))

    def get(self, key: str) -> Any:
        return self._found(key)[0][:]

    def get_range(self, key: str, start: int, end: int) -> Any:
        return self._found(key)[0][start:end]

    def head(self, key: str) -> ObjectMeta:
        data, modified = self._found(key)
        return ObjectMeta(key, len(data), modified)

    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        with self.lock:
            keys = sorted(key for key in self.objects if key.startswith(prefix))
        for key in keys:
            yield self.head(key)

    def delete(self, key: str) -> None:
        with self.lock:
            self.objects.pop(key, None)


class AsyncDictStore:
    """A dictionary: coroutines, and an ``upload`` that reads pieces. It remembers the loops that ran it."""

    def __init__(self) -> None:
        self.objects: Dict[str, Tuple[bytes, datetime]] = {}
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.largest_piece = 0

    async def _here(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)

    def _found(self, key: str) -> Tuple[bytes, datetime]:
        if key not in self.objects:
            raise FileNotFoundError(f"no object {key}")
        return self.objects[key]

    async def put(self, key: str, data: Any) -> None:
        await self._here()
        self.objects[key] = (bytes(data), datetime.now(timezone.utc))

    async def put_if_absent(self, key: str, data: Any) -> None:
        await self._here()
        if key in self.objects:
            raise FileExistsError(key)
        self.objects[key] = (bytes(data), datetime.now(timezone.utc))

    async def get(self, key: str) -> bytes:
        await self._here()
        return self._found(key)[0]

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        await self._here()
        return self._found(key)[0][start:end]

    # Mixed on purpose: this one is plain.
    def head(self, key: str) -> ObjectMeta:
        data, modified = self._found(key)
        return ObjectMeta(key, len(data), modified)

    async def list(self, prefix: str) -> AsyncIterator[ObjectMeta]:
        await self._here()
        for key in sorted(key for key in self.objects if key.startswith(prefix)):
            yield self.head(key)

    async def delete(self, key: str) -> None:
        await self._here()
        self.objects.pop(key, None)

    async def upload(self, key: str, source: UploadSource) -> None:
        await self._here()
        pieces = []
        async for piece in source:
            self.largest_piece = max(self.largest_piece, len(piece))
            pieces.append(piece)
        if key in self.objects:
            raise FileExistsError(key)
        self.objects[key] = (b"".join(pieces), datetime.now(timezone.utc))


class FolderStore(DictStore):
    """A folder, with an ``upload`` that reads its source like a file; keys become file names."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.largest_piece = 0

    def __str__(self) -> str:
        return f"folder {self.folder.name}"

    def upload(self, key: str, source: UploadSource) -> None:
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            try:
                while True:
                    piece = source.read(100_000)
                    if not piece:
                        break
                    self.largest_piece = max(self.largest_piece, len(piece))
                    file.write(piece)
                file.flush()
                with self.lock:
                    if key in self.objects:
                        raise FileExistsError(key)
                    self.objects[key] = (_View(Path(file.name)), datetime.now(timezone.utc))
            except BaseException:
                os.unlink(file.name)
                raise


class _View:
    """The bytes of a file, read where they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return self.path.stat().st_size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(len(self))
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(max(end - start, 0))


class Loses(DictStore):
    def put(self, key: str, data: Any) -> None:
        pass


class Overwrites(DictStore):
    def put_if_absent(self, key: str, data: Any) -> None:
        self.put(key, data)


class ListsInOrderOfArrival(DictStore):
    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        return iter([self.head(key) for key in self.objects if key.startswith(prefix)])


class ListsFolders(DictStore):
    def list(self, prefix: str) -> Iterator[ObjectMeta]:
        return iter([meta for meta in super().list(prefix) if meta.key.startswith(prefix.rpartition("/")[0] + "/")])


class RaisesKeyError(DictStore):
    def _found(self, key: str) -> Tuple[Any, datetime]:
        return self.objects[key]


class Truncates(DictStore):
    def put(self, key: str, data: Any) -> None:
        super().put(key, bytes(data)[:-1])


class RefusesToDeleteTwice(DictStore):
    def delete(self, key: str) -> None:
        self._found(key)
        super().delete(key)


class PublishesTooEarly(DictStore):
    def upload(self, key: str, source: UploadSource) -> None:
        self.put_if_absent(key, b"")
        self.put(key, source.readall())


class KeepsHalfAnUpload(AsyncDictStore):
    """Publishes on the way out, whatever the way: what a context manager that commits does."""

    async def upload(self, key: str, source: UploadSource) -> None:
        pieces = []
        try:
            async for piece in source:
                pieces.append(piece)
        finally:
            if key in self.objects:
                raise FileExistsError(key)
            self.objects[key] = (b"".join(pieces), datetime.now(timezone.utc))


class WritesInParts(DictStore):
    """A reader may see half of an object."""

    def put(self, key: str, data: Any) -> None:
        half = bytes(data)[: len(data) // 2]
        super().put(key, half)
        threading.Event().wait(0.002)
        super().put(key, data)
