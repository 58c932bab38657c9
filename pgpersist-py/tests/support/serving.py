"""An application that uvicorn serves, as a process of its own, and what is to be seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

import httpx

from pgpersist import Cluster

#: How long anything may take on a busy machine, in seconds.
PATIENCE = 90.0
APPS = Path(__file__).parent.parent / "apps"
DETAILS = {"Authorization": "Bearer hunter2"}
_Seen = TypeVar("_Seen")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def eventually(look: Callable[[], _Seen], what: str = "") -> _Seen:
    """What is seen at last, when it is true; what cannot be seen yet is looked at again."""
    until = time.monotonic() + PATIENCE
    while True:
        seen = None
        with contextlib.suppress(httpx.HTTPError, OSError):
            seen = look()
        if seen:
            return seen
        if time.monotonic() > until:
            raise AssertionError(f"not within {PATIENCE:g} s: {what or look}; seen last: {seen!r}")
        time.sleep(0.01)


class Serving:
    """One application and its cluster's place; stopped and gone at the end of the test.

    Args:
        place: a folder of the server's user.
        port: the server's; else a free one.
    """

    def __init__(self, place: Path, port: Optional[int] = None) -> None:
        self.place = place
        self.data_directory = place / "data"
        self.http_port, self.port = free_port(), port or free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.log_file = place / f"uvicorn-{self.http_port}.log"
        self.process: Optional[subprocess.Popen[bytes]] = None

    @property
    def cluster(self) -> Cluster:
        """The same cluster, from the test's side."""
        settings = {"unix_socket_directories": str(self.place), "listen_addresses": "", "shared_buffers": "16MB"}
        return Cluster(self.data_directory, port=self.port, settings=settings)

    def start(self, app: str = "fastapi_app", *, workers: int = 1, **options: Any) -> subprocess.Popen[bytes]:
        """Begins to serve; the options are those of the lifespan."""
        given = {
            "data_directory": str(self.data_directory),
            "port": self.port,
            "socket_directory": str(self.place),
            "options": options,
        }
        arguments = [sys.executable, "-m", "uvicorn", "--app-dir", str(APPS), "--factory", f"served:{app}"]
        arguments += ["--port", str(self.http_port), "--workers", str(workers), "--no-access-log"]
        environment = {**os.environ, "SERVED": json.dumps(given)}
        with self.log_file.open("ab") as log:
            # In a group of its own, so that all of it can be ended.
            self.process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log, start_new_session=True)
        return self.process

    def start_ready(self, app: str = "fastapi_app", *, workers: int = 1, **options: Any) -> None:
        """The same, and waits until it serves with its server."""
        process = self.start(app, workers=workers, **options)
        path = "/internal/readyz" if app == "starlette_app" else "/readyz"
        eventually(lambda: process.poll() is not None or self.status(path) == 200, f"{app} serves")
        assert process.poll() is None, self.log()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE, **options)

    def status(self, path: str) -> int:
        return self.get(path).status_code

    def details(self, path: str = "/readyz") -> dict[str, Any]:
        """What somebody with the token sees."""
        document = self.get(path, headers=DETAILS).json()
        assert isinstance(document, dict)
        return document

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def terminate(self) -> int:
        """SIGTERM, as a service manager sends it; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def postmaster(self) -> Optional[int]:
        """The server's first process, when it is ready."""
        with contextlib.suppress(OSError, IndexError):
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) if lines[7].strip() == "ready" else None
        return None

    def state_on_disk(self) -> str:
        """What ``pg_controldata`` says."""
        major = (self.data_directory / "PG_VERSION").read_text().strip()
        program = shutil.which(f"/usr/lib/postgresql/{major}/bin/pg_controldata") or "pg_controldata"
        said = subprocess.run([program, str(self.data_directory)], check=True, capture_output=True, text=True)
        return next(line.partition(":")[2].strip() for line in said.stdout.splitlines() if "cluster state" in line)

    def close(self) -> None:
        """Ends all of it, also what a failed test has left."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
            # Workers whose parent is gone: their claims have to be free.
            eventually(lambda: not _group_lives(self.process.pid if self.process else 0), "all workers are gone")
        if self.data_directory.exists() and (self.data_directory / "postmaster.pid").exists():
            cluster = self.cluster
            if cluster.status().pid is not None:
                cluster.stop(timeout=20)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def kill_server(postmaster: int) -> None:
    """SIGKILL for the server's first process; the others end by themselves."""
    os.kill(postmaster, signal.SIGKILL)


def server_user() -> str:
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
