"""The ``pgpersist`` command, in the process of an interpreter that is there for nothing else."""

from __future__ import annotations

import os
import signal
import sys
from typing import Optional

# As root the command becomes another user, who may not be able to read what lies here: so all is imported by now.
from pgpersist import _native
from pgpersist._embedded import bring_along

#: What the first process of a container passes on.
_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    """Runs the command line that this process was started with, and returns its exit code."""
    _open_standard_streams()
    _take_back_signals()
    _take_back_locale()
    bring_along()
    return _native.run_command(["pgpersist", *sys.argv[1:]], _Process())


class _Process:
    """What the command can have this process do."""

    def command(self) -> list[str]:
        # The same modules, wherever they were found, and none of the current directory's.
        program = f"import sys; sys.path[:] = {sys.path!r}; from pgpersist.__main__ import main; sys.exit(main())"
        return [sys.executable, "-I", "-c", program]

    def set_groups(self, groups: list[int]) -> None:
        os.setgroups(groups)

    def set_group(self, gid: int) -> None:
        os.setresgid(gid, gid, gid)

    def set_user(self, uid: int) -> None:
        os.setresuid(uid, uid, uid)

    def set_variables(self, variables: list[tuple[str, Optional[str]]]) -> None:
        for name, value in variables:
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def fork(self) -> int:
        # What comes before the parent listens waits for that.
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        child = os.fork()
        if child == 0:
            # A group of its own: Ctrl-C reaches it through its parent, once.
            os.setpgid(0, 0)
            self.hear_signals()
        return child

    def hear_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def _open_standard_streams() -> None:
    """Where one is closed, the next file that is opened would be taken for it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _take_back_signals() -> None:
    """Python's handlers would wait for Python code to run; and what it ignores, programs that it starts ignore, too."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def _take_back_locale() -> None:
    """In the locale C, Python sets ``LC_CTYPE`` for what it starts (PEP 538): a new cluster would get another locale."""
    if os.environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"):
        with open("/proc/self/environ", "rb") as file:
            given = file.read().split(b"\0")
        if not any(variable.startswith(b"LC_CTYPE=") for variable in given):
            del os.environ["LC_CTYPE"]


if __name__ == "__main__":
    sys.exit(main())
