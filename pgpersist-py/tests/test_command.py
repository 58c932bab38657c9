"""The ``pgpersist`` command of the wheel: the same as Rust's program, word for word."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterator, Optional

import pytest

from support.programs import DEADLINE_S, MODULE, RUST, SCRIPT, Yard, as_user, children_of, end, status_of, until, words

MakeYard = Callable[..., Yard]


@pytest.fixture
def yard() -> Iterator[MakeYard]:
    """Makes yards for forms of the command; as a user, the folder is that user's."""
    made = contextlib.ExitStack()

    def make(form: str, user: Optional[str] = None) -> Yard:
        folder = Path(tempfile.mkdtemp(prefix="pgcm-"))
        folder.chmod(0o755)
        if user is not None and os.geteuid() == 0:
            shutil.chown(folder, user)
        one = Yard(form, folder, user)
        made.callback(one.remove)
        return one

    # Each is removed, also when one of them cannot be.
    with made:
        yield make


def _story(yard: Yard) -> list[tuple[list[str], int, str, str]]:
    """What a cluster's life looks like to whoever reads exit codes, stdout and stderr."""
    told = []
    for line in (
        [],
        ["--help"],
        ["dump", "--help"],
        ["--version"],
        ["statsu"],
        ["status", "--jsno"],
        ["list", "--format", "prometheus"],
        ["health", "--format", "nagios"],
        ["config", "show", "--json"],
        ["completions", "bash"],
        ["status", "--json"],
        ["init", "--dry-run"],
        ["init"],
        ["init", "--allow-ephemeral"],
        ["start"],
        ["start", "--json"],
        ["status", "--json"],
        ["dump"],
        ["list"],
        ["verify", "--json"],
        ["load", "-d", "copy", "--yes"],
        ["prune", "--keep-last", "1"],
        ["health", "--json"],
        ["--dry-run", "status"],
        ["stop"],
        ["stop", "--json"],
        ["status"],
        ["temp", "--", "sh", "-c", "psql -Atc 'SELECT 1' && exit 7"],
        ["temp", "--", "absent-program"],
    ):
        told.append((line, *yard.run(*line)))
        if line == ["start"]:
            yard.sql("CREATE TABLE orders AS SELECT generate_series(1, 100) AS id")
    return told


@pytest.mark.parametrize("user", ["ourselves", "somebody"])
def test_a_clusters_life_is_told_the_same(yard: MakeYard, user: str) -> None:
    name = None
    if user == "somebody":
        if os.geteuid() != 0:
            pytest.skip("there is nobody else whom we could be")
        name = "postgres"
        _needs_reachable_interpreter(name)
    expected, seen = (_story(yard(form, name)) for form in (RUST, SCRIPT))
    for one, other in zip(expected, seen):
        assert other == one
    codes = {" ".join(line): code for line, code, _, _ in seen}
    assert (
        codes[""] == 2 and codes["statsu"] == 2 and codes["--help"] == 0 and codes["init --allow-ephemeral"] in (0, 3)
    )
    assert codes["dump"] in (0, 3) and codes["temp -- sh -c psql -Atc 'SELECT 1' && exit 7"] == 7
    assert codes["temp -- absent-program"] == 127


def test_the_module_is_the_command_too(yard: MakeYard) -> None:
    assert [yard(form).run("config", "show", "--json") for form in (RUST, MODULE)] == [
        yard(SCRIPT).run("config", "show", "--json")
    ] * 2
    assert yard(MODULE).run("--version") == yard(RUST).run("--version")


def test_words_may_be_any_bytes(yard: MakeYard) -> None:
    told = [yard(form).run("status", os.fsdecode(b"\xff\xfe")) for form in (RUST, SCRIPT)]
    assert told[0] == told[1] and told[0][0] == 2


def test_a_new_cluster_is_of_the_same_locale(yard: MakeYard) -> None:
    def locale(form: str) -> str:
        one = yard(form)
        assert not [name for name in one.environment if name.startswith(("LC_", "LANG"))]
        assert one.run("init", "--allow-ephemeral")[0] in (0, 3) and one.run("start")[0] == 0
        return one.sql("SELECT datcollate, datctype FROM pg_database WHERE datname = 'shop'")

    assert locale(SCRIPT) == locale(RUST)


def test_closed_streams_are_no_files_of_ours(yard: MakeYard) -> None:
    def codes(form: str) -> list[int]:
        one = yard(form)
        command = " ".join(words(form))
        told = []
        for line in ("init --allow-ephemeral", "start", "dump", "verify", "stop"):
            shell = ["sh", "-c", f"exec {command} {line} <&- >&- 2>&-"]
            told.append(subprocess.run(shell, env=one.environment, cwd=one.folder, timeout=DEADLINE_S).returncode)
        return told

    assert codes(SCRIPT) == codes(RUST)


