#!/usr/bin/env python3
"""Restores a backup out of a pgpersist repository without pgpersist: this one file, and Python 3.9 or newer.

    python3 restore.py list
    python3 restore.py restore BACKUP TARGET [--tablespace OID=DIR]

BACKUP is a name that `list` tells, or `latest`. TARGET becomes the data directory; it is absent or empty before. What zstd
compressed takes the program `zstd`, or one of the modules `compression.zstd` (Python 3.14 and newer) and `zstandard`.

Everything that is read is held against its SHA-256 before anything is made of it. RESTORE.md beside this file tells the rest.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

VERSION = 1
CHUNK = 8192
LEAF_CHUNKS = 8192
MOST_ITEMS = 1 << 24
MOST_FRAMES = 1 << 20
MOST_FRAME_BYTES = 16 << 20
MOST_MANIFEST_BYTES = 64 << 20
END_OF_TIME = 253_402_300_800
CONTROL_FILE = b"global/pg_control"
AUTO_CONF = "postgresql.auto.conf"
MARK = b"pgpersist.recovering.json"
RUN = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
# Where configuration that lay outside the data directory is put as it was, and what of it is read from where.
OUTSIDE = "configuration_from_outside"
MAIN_FILES = {"config_file": b"postgresql.conf", "hba_file": b"pg_hba.conf", "ident_file": b"pg_ident.conf"}
ELSEWHERE = re.compile(
    r"^[ \t]*(data_directory|hba_file|ident_file|external_pid_file|stats_temp_directory|include\w*)\b.*$", re.I | re.M
)
# Settings that belong to another recovery, or to another place in a replication.
OTHERS = ("restore_command", "archive_cleanup_command", "primary_conninfo", "primary_slot_name", "promote_trigger_file")


class RestoreError(Exception):
    """Why there is no restore, and what to do."""


def damaged(key: str, why: str) -> RestoreError:
    """The error that an object of the repository is not what was written."""
    return RestoreError(
        f"{key} is damaged: {why}. Fetch it again from where this copy comes from, or choose another backup."
    )


class Place(NamedTuple):
    """Where an item lies: a pack as `<run>/<number>`, and the item in it."""

    pack: str
    item: int


def pack_name(run: object, number: object) -> str:
    """The name of a pack. Nothing else comes out of it, so no name leads out of the folder."""
    if not isinstance(run, str) or not RUN.fullmatch(run):
        raise ValueError("the name of a run is none")
    if type(number) is not int or not 0 <= number < 1 << 32:
        raise ValueError("the number of a pack is none")
    return f"{run}/{number:06d}"


def place(value: object) -> Place:
    """Reads `[run, number, item]`."""
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("a place is none")
    item = value[2]
    if type(item) is not int or not 0 <= item < MOST_ITEMS:
        raise ValueError("the number of an item is none")
    return Place(pack_name(value[0], value[1]), item)


class Reader:
    """Takes bytes and numbers from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise ValueError("it is cut off")
        self.at += count
        return taken

    def number(self, most: int) -> int:
        """The next number in groups of seven bits, the lowest first, in as few as it needs."""
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise ValueError("a number in it is none")
                if number > most:
                    raise ValueError("a number in it is beyond what the format allows")
                return number
            shift += 7
            if shift > 63:
                raise ValueError("a number in it is none")

    def end(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.data):
            raise ValueError("bytes follow its end")


# --- Decompression. None of these makes more than one byte beyond `most`.


def zstd_of_python(stored: bytes, most: int) -> bytes:
    """By the module that comes with Python 3.14."""
    module = importlib.import_module("compression.zstd")
    decompressor = module.ZstdDecompressor()
    try:
        content: bytes = decompressor.decompress(stored, most + 1)
    except module.ZstdError as error:
        raise ValueError("it does not decompress") from error
    if not decompressor.eof and len(content) <= most or decompressor.unused_data:
        raise ValueError("it does not decompress to what was compressed")
    return content


