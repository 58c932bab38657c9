"""Builds the package with maturin, the wheel as small as deflate makes it: it is compressed once and downloaded often.

maturin takes the level as an argument only, and ``pip install`` gives it none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import maturin
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

_LEVEL = "--compression-level"


def build_wheel(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """The wheel's file name, as PEP 517 has it. Arguments for maturin that somebody gives win over ours."""
    arguments = list(maturin.get_maturin_pep517_args(config_settings))
    if not any(argument.split("=")[0] == _LEVEL for argument in arguments):
        arguments += [_LEVEL, "9"]
    settings = {**(config_settings or {}), "maturin.build-args": arguments}
    name: str = maturin.build_wheel(wheel_directory, settings, metadata_directory)
    return name
