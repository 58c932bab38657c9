"""A bucket of moto, which speaks S3; ``script/fetch-store-servers`` installs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Iterator, Optional

import pytest

from support.places import free_port

BUCKET = "pgpersist-tests"
#: Nothing may repeat it.
SECRET_KEY = "canary/secret+key/0000000000000000000002"
DEADLINE_S = 90.0


def _moto() -> Optional[Path]:
    named = os.environ.get("PGPERSIST_TEST_STORE_SERVERS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = Path(named or cache / "pgpersist-test/store-servers") / "moto/bin/moto_server"
    if program.exists():
        return program
    assert named is None, f"{program} is not there: run script/fetch-store-servers"
    return None


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """The address of a store in an empty bucket, with its credentials in ``folder``; the server is gone at the end."""
    program = _moto()
    if program is None:
        pytest.skip("moto is not installed; script/fetch-store-servers installs it")
    port = free_port()
    # It ends with the thread that starts it, also when that is killed.
    command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
    if shutil.which("setpriv") is not None:
        command = ["setpriv", "--pdeathsig=KILL", *command]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with open(folder / "moto.log", "wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_for(server, port, folder / "moto.log")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            assert answer.status == 200
        credentials = folder / "credentials"
        credentials.write_text(f"[default]\naws_access_key_id = TESTACCESSKEY\naws_secret_access_key = {SECRET_KEY}\n")
        yield (
            f"s3://{BUCKET}/teams/db?endpoint=http://127.0.0.1:{port}&region=us-east-1&credentials_file={credentials}"
        )
    finally:
        server.kill()
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"moto does not listen: {log.read_text()}")
