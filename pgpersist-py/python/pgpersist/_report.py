"""What operations return: frozen values with Python's own types, made of the documents that ``--json`` prints."""

from __future__ import annotations

import copy
import enum
import typing
from collections.abc import Mapping as MappingABC
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, Union

_Report = TypeVar("_Report", bound="Report")


@dataclass(frozen=True)
class Report:
    """A result. Its fields do not change; :meth:`to_dict` has all that the command line's ``--json`` prints."""

    # A field is what the document has under its name, or under the `key` of its metadata; time spans end in `_s` there.

    _document: dict[str, Any] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``--json``: strings, numbers, lists and dictionaries."""
        return copy.deepcopy(self._document)

    @classmethod
    def _of(cls: type[_Report], document: dict[str, Any]) -> _Report:
        hints = _hints(cls)
        values: dict[str, Any] = {}
        for one in fields(cls):
            if one.name == "_document":
                continue
            hint, name = hints[one.name], one.metadata.get("key", one.name)
            if name not in document and f"{name}_s" in document:
                name = f"{name}_s"
            if name in document:
                values[one.name] = _converted(hint, document[name])
            elif one.default is MISSING and one.default_factory is MISSING:
                values[one.name] = None
        return cls(_document=document, **values)


#: The type hints of each class, evaluated once.
_evaluated: dict[type, dict[str, Any]] = {}


def _hints(cls: type) -> dict[str, Any]:
    hints = _evaluated.get(cls)
    if hints is None:
        hints = _evaluated[cls] = typing.get_type_hints(cls)
    return hints


def _converted(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return None if value is None else _converted(arguments[0], value)
    if origin is tuple:
        return tuple(_converted(arguments[0], item) for item in value)
    if origin is MappingABC:
        return MappingProxyType({key: _converted(arguments[1], item) for key, item in value.items()})
    if hint is datetime:
        return moment(value)
    if hint is timedelta:
        return timedelta(seconds=value)
    if hint is Path:
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, (Report, enum.Enum)):
        return hint._of(value) if issubclass(hint, Report) else hint(value)
    return value


def moment(text: str) -> datetime:
    """A moment of RFC 3339, with its zone; what is finer than a microsecond is cut off."""
    whole, _, rest = text.partition(".")
    if rest:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{whole}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
