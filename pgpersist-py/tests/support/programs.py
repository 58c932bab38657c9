"""The command in its two forms, Rust's program and Python's script, and what they say, made comparable."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

#: However slow the machine is, nothing here takes longer.
DEADLINE_S = 120

RUST = "rust"
SCRIPT = "script"
MODULE = "module"


def words(form: str) -> list[str]:
    """How one form of the command is started."""
    if form == RUST:
        built = Path(__file__).parents[3] / "target/debug/pgpersist"
        return [os.environ.get("PGPERSIST_TEST_PROGRAM", str(built))]
    if form == SCRIPT:
        return [str(Path(sysconfig.get_path("scripts"), "pgpersist"))]
    return [sys.executable, "-m", "pgpersist"]


@dataclass
class Yard:
    """A folder with a configuration, in which one form of the command is run."""

    form: str
    folder: Path
    #: The user who runs it; ``None`` for who we are.
    user: Optional[str] = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = _free_port()
        self.sockets = self.folder / "sockets"
        self.sockets.mkdir()
        # The server is another user's when we are root.
        self.sockets.chmod(0o1777)
        (self.folder / "pgpersist.toml").write_text(
            f"""
[cluster]
data_directory = "{self.folder}/data"
port = {self.port}
databases = ["shop"]
settings = {{ unix_socket_directories = "{self.sockets}", listen_addresses = "", shared_buffers = "16MB" }}

[[store]]
url = "{self.folder}/backups"
"""
        )
        kept = ("PATH", "HOME", "TMPDIR", "PGPERSIST_CACHE")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment.update(PGPERSIST_CONFIG=f"{self.folder}/pgpersist.toml", PGHOST=str(self.sockets))

    def popen(self, arguments: list[str], prefix: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
        """Starts it; what it says comes through pipes."""
        given: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        }
        if self.user is not None and os.geteuid() == 0:
            given.update(as_user(self.user))
        given.update(options)
        return subprocess.Popen([*prefix, *words(self.form), *arguments], **given)

    def run(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, the latter two made comparable."""
        process = self.popen(list(arguments), **options)
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
        return process.returncode, self.comparable(stdout or ""), self.comparable(stderr or "")

    def comparable(self, text: str) -> str:
        """Without what differs from run to run: the folder, times, numbers, hashes."""
        text = text.replace(str(self.folder), "<folder>")
        text = re.sub(r"\b[0-9a-f]{16,}\b", "<hash>", text)
        return re.sub(r"[0-9]+(\.[0-9]+)?( [KMGTu]?B\b)?", "<n>", text)

    def sql(self, statement: str) -> str:
        """What psql answers, run by the owner of the server."""
        ran = subprocess.run(self.psql(statement), check=True, capture_output=True, text=True, **self.owner())
        return str(ran.stdout).strip()

    def psql(self, statement: str) -> list[str]:
        return ["psql", "-XAtq", "-h", str(self.sockets), "-p", str(self.port), "-d", "shop", "-c", statement]

    def owner(self) -> dict[str, Any]:
        return as_user("postgres") if os.geteuid() == 0 else {}

    def remove(self) -> None:
        """Stops what may still run, and removes the folder."""
        if (self.folder / "data/postmaster.pid").exists():
            subprocess.run(
                [*words(self.form), "stop"], env=self.environment, cwd="/", capture_output=True, timeout=DEADLINE_S
            )
        shutil.rmtree(self.folder)


def as_user(name: str) -> dict[str, Any]:
    """Options of :mod:`subprocess` that run a program as somebody else."""
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [entry.pw_gid], "cwd": "/"}


def until(what: str, happened: Callable[[], Any]) -> Any:
    """Waits for something that is about to happen."""
    ends = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends:
        seen = happened()
        if seen:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"did not happen: {what}")


def children_of(pid: int) -> list[int]:
    """The processes that one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def status_of(pid: int) -> dict[str, list[str]]:
    """The lines of ``/proc/PID/status``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":")[1].split() for line in lines}


def end(process: subprocess.Popen[str]) -> None:
    """Ends a process that a failed test has left."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=DEADLINE_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
