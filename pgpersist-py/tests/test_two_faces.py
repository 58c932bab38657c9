"""Each operation has a blocking face and an awaited one, with the same arguments."""

from __future__ import annotations

import inspect
from typing import Any, Iterator

import pytest

import pgpersist

#: What waits for nothing: it is made, shown or begun at once, or written by users.
_AT_ONCE = {"begin", "from_dict", "from_env", "load", "url", "to_dict", "to_markdown", "to_html", "to_text", "render"}
_OWNERS = [
    pgpersist.Agent,
    pgpersist.Cluster,
    pgpersist.OpenStore,
    pgpersist.StoreKeys,
    pgpersist.TemporaryCluster,
    pgpersist,
]


def _operations(owner: Any) -> Iterator[tuple[str, Any]]:
    names = pgpersist.__all__ if owner is pgpersist else [name for name in dir(owner) if not name.startswith("_")]
    for name in names:
        found = inspect.getattr_static(owner, name) if inspect.isclass(owner) else getattr(owner, name)
        if inspect.isfunction(found):
            yield name, found


@pytest.mark.parametrize("owner", _OWNERS, ids=lambda owner: str(owner.__name__))
def test_both_are_there_and_take_the_same(owner: Any) -> None:
    operations = dict(_operations(owner))
    pairs = 0
    for name, operation in operations.items():
        if name.endswith("_async"):
            assert name[: -len("_async")] in operations, f"{name} has no blocking face"
            continue
        twin = operations.get(f"{name}_async")
        if twin is None:
            assert name in _AT_ONCE or owner is pgpersist, f"{name} has no awaited face"
            continue
        pairs += 1
        assert inspect.iscoroutinefunction(twin) and not inspect.iscoroutinefunction(operation), name
        mine, other = inspect.signature(operation).parameters, inspect.signature(twin).parameters
        assert list(mine) == list(other), name
        for parameter in mine:
            assert mine[parameter].default == other[parameter].default, f"{name}({parameter})"
            assert mine[parameter].kind == other[parameter].kind, f"{name}({parameter})"
        assert operation.__doc__ and twin.__doc__, f"{name} says nothing of itself"
    assert pairs
