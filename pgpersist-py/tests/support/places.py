"""Folders and clusters for tests that work as root, where servers run as ``postgres``, and as a plain user."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pgpersist


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder below ``TMPDIR`` that the server's user can write to; pytest's own are closed to all others."""
    folder = Path(tempfile.mkdtemp(prefix="pgpersist-py-"))
    try:
        _hand_over(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_folder(parent: Path, name: str) -> Path:
    """One more such folder, in another."""
    folder = parent / name
    folder.mkdir()
    _hand_over(folder)
    return folder


def _hand_over(folder: Path) -> None:
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running_cluster(folder: Path, **options: Any) -> Iterator[pgpersist.Cluster]:
    """A cluster with a running server, in ``folder``; it is stopped at the end."""
    settings = {"fsync": "off", "unix_socket_directories": str(folder), **options.pop("settings", {})}
    cluster = pgpersist.Cluster(folder / "data", port=free_port(), settings=settings, **options)
    cluster.init(allow_ephemeral=True)
    # Root is not `postgres` to the server, and the folder's permissions are what keeps others out of a test.
    (folder / "data" / "pg_hba.conf").write_text("local all all trust\n")
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
