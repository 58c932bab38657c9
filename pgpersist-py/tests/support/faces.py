"""Both faces of an operation under one test: ``face(cluster, "dump")`` calls ``dump()`` or awaits ``dump_async()``."""

from __future__ import annotations

import asyncio
from typing import Any, Callable

import pytest

Face = Callable[..., Any]


def _blocking(owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(owner, name)(*arguments, **options)


def _awaited(owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
    async def call() -> Any:
        return await getattr(owner, f"{name}_async")(*arguments, **options)

    return asyncio.run(call())


faces: dict[str, Face] = {"blocking": _blocking, "awaited": _awaited}
#: Each test that takes a ``face`` and has this mark runs twice.
both_faces = pytest.mark.parametrize("face", list(faces.values()), ids=list(faces))
