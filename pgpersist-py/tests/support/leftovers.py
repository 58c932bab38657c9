"""What a test run has left on the machine: processes, folders, mounts."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path


def left_in(folder: Path) -> list[str]:
    """What is still there of clusters and volumes below a folder: files, mounts, and processes that work in it."""
    found = [str(path) for pattern in ("pgpersist-temp-*", "pgp-*") for path in folder.glob(pattern)]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            working = os.readlink(process / "cwd")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if working.startswith(str(folder)) or (str(folder) in command and "undertaker" in command):
            found.append(f"process {process.name}: {command}")
    return found


def wait_until_nothing_is_left(folder: Path, within: float = 200.0) -> None:
    """Fails with what is left when the time is over."""
    deadline = time.monotonic() + within
    while found := left_in(folder):
        assert time.monotonic() < deadline, "\n".join(found)
        time.sleep(0.05)


def short_folder() -> Path:
    """A folder that the server's user can enter, with a path short enough for sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="pgt-"))
    folder.chmod(0o777 | 0o1000)
    return folder