def zstd_of_zstandard(stored: bytes, most: int) -> bytes:
    """By the package `zstandard`."""
    module = importlib.import_module("zstandard")
    content = io.BytesIO()
    try:
        with module.ZstdDecompressor().stream_reader(io.BytesIO(stored)) as stream:
            while content.tell() <= most:
                piece: bytes = stream.read(most + 1 - content.tell())
                if not piece:
                    break
                content.write(piece)
    except module.ZstdError as error:
        raise ValueError("it does not decompress") from error
    return content.getvalue()


def zstd_of_program(stored: bytes, most: int) -> bytes:
    """By the program `zstd`."""
    with tempfile.TemporaryFile() as given:
        given.write(stored)
        given.seek(0)
        command = ["zstd", "--decompress", "--stdout", "--quiet"]
        with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            content = child.stdout.read(most + 1)
            if len(content) > most:
                child.kill()
    if child.returncode != 0 and len(content) <= most:
        raise ValueError("it does not decompress")
    return content


def find_zstd() -> Callable[[bytes, int], bytes]:
    """The first way to decompress zstd that this machine has."""
    for module, way in (("compression.zstd", zstd_of_python), ("zstandard", zstd_of_zstandard)):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        return way
    if shutil.which("zstd") is None:
        raise RestoreError(
            "The backup is compressed with zstd, and this machine cannot read that. Install the program `zstd`, "
            "or the package `zstandard` for this Python, or take Python 3.14."
        )
    return zstd_of_program


def lz4_length(stored: bytes, at: int, length: int) -> tuple[int, int]:
    """A length of which four bits are known, and where it ends."""
    if length == 15:
        while True:
            length += stored[at]
            at += 1
            if stored[at - 1] != 255:
                break
    return length, at


