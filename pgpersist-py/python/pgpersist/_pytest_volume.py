"""A small volume of its own, in memory, that can be full at a word: a ``tmpfs`` whose size is taken away and given back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pgpersist._exceptions import DeniedError, PgPersistError, UnavailableError

#: How long mounting and unmounting may take.
_MOUNTING = 30.0
#: How long the guard waits for what still uses the volume before it takes it away all the same.
_GUARD = 600

#: Outlives us, however we end: when the pipe closes, it waits until nobody has files there any more, and unmounts. The
#: cluster's own undertaker, engaged later, ends the server and empties the folder meanwhile.
_GUARD_SCRIPT = """
trap '' HUP INT TERM QUIT PIPE
read -r _ || :
round=0
while [ "$round" -lt "$2" ]; do
    if [ -z "$(ls -A "$1")" ] && umount "$1"; then rmdir "$1"; exit; fi
    sleep 0.05
    round=$((round + 1))
done
umount -l "$1"; rmdir "$1"
"""


class Volume:
    """A mounted volume. It goes with :meth:`close`, and with this process.

    Args:
        size: how large it is, as ``mount`` reads it: ``256M``, ``1G``. Only what is written takes memory.

    Raises:
        DeniedError: this process may not mount; the remedy says how it may.
    """

    def __init__(self, size: str) -> None:
        self._size = size
        if not sys.platform.startswith("linux"):
            raise DeniedError("a disk can be filled on Linux alone", remedy="run this test there")
        # Short, since sockets have to fit; open to the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="pgp-"))
        self.folder.chmod(0o755)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD_SCRIPT, "pgpersist-volume", str(self.folder), str(_GUARD * 20)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        try:
            _mount("-t", "tmpfs", "-o", f"size={size},mode=0755,nosuid,nodev", "pgpersist-test", str(self.folder))
        except PgPersistError:
            self._guard.kill()
            self._end_guard()
            self.folder.rmdir()
            raise

    def fill(self) -> None:
        """Takes away what is free: from now on a write that needs room fails with ENOSPC."""
        used = shutil.disk_usage(self.folder).used
        _mount("-o", f"remount,size={max(used, os.sysconf('SC_PAGE_SIZE'))}", str(self.folder))

    def free(self) -> None:
        """Gives it back."""
        _mount("-o", f"remount,size={self._size}", str(self.folder))

    def close(self) -> None:
        """Unmounts it; what was on it has to be gone."""
        self._end_guard()

    def _end_guard(self) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            self._guard.wait(_MOUNTING)
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"{self.folder} is still in use, and stays mounted until it is not",
                remedy="close what has files open there",
            ) from None


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["mount", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MOUNTING,
            check=False,
        )
    except FileNotFoundError as error:
        raise DeniedError("there is no program `mount`", remedy="install it (Debian: mount)") from error
    if done.returncode != 0:
        raise DeniedError(
            f"this process may not mount a volume: {(done.stderr.strip() or 'mount failed').splitlines()[0]}",
            remedy="run pytest as root (in a container with CAP_SYS_ADMIN), or below"
            " `unshare --user --mount --map-current-user --keep-caps`",
        )
