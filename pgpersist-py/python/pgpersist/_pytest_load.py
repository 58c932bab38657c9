"""Load hooks: what makes the schema of a template database, each in one of three forms.

A path is an SQL file, or a folder of them in the order of their names. A text ``package.module:function`` names a hook, a
callable is one. A hook is called with what its signature names: ``url``, or ``host``, ``port``, ``user``, ``dbname`` and
``password``; it may be ``async``.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import inspect
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Protocol, Sequence, Union

from pgpersist._exceptions import InvalidError, PgPersistError
from pgpersist._pytest_cluster import PgCluster

Loadable = Union[str, "PathLike[str]", Callable[..., Any]]

#: How long ``psql`` may take for one file.
_FILE = 3600.0


class LoadError(InvalidError):
    """A template could not be loaded: the file with its line, or the hook, is named; a hook's exception is the cause."""


class Load(Protocol):
    """One step of making a schema."""

    def fingerprint(self) -> bytes:
        """What two loads have in common that do the same."""
        ...

    def run(self, cluster: PgCluster, database: str) -> None:
        """Does it.

        Raises:
            LoadError: it failed.
        """
        ...


def loads_of(given: Union[Loadable, Iterable[Loadable]], base: Path) -> tuple[Load, ...]:
    """The steps of what somebody has given; relative paths start at ``base``.

    Raises:
        LoadError: there is no such file, or it is none of the three forms.
    """
    if isinstance(given, (str, os.PathLike)) or callable(given):
        given = [given]
    loads: list[Load] = []
    for one in given:
        if isinstance(one, (SqlFile, Hook)):
            loads.append(one)
        elif callable(one):
            loads.append(Hook(_name_of(one), one))
        elif isinstance(one, str) and _is_import(one):
            loads.append(Hook(one, None))
        elif isinstance(one, (str, os.PathLike)):
            loads.extend(_files(base / Path(one)))
        else:
            raise LoadError(
                f"a {type(one).__name__} cannot be loaded: {one!r}",
                remedy="give the path of an SQL file, a callable, or a text like package.module:function",
            )
    return tuple(loads)


def _is_import(text: str) -> bool:
    module, colon, function = text.partition(":")
    if not colon:
        # pytest-postgresql's form: dots alone. A file's name has a suffix, a folder's path a slash.
        module, _, function = text.rpartition(".")
        if text.endswith(".sql") or "/" in text or not module:
            return False
    return all(part.isidentifier() for part in [*module.split("."), *function.split(".")])


def _files(path: Path) -> list[Load]:
    if path.is_dir():
        files = sorted(path.glob("*.sql"))
        if not files:
            raise LoadError(
                f"there is no .sql file in the folder {path}", remedy="name the folder of the schema's files"
            )
        return [SqlFile(file) for file in files]
    if not path.is_file():
        raise LoadError(f"there is no SQL file {path}", remedy="relative paths start at the folder of the ini file")
    return [SqlFile(path)]


@dataclass(frozen=True)
class SqlFile:
    """An SQL file, run by ``psql`` where there is one, so that all of its commands work; else as plain SQL."""

    path: Path

    def fingerprint(self) -> bytes:
        return b"file\0" + hashlib.sha256(self.path.read_bytes()).digest()

    def run(self, cluster: PgCluster, database: str) -> None:
        psql = _psql(cluster.bin_directory)
        if psql is None:
            self._run_plain(cluster, database)
            return
        # Not one transaction: not each statement of a schema may run in one, and half of a template is never used.
        command = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={self.path}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment.update(cluster.address.environment(database), PGAPPNAME="pgpersist", PGCONNECT_TIMEOUT="30")
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=self.path.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_FILE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LoadError(f"could not load {self.path}: not done within {_FILE:.0f} s") from None
        if done.returncode != 0:
            raise LoadError(f"could not load {self.path}", causes=[_said(done.stderr, self.path)])

    def _run_plain(self, cluster: PgCluster, database: str) -> None:
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise LoadError(f"could not load {self.path}: it is not UTF-8", remedy="convert it") from error
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("\\"):
                word = line.split()[0]
                raise LoadError(
                    f"could not load {self.path}, line {number}: `{word}` is a command of psql, which is not installed",
                    remedy="install psql (Debian: postgresql-client), or leave that line out",
                )
        with cluster.address.session(database) as session:
            try:
                session.execute(text, action=f"load {self.path}")
            except PgPersistError as error:
                raise LoadError(error.message, causes=error.causes) from None