def test_ctrl_c_cancels_a_dump(yard: MakeYard) -> None:
    def cancelled(form: str) -> tuple[int, str, str]:
        one = yard(form)
        assert one.run("init", "--allow-ephemeral")[0] in (0, 3) and one.run("start")[0] == 0
        one.sql("CREATE TABLE orders (id int)")
        statement = "BEGIN; LOCK TABLE orders; SELECT pg_sleep(600)"
        holder = subprocess.Popen(one.psql(statement), stdout=subprocess.DEVNULL, text=True, **one.owner())
        dumping: Optional[subprocess.Popen[str]] = None
        try:
            until(
                "the lock", lambda: one.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'") == "1"
            )
            dumping = one.popen(["dump"])
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgpersist' AND wait_event_type = 'Lock'"
            until("a dump that waits", lambda: one.sql(waiting) == "1")
            dumping.send_signal(signal.SIGINT)
            stdout, stderr = dumping.communicate(timeout=DEADLINE_S)
            assert not list((one.folder / "backups").rglob("*.gz"))
            return dumping.returncode, one.comparable(stdout), one.comparable(stderr)
        finally:
            end(holder)
            if dumping is not None:
                end(dumping)

    expected, seen = cancelled(RUST), cancelled(SCRIPT)
    assert seen == expected and seen[0] == 130


def _ready(process: subprocess.Popen[str]) -> list[str]:
    """The lines of `run` until its server is ready."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "is ready after" in line:
            return lines
    raise AssertionError("".join(lines))


def _agents(yard: Yard, lines: list[str]) -> list[str]:
    return [yard.comparable(line) for line in lines if " pgpersist " in line]


def test_run_stops_on_sigterm(yard: MakeYard) -> None:
    def life(form: str) -> tuple[int, list[str], str]:
        one = yard(form)
        process = one.popen(["run", "--allow-ephemeral"])
        try:
            lines = _ready(process)
            if os.geteuid() == 0:
                _is_wholly_postgres(process.pid)
            process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
        finally:
            end(process)
        return process.returncode, _agents(one, [*lines, *stdout.splitlines(keepends=True)]), one.comparable(stderr)

    expected, seen = life(RUST), life(SCRIPT)
    assert seen == expected and seen[0] == 0


def _is_wholly_postgres(pid: int) -> None:
    entry = pwd.getpwnam("postgres")
    status = status_of(pid)
    assert status["Uid"] == [str(entry.pw_uid)] * 4 and status["Gid"] == [str(entry.pw_gid)] * 4
    assert "0" not in status["Groups"]
    assert int(status["CapEff"][0], 16) == 0 and int(status["CapPrm"][0], 16) == 0
    # Else nobody of that user could see which files and locks it holds.
    assert os.stat(f"/proc/{pid}/environ").st_uid == entry.pw_uid


def test_run_is_a_good_first_process(yard: MakeYard) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes namespaces here")

    def life(form: str) -> tuple[int, list[str], str]:
        one = yard(form)
        namespace = one.popen(
            ["run", "--allow-ephemeral"], prefix=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
        )
        try:
            lines = _ready(namespace)
            (first,) = children_of(namespace.pid)
            assert status_of(first)["NSpid"][-1] == "1"
            _is_wholly_postgres(first)
            (child,) = children_of(first)
            assert os.getpgid(child) == child
            # An orphan: its parent is gone at once, and the first process has to reap it.
            enter = ["nsenter", "--target", str(first), "--pid", "--mount", "sh", "-c", "(sleep 0.2 & echo $!)"]
            subprocess.run(enter, check=True, capture_output=True)
            until("the orphan's end", lambda: children_of(first) == [child])
            os.kill(first, signal.SIGTERM)
            stdout, stderr = namespace.communicate(timeout=DEADLINE_S)
        finally:
            end(namespace)
        return namespace.returncode, _agents(one, [*lines, *stdout.splitlines(keepends=True)]), one.comparable(stderr)

    expected, seen = life(RUST), life(SCRIPT)
    assert seen == expected and seen[0] == 0


def test_a_current_directory_that_the_user_cannot_enter(yard: MakeYard) -> None:
    if os.geteuid() != 0:
        pytest.skip("a user cannot be where the user cannot be")

    def told(form: str) -> tuple[int, str, str]:
        one = yard(form)
        closed = one.folder / "closed"
        closed.mkdir(mode=0o700)
        (closed / "here.toml").write_text((one.folder / "pgpersist.toml").read_text())
        return one.run("--config", "here.toml", "status", "--json", cwd=closed)

    expected, seen = told(RUST), told(SCRIPT)
    assert seen == expected and json.loads(expected[1].replace("<n>", "0"))["state"] == "absent"


def test_modules_of_the_current_directory_are_not_ours(yard: MakeYard) -> None:
    one = yard(SCRIPT)
    (one.folder / "pgpersist").mkdir()
    (one.folder / "pgpersist/__init__.py").write_text("raise SystemExit(99)\n")
    # As root, with directories to be made: the command runs itself as a rehearsal.
    assert one.run("init", "--allow-ephemeral")[0] in (0, 3)


def _needs_reachable_interpreter(user: str) -> None:
    try:
        subprocess.run([sys.executable, "-c", "import pgpersist"], check=True, **as_user(user))
    except (PermissionError, subprocess.CalledProcessError) as error:
        pytest.skip(f"{user} cannot run this interpreter: {error}")
