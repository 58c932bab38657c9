"""What all tests share: folders that PostgreSQL's user can reach, and both faces of an operation."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import pytest

from pgpersist import Cluster

#: Runs pytest on small projects, for the tests of our plugin.
pytest_plugins = ["pytester"]

Call = Callable[..., Any]

#: What tells pytest's own tests, and the package's plugin in them, that they run in a worker.
_WORKER = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID")


def pytest_configure() -> None:
    # A shell in the background leaves it ignored, and then no test of Ctrl-C would end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions that a test starts are no part of the session that the test is part of."""
    for name in _WORKER:
        monkeypatch.delenv(name, raising=False)


def _server_user() -> Optional[pwd.struct_passwd]:
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of the user that PostgreSQL runs as. Its path is short, since sockets have to fit."""
    folder = Path(tempfile.mkdtemp(prefix="pgpy-"))
    user = _server_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls a method by its name through one of its faces: ``call(cluster, "start", timeout=5)``."""

    def blocking(owner: Any, name: str, *args: Any, **options: Any) -> Any:
        return getattr(owner, name)(*args, **options)

    def awaited(owner: Any, name: str, *args: Any, **options: Any) -> Any:
        return asyncio.run(getattr(owner, f"{name}_async")(*args, **options))

    return blocking if request.param == "sync" else awaited


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def cluster(place: Path) -> Iterator[Cluster]:
    """A cluster that is not made yet; its server is stopped at the end."""
    cluster = Cluster(
        place / "data",
        store=place / "backups",
        databases=["shop"],
        port=_free_port(),
        settings={"unix_socket_directories": str(place), "shared_buffers": "16MB"},
    )
    try:
        yield cluster
    finally:
        if cluster.status().pid is not None:
            cluster.stop(timeout=10)