def _psql(bin_directory: Optional[Path]) -> Optional[str]:
    beside = None if bin_directory is None else shutil.which("psql", path=str(bin_directory))
    return beside or shutil.which("psql")


def _said(stderr: bytes, path: Path) -> str:
    """What psql says of its first error: ``psql:schema.sql:7: ERROR:  …`` and the lines after it."""
    text = stderr.decode(errors="replace").strip()
    lines = text.splitlines()
    prefix = f"psql:{path}:"
    for number, line in enumerate(lines):
        if line.startswith(prefix) and ("ERROR:" in line or "error:" in line):
            place, _, what = line[len(prefix) :].partition(": ")
            return "\n".join([f"line {place}: {what}", *lines[number + 1 :]])
    return text or "psql failed and said nothing"


@dataclass(frozen=True)
class Hook:
    """A function of the user's."""

    name: str
    function: Optional[Callable[..., Any]]

    def fingerprint(self) -> bytes:
        # What it does cannot be known, but within a session it does not change.
        return f"hook\0{self.name}".encode()

    def run(self, cluster: PgCluster, database: str) -> None:
        function = self.function if self.function is not None else _imported(self.name)
        try:
            arguments, keywords = _asked_for(function, cluster, database)
            answer = function(*arguments, **keywords)
            if inspect.isawaitable(answer):
                _finish(answer)
        except Exception as error:
            raise LoadError(f"the load hook {self.name} raised {type(error).__name__}: {error}") from error


def _name_of(function: Callable[..., Any]) -> str:
    """Its import string, where it has one: then two workers mean the same by it."""
    inner = getattr(function, "func", function)
    module = getattr(inner, "__module__", None) or type(inner).__module__
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    bound = ""
    if inner is not function:
        # functools.partial: its arguments are part of what it does.
        bound = f"{getattr(function, 'args', ())!r}{getattr(function, 'keywords', {})!r}"
    return f"{module}:{name}{bound}"


def _imported(name: str) -> Callable[..., Any]:
    module, colon, path = name.partition(":")
    if not colon:
        module, _, path = name.rpartition(".")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise LoadError(
            f"there is no load hook {name}: {error}", remedy="pytest's ini key `pythonpath` says where modules are"
        ) from error
    if not callable(found):
        raise LoadError(f"{name} is a {type(found).__name__}, and a load hook is a function")
    function: Callable[..., Any] = found
    return function


def _asked_for(
    function: Callable[..., Any], cluster: PgCluster, database: str
) -> tuple[Sequence[object], dict[str, object]]:
    """The arguments of a hook, by the names in its signature."""
    url = cluster.url(database)
    known: dict[str, object] = {
        "host": cluster.host,
        "port": cluster.port,
        "user": cluster.user,
        "dbname": database,
        "password": cluster.password,
    }
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        # One that is not written in Python.
        return [url], {}
    named = {one.name: one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    if "url" in named:
        return [], {"url": url}
    keywords = {name: value for name, value in known.items() if name in named}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return [], known
    if keywords:
        return [], keywords
    required = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
    return ([url], {}) if required or any(one.kind is one.VAR_POSITIONAL for one in parameters) else ([], {})


def _finish(answer: Any) -> None:
    """Runs an awaitable to its end, in a loop of its own."""

    async def awaited() -> None:
        await answer

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(awaited())
        return
    # Asked for in the middle of an asynchronous test: its loop waits for us, so another thread's does it.
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(awaited())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="load hook")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
