"""Objects on their way into a store that is written in Python."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, AsyncIterator, Optional, Union

from pgpersist._faces import awaited, blocking

if TYPE_CHECKING:
    from pgpersist._native import NativeSource

#: What is collected in memory; beyond it goes to a temporary file.
_IN_MEMORY = 16 << 20


class UploadSource(io.RawIOBase):
    """An object of unknown size, to be read by :meth:`BackupStore.upload`: a binary file that is read forwards.

    A blocking method reads it like a file (``shutil.copyfileobj(source, file)``, boto3's ``upload_fileobj(source,
    …)``), a coroutine by ``async for piece in source`` or ``await source.read_async(size)``. When the object will
    never be whole, since the dump has failed or was cancelled, reading raises :class:`CancelledError`: let it pass,
    and publish nothing.
    """

    def __init__(self, native: NativeSource) -> None:
        super().__init__()
        self._native = native
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills as much of the buffer as there is; 0 at the end."""
        target = memoryview(buffer).cast("B")
        piece = self._part(blocking(self._native.next()) if not self._rest else b"", len(target))
        target[: len(piece)] = piece
        return len(piece)

    def read(self, size: Optional[int] = -1) -> bytes:
        """So many bytes, fewer only at the end; all that is left where ``size`` is negative or ``None``."""
        wanted = -1 if size is None else size
        pieces: list[bytes] = []
        while wanted != 0:
            piece = self._part(blocking(self._native.next()) if not self._rest else b"", wanted)
            if not piece:
                break
            pieces.append(piece)
            if wanted > 0:
                wanted -= len(piece)
        return b"".join(pieces)

    def readall(self) -> bytes:
        """All that is left, in memory."""
        return self.read()

    async def read_async(self, size: int = -1) -> bytes:
        """As :meth:`read`."""
        pieces: list[bytes] = []
        while size != 0:
            piece = self._part(await awaited(self._native.next()) if not self._rest else b"", size)
            if not piece:
                break
            pieces.append(piece)
            if size > 0:
                size -= len(piece)
        return b"".join(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            piece = self._part(await awaited(self._native.next()) if not self._rest else b"", -1)
            if not piece:
                return
            yield piece

    def _part(self, news: Optional[bytes], size: int) -> bytes:
        """At most so much of what is left over and came."""
        whole = self._rest or news or b""
        if size < 0 or len(whole) <= size:
            self._rest = b""
            return whole
        self._rest = whole[size:]
        return whole[:size]


class Spool:
    """Collects an object for a store without ``upload``: in memory, and beyond a size in a temporary file."""

    def __init__(self) -> None:
        # Imported where it is needed: most programs have no such store.
        import tempfile

        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - close() closes it
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Appends."""
        self._file.write(piece)
        self._size += len(piece)

    def data(self) -> Union[bytes, memoryview]:
        """The whole: as bytes where it is small, else as a view of the file, which lives as long as the view."""
        if self._size <= _IN_MEMORY:
            self._file.seek(0)
            return self._file.read()
        import mmap

        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
