"""``Config``: the keys of the command line, from a file, a dictionary or the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Mapping, Optional, Union

from pgpersist import _native

_Path = Union[str, "PathLike[str]"]


@dataclass(frozen=True)
class ConfigValue:
    """One value of a configuration.

    Attributes:
        key: its key, such as ``cluster.port``.
        value: the value; a secret is ``***``.
        source: where it came from: a line of a file, a variable, ``the program``, or ``default``.
    """

    key: str
    value: Any
    source: str


class Config:
    """A whole configuration, checked. ``Config()`` is what the command line would use here.

    Args:
        file: the configuration file; else ``PGPERSIST_CONFIG``, ``./pgpersist.toml``, ``/etc/pgpersist/pgpersist.toml``.
        environment: the variables that count, instead of ``os.environ``.
        values: sections and keys as in the file, ``{"cluster": {"port": 5433}}``; they beat all else. A path may be a
            ``Path``, a time span a ``timedelta``; what is ``None`` is not given.

    Raises:
        InvalidError: with place and key, what was expected, and for an unknown key the nearest known one.
        NotFoundError: there is no such file.
    """

    def __init__(
        self,
        file: Optional[_Path] = None,
        *,
        environment: Optional[Mapping[str, str]] = None,
        values: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self._file = file
        self._environment = dict(os.environ if environment is None else environment)
        self._given = {} if values is None else _copied(values)
        self._native = _native.NativeConfig(file, self._environment, self._given)

    @classmethod
    def from_file(cls, file: _Path) -> Config:
        """What this file says, and nothing else."""
        return cls(file, environment={})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """What these values say, and nothing else."""
        return cls(os.devnull, environment={}, values=values)

    @classmethod
    def from_environment(cls, environment: Optional[Mapping[str, str]] = None) -> Config:
        """What ``PGPERSIST_<SECTION>_<KEY>`` and libpq's own variables say, and no file."""
        return cls(os.devnull, environment=environment)

    @staticmethod
    def example() -> str:
        """A file with every key, each with what it means, as ``pgpersist config example`` prints it: to begin with."""
        return _native.NativeConfig.example()

    def _with(self, values: Mapping[str, Any]) -> Config:
        """The same with these values laid over it."""
        return Config(self._file, environment=self._environment, values=_laid_over(self._given, values))

    def values(self) -> list[ConfigValue]:
        """Every value with its origin, in a fixed order."""
        return [ConfigValue(*value) for value in self._native.values()]

    def __getitem__(self, key: str) -> Any:
        for value in self.values():
            if value.key == key:
                return value.value
        raise KeyError(key)

    @property
    def file(self) -> Optional[Path]:
        """The file that was read, if there was one."""
        return self._native.file

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is set and has no effect, each with its place."""
        return tuple(self._native.warnings)

    def __repr__(self) -> str:
        return f"<Config {str(self.file)!r}>" if self.file else "<Config>"


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = _copied(below)
    for key, value in above.items():
        if isinstance(value, Mapping):
            merged[key] = _laid_over(merged.get(key) or {}, value)
        elif value is not None:
            merged[key] = value
    return merged
