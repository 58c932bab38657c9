"""Builds the package with maturin, the wheel as small as deflate makes it: it is compressed once and downloaded often.

What maturin compresses is compressed again by Zopfli, which finds deflate's smallest form: a twenty-fifth less
than its highest level. Arguments for maturin about compression leave the wheel as maturin makes it.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import maturin
import zopfli.zlib
from maturin import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_COMPRESSION = ("--compression-level", "--compression-method")


class _Smallest:
    """A compressor as ``zipfile`` uses them."""

    def __init__(self, *_: object) -> None:
        self._content = bytearray()

    def compress(self, data: bytes) -> bytes:
        self._content += data
        return b""

    def flush(self) -> bytes:
        content = bytes(self._content)
        # One round finds what fifteen do to a thousandth. What stands around it says that it is zlib's, which zip does not want.
        found: bytes = zopfli.zlib.compress(content, numiterations=1, blocksplittingmax=0)[2:-4]
        if zlib.decompress(found, -zlib.MAX_WBITS) != content:
            raise RuntimeError("Zopfli has not kept what it compressed")
        return found


def compress_again(wheel: Path) -> None:
    """Puts a wheel in its own place, with the same content in fewer bytes."""
    smaller = wheel.with_suffix(".smaller")
    # There is no other way to bring a compressor along.
    compressor = mock.patch.object(zipfile, "_get_compressor", _Smallest)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w") as new, compressor:
        for member in old.infolist():
            content = old.read(member)
            member.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(member, content)
    os.replace(smaller, wheel)


def build_wheel(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """The wheel's file name, as PEP 517 has it."""
    arguments = list(maturin.get_maturin_pep517_args(config_settings))
    name: str = maturin.build_wheel(wheel_directory, config_settings, metadata_directory)
    if not any(argument.split("=")[0] in _COMPRESSION for argument in arguments):
        compress_again(Path(wheel_directory, name))
    return name