def lz4(stored: bytes, most: int) -> bytes:
    """One block of lz4."""
    content = bytearray()
    at = 0
    try:
        while True:
            token = stored[at]
            length, at = lz4_length(stored, at + 1, token >> 4)
            literals = stored[at : at + length]
            at += length
            if len(literals) != length or len(content) + length > most:
                raise ValueError("it does not decompress")
            content += literals
            if at == len(stored):
                return bytes(content)
            back = stored[at] | stored[at + 1] << 8
            length, at = lz4_length(stored, at + 2, token & 15)
            length += 4
            if not 0 < back <= len(content) or len(content) + length > most:
                raise ValueError("it does not decompress")
            repeated = bytes(content[-back:])
            content += (repeated * (length // back + 1))[:length]
    except IndexError as error:
        raise ValueError("it does not decompress") from error


class Decompressor:
    """Reads all codecs of the format."""

    def __init__(self) -> None:
        self.zstd: Optional[Callable[[bytes, int], bytes]] = None

    def __call__(self, codec: int, stored: bytes, most: int) -> bytes:
        """At most one byte more than `most`."""
        if codec == 0:
            return stored
        if codec == 2:
            return lz4(stored, most)
        if codec != 1:
            raise ValueError(f"it is compressed in a way that is not known: {codec}")
        if self.zstd is None:
            self.zstd = find_zstd()
        return self.zstd(stored, most)


# --- Objects of the repository.


class Frame(NamedTuple):
    """What a pack's trailer says of a frame."""

    offset: int
    stored: int
    items: int
    codec: int
    sha256: bytes


class Pack:
    """What a pack holds, by its trailer, which is held against the digest in its footer."""

    def __init__(self, repository: Path, name: str) -> None:
        self.name = name
        self.key = f"packs/{name}.pack"
        self.path = repository / self.key
        try:
            with open(self.path, "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                self._read(file)
        except FileNotFoundError as error:
            raise RestoreError(f"{self.key} is missing. Fetch it again, or choose another backup.") from error
        except (ValueError, struct.error) as error:
            raise damaged(self.key, str(error)) from error

    def _read(self, file: io.BufferedReader) -> None:
        header = file.read(8)
        if header[:4] != b"pgpk" or len(header) != 8:
            raise ValueError("it does not begin as a pack does")
        if header[4] != VERSION:
            raise newer(self.key, header[4])
        if header[5] not in (1, 2) or header[6:] != b"\0\0" or self.size < 56:
            raise ValueError("it does not begin as a pack does")
        file.seek(self.size - 48)
        footer = file.read(48)
        length, items, magic, zero = struct.unpack("<II4sI", footer[:16])
        start = self.size - 48 - length
        if magic != b"pgpe" or zero != 0 or start < 8:
            raise ValueError("it does not end as a pack does")
        file.seek(start)
        trailer = file.read(length)
        self.digest = footer[16:]
        if hashlib.sha256(self.key.encode() + b"\0" + header + trailer + footer[:16]).digest() != self.digest:
            raise ValueError("its digest is another")
        self.record = (self.size, self.digest.hex())
        self._parse(Reader(trailer), items, start)

    def _parse(self, reader: Reader, items: int, end: int) -> None:
        self.frames: list[Frame] = []
        offset, counted = 8, 0
        for _ in range(reader.number(MOST_FRAMES)):
            stored, held = reader.number(2 * MOST_FRAME_BYTES), reader.number(MOST_ITEMS)
            self.frames.append(Frame(offset, stored, held, reader.take(1)[0], reader.take(32)))
            offset, counted = offset + stored, counted + held
            if held == 0 or counted > MOST_ITEMS:
                raise ValueError("a frame has no items, or too many")
        if counted != items or offset != end:
            raise ValueError("its frames are not what its footer says")
        self.lengths: list[int] = []
        self.firsts: list[int] = []
        for frame in self.frames:
            self.firsts.append(len(self.lengths))
            for _ in range(frame.items):
                length = reader.number(MOST_FRAME_BYTES)
                if length == CHUNK:
                    raise ValueError("the length of an item is written in another way")
                self.lengths.append(length or CHUNK)
            if sum(self.lengths[self.firsts[-1] :]) > MOST_FRAME_BYTES:
                raise ValueError("a frame is too large")
        # The identities: pgpersist compares by them, a restore does not need them.
        reader.take(16 * items)
        owners = reader.number(items)
        for _ in range(owners):
            reader.take(reader.number(4096))
        owned = 0
        for _ in range(reader.number(items)):
            if reader.number(1 << 32) >= owners:
                raise ValueError("an owner in it leads nowhere")
            reader.number(1 << 50)
            owned += reader.number(items)
        if owned > items:
            raise ValueError("it says of more items than it has whose they are")
        reader.end()

    def content(self, which: int, decompress: Decompressor) -> bytes:
        """What a frame holds. Its bytes are held against their hash, and decompressed."""
        frame, first = self.frames[which], self.firsts[which]
        expected = sum(self.lengths[first : first + frame.items])
        with open(self.path, "rb") as file:
            file.seek(frame.offset)
            stored = file.read(frame.stored)
        if hashlib.sha256(stored).digest() != frame.sha256:
            raise damaged(self.key, f"the hash of its frame {which} is another")
        try:
            content = decompress(frame.codec, stored, expected)
        except ValueError as error:
            raise damaged(self.key, str(error)) from error
        if len(content) != expected:
            raise damaged(self.key, "it does not decompress to what was compressed")
        return content


def newer(key: str, version: int) -> RestoreError:
    """The error that this file is too old."""
    return RestoreError(
        f"{key} has version {version} of the format, and this restore.py reads {VERSION}. Take the one of a newer pgpersist."
    )


class Stretch(NamedTuple):
    """Chunks that lie behind each other, or that are all zero."""

    chunks: int
    first: Optional[Place]


def parse_leaf(data: bytes) -> list[Stretch]:
    """Where chunks of a file lie. There is one way to write a leaf, and all others are refused."""
    reader = Reader(data)
    packs: list[str] = []
    for _ in range(reader.number(LEAF_CHUNKS)):
        seconds, random = struct.unpack("<Q4s", reader.take(12))
        if seconds >= END_OF_TIME:
            raise ValueError("the time of a run is beyond what the format allows")
        began = datetime(1970, 1, 1) + timedelta(seconds=seconds)
        packs.append(pack_name(f"{began:%Y%m%dT%H%M%SZ}-{random.hex()}", reader.number((1 << 32) - 1)))
    chunks = reader.number(LEAF_CHUNKS)
    left = [(0, 0)] * len(packs)
    stretches: list[Stretch] = []
    chunk = used = 0
    while chunk < chunks:
        head = reader.number(4 * LEAF_CHUNKS - 1)
        count, form = (head >> 2) + 1, head & 3
        if count > chunks - chunk:
            raise ValueError("a leaf is longer than it says")
        first = None
        if form != 0:
            which = reader.number(LEAF_CHUNKS)
            if which >= len(packs) or which > used:
                raise ValueError("a pack in a leaf leads nowhere")
            used = max(used, which + 1)
            following, aligned = left[which][0], left[which][0] + chunk - left[which][1]
            item = (aligned, following, reader.number(MOST_ITEMS) if form == 3 else 0)[form - 1]
            if item + count > MOST_ITEMS or item in (aligned, following)[: form - 1]:
                raise ValueError("a leaf is not written as a writer would have written it")
            left[which] = (item + count, chunk + count)
            first = Place(packs[which], item)
        if stretches and continues(stretches[-1], first):
            raise ValueError("a leaf is not written as a writer would have written it")
        stretches.append(Stretch(count, first))
        chunk += count
    reader.end()
    if chunks == 0 or used != len(packs) or len(set(packs)) != used:
        raise ValueError("a leaf is not written as a writer would have written it")
    return stretches


def continues(before: Stretch, first: Optional[Place]) -> bool:
    """Whether what begins at `first` would have been told together with what comes before it."""
    if before.first is None or first is None:
        return before.first is first
    return before.first.pack == first.pack and before.first.item + before.chunks == first.item


class Entry(NamedTuple):
    """A file, a directory or a link of a backup."""

    path: bytes
    kind: str
    mode: int
    size: int
    leaves: list[Place]
    target: str


def is_text(data: bytes) -> bool:
    """Whether it is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_entry(line: bytes) -> Entry:
    """Reads a line of a list of entries. No path leads anywhere but below the data directory."""
    fields: dict[str, Any] = json.loads(line)
    text, hexed = fields.get("path"), fields.get("path_hex")
    if isinstance(text, str) and hexed is None:
        path = text.encode()
    elif isinstance(hexed, str) and text is None:
        path = bytes.fromhex(hexed)
        # What is text is written as text.
        if path.hex() != hexed or is_text(path):
            raise ValueError("the path of an entry is written in another way")
    else:
        raise ValueError("an entry has no path")
    if len(path) > 4095 or b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise ValueError(f"{path!r} is a path that leads elsewhere")
    kind = fields.get("kind")
    if kind == "link":
        return Entry(path, kind, 0, 0, [], str(fields["target"]))
    mode = str(fields.get("mode"))
    if kind not in ("file", "directory") or not re.fullmatch("0[0-7]{3}", mode):
        raise ValueError(f"{path!r} is of an unknown kind, or has an unknown mode")
    if kind == "directory":
        return Entry(path, kind, int(mode, 8), 0, [], "")
    size, leaves = fields.get("size"), fields.get("leaves")
    if type(size) is not int or not 0 <= size < 1 << 63 or not isinstance(leaves, list):
        raise ValueError(f"the length of {path!r} is none")
    if len(leaves) != -(-size // (CHUNK * LEAF_CHUNKS)):
        raise ValueError(f"{path!r} has more or fewer leaves than its length needs")
    return Entry(path, kind, int(mode, 8), size, [place(leaf) for leaf in leaves], "")


class Repository:
    """The folder that this file lies in, or a copy of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.decompress = Decompressor()
        self.packs: OrderedDict[str, Pack] = OrderedDict()
        self.frames: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self.expected: dict[str, tuple[int, str]] = {}
        if not (folder / "repository").is_file():
            raise RestoreError(
                f"{folder} is no repository: it has no file `repository`. Name the folder with --repository."
            )
        descriptor = json.loads(self.unseal("repository", b"pgpd"))
        if descriptor.get("encrypted"):
            raise RestoreError(
                "The repository is encrypted, and the standard library of Python has no such ciphers. "
                "Restore it with pgpersist: RESTORE.md tells how."
            )

    def unseal(self, key: str, magic: bytes) -> bytes:
        """The body of an object that is no pack, once it was held against its digest, and that against its name."""
        try:
            data = (self.folder / key).read_bytes()
        except FileNotFoundError as error:
            raise RestoreError(
                f"{key} is missing. See `python3 restore.py list` for the backups that there are."
            ) from error
        if data[:4] != magic or len(data) < 40:
            raise damaged(key, "it does not begin as such an object does")
        if data[4] != VERSION:
            raise newer(key, data[4])
        if hashlib.sha256(key.encode() + b"\0" + data[:-32]).digest() != data[-32:]:
            raise damaged(key, "its digest is another")
        return data[8:-32]

    def backups(self) -> list[str]:
        """The names of all backups."""
        found = [path.name[: -len(".manifest")] for path in (self.folder / "backups").glob("*.manifest")]
        return sorted(name for name in found if RUN.fullmatch(name))

    def manifest(self, backup: str) -> dict[str, Any]:
        """A backup's manifest."""
        key = f"backups/{backup}.manifest"
        body = self.unseal(key, b"pgpm")
        try:
            content = self.decompress(1, body, MOST_MANIFEST_BYTES)
            if len(content) > MOST_MANIFEST_BYTES:
                raise ValueError("it is too large")
            manifest: dict[str, Any] = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise damaged(key, str(error)) from error
        return manifest

    def newest(self) -> str:
        """The newest backup by its place in the log, since clocks can go back."""
        places = []
        for backup in self.backups():
            wal = self.manifest(backup)["wal"]
            high, low = wal["stop_lsn"].split("/")
            places.append((wal["timeline"], int(high, 16), int(low, 16), backup))
        if not places:
            raise RestoreError(f"There is no backup in {self.folder}.")
        name: str = max(places)[-1]
        return name

    def pack(self, name: str) -> Pack:
        """A pack, as the backup's list of packs knows it."""
        if name not in self.packs:
            self.packs[name] = Pack(self.folder, name)
            if len(self.packs) > 32:
                self.packs.popitem(last=False)
        self.packs.move_to_end(name)
        pack = self.packs[name]
        if self.expected.get(name, pack.record) != pack.record:
            raise damaged(pack.key, "it is another one than the backup was made with")
        return pack

    def items(self, first: Place, count: int) -> Iterator[tuple[bytes, list[int]]]:
        """So many items from this one on, as they stand together in frames, and the length of each."""
        pack = self.pack(first.pack)
        item, end = first.item, first.item + count
        if end > len(pack.lengths):
            raise damaged(pack.key, f"it has {len(pack.lengths)} items, and {end} are needed")
        while item < end:
            which = bisect.bisect_right(pack.firsts, item) - 1
            begin = pack.firsts[which]
            behind = min(end, begin + pack.frames[which].items)
            key = (pack.name, which)
            if key not in self.frames:
                self.frames[key] = pack.content(which, self.decompress)
                if len(self.frames) > 64:
                    self.frames.popitem(last=False)
            self.frames.move_to_end(key)
            start = sum(pack.lengths[begin:item])
            lengths = pack.lengths[item:behind]
            yield self.frames[key][start : start + sum(lengths)], lengths
            item = behind

    def item(self, where: Place) -> bytes:
        """One item."""
        return next(self.items(where, 1))[0]

    def take_packs(self, manifest: dict[str, Any]) -> None:
        """Reads the list of packs, and looks whether all of them are there, before anything is written."""
        wrong = []
        for where in manifest["packs"]:
            for line in self.item(place(where)).splitlines():
                record = json.loads(line)
                name = record["pack"]
                if pack_name(*[part if at == 0 else int(part) for at, part in enumerate(name.split("/"))]) != name:
                    raise RestoreError(f"{name} is no name of a pack: the list of packs is damaged.")
                self.expected[name] = (record["size"], record["digest"])
                path = self.folder / f"packs/{name}.pack"
                if not path.is_file() or path.stat().st_size != record["size"]:
                    wrong.append(f"packs/{name}.pack")
        if wrong:
            some = ", ".join(wrong[:5]) + (" and others" if len(wrong) > 5 else "")
            raise RestoreError(
                f"{len(wrong)} packs are missing or cut off: {some}. Fetch them again, or choose another backup."
            )

    def entries(self, manifest: dict[str, Any]) -> list[Entry]:
        """All entries of a backup, in the order of their paths."""
        entries: list[Entry] = []
        for where in manifest["entries"]:
            found = place(where)
            try:
                entries.extend(parse_entry(line) for line in self.item(found).splitlines())
            except (KeyError, ValueError, RecursionError) as error:
                raise damaged(f"packs/{found.pack}.pack", str(error)) from error
        if any(before.path >= behind.path for before, behind in zip(entries, entries[1:])):
            raise RestoreError("The backup's entries are out of order: it is damaged. Choose another backup.")
        return entries


# --- The data directory.


def write_all(file: int, data: bytes) -> None:
    """Writes all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def sync_folder(path: bytes) -> None:
    """Makes the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_new(path: bytes, data: bytes, mode: int) -> None:
    """A small file, in the place of one that may be there."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(file, mode)
        write_all(file, data)
        os.fsync(file)
    finally:
        os.close(file)


def of_standby(label: str) -> bool:
    """Whether a backup was made of a standby."""
    return "BACKUP FROM: standby" in label.splitlines()


def recovery_settings(before: str, label: str, timeline: int) -> str:
    """`postgresql.auto.conf` with the settings of this recovery, up to where the backup is consistent, and of no other.

    A backup of a standby is consistent at the end of its log: that is recovered to without a target.
    """
    found, lines = before.split("\n"), []
    if found[-1] == "":
        found.pop()
    for line in found:
        name = re.split(r"[=\s]", line.lstrip(), maxsplit=1)[0].lower()
        if name not in OTHERS and not name.startswith("recovery_"):
            lines.append(line[:-1] if line.endswith("\r") else line)
    if not of_standby(label):
        lines.append("recovery_target = 'immediate'")
    lines += [
        "recovery_target_action = 'promote'",
        f"recovery_target_timeline = '{timeline}'",
        "restore_command = 'false'",
    ]
    return "".join(f"{line}\n" for line in lines)


def brought_in(text: str) -> str:
    """A `postgresql.conf` that lay elsewhere, without what leads there."""
    return re.sub(ELSEWHERE, r"# not in force since the restore: \g<0>", text)


class Restore:
    """A backup on its way to a data directory."""

    def __init__(self, repository: Repository, backup: str, target: Path, tablespaces: dict[int, str]) -> None:
        self.repository = repository
        self.target = os.fsencode(target.absolute())
        self.manifest = repository.manifest(backup)
        repository.take_packs(self.manifest)
        self.entries = repository.entries(self.manifest)
        self.files = [entry for entry in self.entries if entry.kind == "file"]
        self.locations = tablespaces
        lay = {one["oid"]: one["location"] for one in self.manifest["tablespaces"]}
        # Never where the backup alone says: whoever wrote it may not choose a folder of this machine.
        if lay.keys() != tablespaces.keys():
            told = " ".join(f"--tablespace {oid}={location}" for oid, location in sorted(lay.items()))
            raise RestoreError(
                f"Name a place for each tablespace of the backup, no other. They lay so: {told or 'it has none'}"
            )
        self._check_paths()
        self.made: list[bytes] = []
        self.total = sum(entry.size for entry in self.files)
        self.done = 0
        self.told = time.monotonic()

    def _check_paths(self) -> None:
        """Everything lies in a folder of the backup, and every link is a tablespace of it."""
        folders = {b""}
        for entry in self.entries:
            parent = entry.path.rpartition(b"/")[0]
            if parent not in folders:
                raise RestoreError(
                    f"{entry.path!r} lies in no folder of the backup: it is damaged. Choose another backup."
                )
            if entry.kind == "directory":
                folders.add(entry.path)
            elif entry.kind == "link":
                if entry.path not in [b"pg_tblspc/%d" % oid for oid in self.locations]:
                    raise RestoreError(
                        f"{entry.path!r} is a link to {entry.target}, and no tablespace. It is not made."
                    )
                folders.add(entry.path)

    def run(self) -> None:
        """Writes everything, the control file last: without it no server starts on what is not whole."""
        places = [self.target, *[os.fsencode(location) for location in self.locations.values()]]
        if len(set(places)) != len(places):
            raise RestoreError("The data directory and each tablespace need a folder of their own.")
        for location in places:
            if os.path.lexists(location) and (
                not os.path.isdir(location) or set(os.listdir(location)) - {b"lost+found"}
            ):
                raise RestoreError(f"{os.fsdecode(location)} is not empty. Restore into absent or empty directories.")
        free = shutil.disk_usage(first_that_exists(self.target)).free
        if free < self.total:
            say(f"warning: there are {free:,} bytes free, and the backup's files have {self.total:,}")
        for location in places:
            os.makedirs(location, mode=0o700, exist_ok=True)
            os.chmod(location, 0o700)
            self.made.append(location)
        for entry in self.entries:
            path = self.place(entry.path)
            if entry.kind == "directory":
                os.mkdir(path, entry.mode)
                os.chmod(path, entry.mode)
                self.made.append(path)
            elif entry.kind == "link":
                os.symlink(self.locations[int(entry.path.rpartition(b"/")[2])], path)
        for entry in self.files:
            if entry.path != CONTROL_FILE:
                self.file(entry)
        self.make_recoverable()
        self.sync()
        for entry in self.files:
            if entry.path == CONTROL_FILE:
                self.file(entry)
        self.sync()

    def sync(self) -> None:
        """Makes all names durable."""
        for folder in [*self.made, os.path.dirname(self.target)]:
            sync_folder(folder)

    def place(self, path: bytes) -> bytes:
        """Where an entry lies."""
        return self.target + b"/" + path

    def file(self, entry: Entry) -> None:
        """Writes a file. Where it is all zero nothing is written: it has a hole there."""
        file = os.open(self.place(entry.path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, entry.mode)
        try:
            os.fchmod(file, entry.mode)
            os.truncate(file, entry.size)
            at = 0
            for leaf in entry.leaves:
                at = self.stretches(file, entry, leaf, at)
            if not entry.size <= at < entry.size + CHUNK:
                raise RestoreError(
                    f"The leaves of {entry.path!r} do not fit its length: it is damaged. Choose another backup."
                )
            os.fsync(file)
        finally:
            os.close(file)

    def stretches(self, file: int, entry: Entry, leaf: Place, at: int) -> int:
        """Writes what one leaf tells of, and returns where the next one begins."""
        try:
            stretches = parse_leaf(self.repository.item(leaf))
        except ValueError as error:
            raise damaged(f"packs/{leaf.pack}.pack", str(error)) from error
        for stretch in stretches:
            if stretch.first is None:
                at += stretch.chunks * CHUNK
                continue
            os.lseek(file, at, os.SEEK_SET)
            for data, lengths in self.repository.items(stretch.first, stretch.chunks):
                # All chunks are whole but the last one of the file.
                last = min(CHUNK, max(0, entry.size - at - CHUNK * (len(lengths) - 1)))
                if lengths[-1] != last or any(length != CHUNK for length in lengths[:-1]):
                    raise damaged(f"packs/{stretch.first.pack}.pack", f"a chunk of {entry.path!r} has another length")
                write_all(file, data)
                at += CHUNK * len(lengths)
                self.count(len(data))
        return at

    def count(self, written: int) -> None:
        """Tells now and then how far it is."""
        self.done += written
        if time.monotonic() - self.told > 5:
            self.told = time.monotonic()
            say(f"{self.done:,} of {self.total:,} bytes")

    def make_recoverable(self) -> None:
        """Label, settings and signal: without them a server would recover from the wrong place, or not at all.

        No `tablespace_map`: by it the server would make its links anew, to where the tablespaces were.
        """
        write_new(self.place(b"backup_label"), self.manifest["backup_label"].encode(), 0o600)
        auto_conf = Path(os.fsdecode(self.target)) / AUTO_CONF
        before = auto_conf.read_bytes().decode(errors="replace") if auto_conf.exists() else ""
        settings = recovery_settings(before, self.manifest["backup_label"], self.manifest["wal"]["timeline"])
        write_new(os.fsencode(auto_conf), settings.encode(), 0o600)
        self.bring_in(self.manifest.get("outside", []))
        write_new(self.place(b"recovery.signal"), b"", 0o600)
        # By this `pgpersist start` takes it to a timeline of its own, also when it is killed on the way there.
        mark = {
            "format": 1,
            "backup": self.manifest["backup"],
            "timeline": self.manifest["wal"]["timeline"],
            "immediate": not of_standby(self.manifest["backup_label"]),
        }
        write_new(self.place(MARK), f"{json.dumps(mark, separators=(',', ':'))}\n".encode(), 0o600)

    def bring_in(self, outside: list[dict[str, str]]) -> None:
        """Writes the configuration that lay outside: as it was into a folder, and the main files where they are read."""
        for file in outside:
            parts = [part for part in file["location"].split("/") if part]
            if any(part in (".", "..") or "\0" in part for part in parts):
                raise RestoreError(f"{file['location']!r} is a path that leads elsewhere.")
            copy = Path(os.fsdecode(self.target), OUTSIDE, *parts)
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_new(os.fsencode(copy), file["content"].encode(), 0o600)
            name = MAIN_FILES.get(file["setting"])
            if name is not None and not os.path.lexists(self.place(name)):
                content = brought_in(file["content"]) if file["setting"] == "config_file" else file["content"]
                write_new(self.place(name), content.encode(), 0o600)
        if outside:
            say(f"The configuration lay outside the data directory. It is in {OUTSIDE}: look through postgresql.conf.")


def first_that_exists(path: bytes) -> bytes:
    """The path, or the nearest folder above it that there is."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def say(text: str) -> None:
    """Tells a person."""
    print(text, file=sys.stderr)


def list_backups(repository: Repository) -> None:
    """Prints a line for each backup that can be told of."""
    for backup in repository.backups():
        try:
            manifest = repository.manifest(backup)
            label = manifest.get("label") or ""
            spaces = "".join(f"  tablespace {one['oid']}={one['location']}" for one in manifest["tablespaces"])
            version = manifest["cluster"]["server_version"]
            size = manifest["sizes"]["bytes"]
        except RestoreError as error:
            say(f"warning: {error}")
            continue
        print(f"{backup}  {manifest['stopped_at']}  PostgreSQL {version}  {size:,} bytes{spaces}  {label}".rstrip())


def tablespace(text: str) -> tuple[int, str]:
    """Reads OID=DIR."""
    oid, _, location = text.partition("=")
    if not oid.isdigit() or not location:
        raise argparse.ArgumentTypeError("it is written OID=DIR, such as 16399=/srv/fast")
    return int(oid), os.path.abspath(location)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(description="Restore a backup out of a pgpersist repository.")
    here = Path(__file__).resolve().parent
    whole.add_argument(
        "--repository", type=Path, default=here, help="the folder of the repository, else the one of this file"
    )
    commands = whole.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="tell the backups that there are")
    one = commands.add_parser("restore", help="make a data directory of a backup")
    one.add_argument("backup", help="a name that `list` tells, or `latest`")
    one.add_argument("target", type=Path, help="the data directory, absent or empty")
    words = "where a tablespace goes; one for each that the backup has"
    one.add_argument("--tablespace", type=tablespace, action="append", default=[], metavar="OID=DIR", help=words)
    return whole


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs a command line, and returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        repository = Repository(options.repository)
        if options.command == "list":
            list_backups(repository)
            return 0
        backup: str = repository.newest() if options.backup == "latest" else options.backup
        if not RUN.fullmatch(backup):
            raise RestoreError(f"`{backup}` is no name of a backup. See `python3 restore.py list`.")
        restore = Restore(repository, backup, options.target, dict(options.tablespace))
        say(f"restoring {backup}: {len(restore.files):,} files, {restore.total:,} bytes")
        try:
            restore.run()
        except BaseException:
            if restore.made:
                say(f"{options.target} is not whole and will not start: remove it.")
            raise
    except RestoreError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {error}")
        return 1
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        say(f"error: what the backup says cannot be understood ({error!r}): it is damaged. Choose another backup.")
        return 1
    version = restore.manifest["cluster"]["major"]
    say(f"restored to {options.target}. It wants PostgreSQL {version}, and to belong to the user who runs it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
