"""For programs that refuse to be root: a user namespace, in which we are ``postgres`` and still own what is ours."""

from __future__ import annotations

import os
import pwd
import subprocess

import pytest


def as_plain_user() -> list[str]:
    """What a command begins with. Nothing where we are no root; the test is skipped where no namespace can be made."""
    if os.geteuid() != 0:
        return []
    # Another user could reach neither an interpreter below /root nor a test's own folder.
    user = pwd.getpwnam("postgres")
    below = ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]
    tried = subprocess.run([*below, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"root can make no user namespace here: {tried.stderr.strip()}")
    return below
