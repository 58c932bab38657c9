"""Is a database for each test cheaper than pytest-postgresql's, and is it there at once where it was made ahead?

Runs the same tests, with a schema of 30 tables and a connection of psycopg 3, on both, in turns: back to back, where no
pool can be ahead for long, and with a pause after each test, where it is; by one process and by several of pytest-xdist. A *hit*
took a database that had been made ahead, a *miss* waited for its own to be made; they are told apart. A test's time is its
set-up, body (two statements) and tear-down, as pytest measures them, without the first test of each process, which waits for the
server and the template. What a session waits for its server is measured apart, in sessions of their own: from a test's request
to the answer to its first query, while the cluster that ours is a copy of is there already. JSON on stdout, a table on stderr.

    pip install pgpersist[pytest] pytest-xdist pytest-postgresql psycopg[binary]
    python benches/pytest_databases.py [--tests 200] [--rounds 3] [--workers 4] [--sessions 15]

pytest-postgresql cannot start PostgreSQL as root: started by root, all of this goes on as `postgres`, in a user namespace.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from figures import Figure, head, tell

TABLES = 30
#: What is wanted at most: of a hit's set-up and of a session's server, in milliseconds, and of a test as a part of the other's.
HIT_MS = 20
SERVER_MS = 200
PART = 0.25


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        name: its name.
        other: the plugin that is left out meanwhile.
        conftest: what makes its fixture ``postgresql``, a connection to a database of the test's own.
        server: its fixture of the session's server.
    """

    name: str
    other: str
    conftest: str
    server: str


OURS = Subject(
    "pgpersist",
    "pytest_postgresql",
    """
import time
import pytest
from pgpersist.pytest_plugin import factories

server = factories.cluster(load=["schema.sql"])
database = factories.database("server")

@pytest.fixture
def postgresql(request):
    begun = time.perf_counter()
    database = request.getfixturevalue("database")
    taken = time.perf_counter() - begun
    request.node.user_properties += [("was_ready", database.was_ready), ("taken", taken)]
    with database.connect() as connection:
        yield connection
""",
    "pg_cluster",
)
THEIRS = Subject(
    "pytest-postgresql",
    "pgpersist",
    """
from pathlib import Path
from pytest_postgresql import factories

server = factories.postgresql_proc(load=[Path(__file__).parent / "schema.sql"])
postgresql = factories.postgresql("server")
""",
    "postgresql_proc",
)
SUBJECTS = (OURS, THEIRS)

#: Each process that runs tests writes down what they took, a line each, and rests after each.
MEASURE = """
import json, os, time

_spent = {}

def _runs_tests():
    return bool(os.environ.get("PYTEST_XDIST_WORKER") or not os.environ["BENCH_WORKERS"])

def pytest_runtest_logreport(report):
    if _runs_tests():
        phases = _spent.setdefault(report.nodeid, {})
        phases[report.when] = report.duration
        if report.when == "teardown":
            phases.update(report.user_properties)
            with open(os.environ["BENCH_OUT"] + f".{os.getpid()}", "a") as out:
                out.write(json.dumps(phases) + "\\n")

def pytest_runtest_logfinish(nodeid):
    if _runs_tests():
        time.sleep(float(os.environ["BENCH_PAUSE"]))
"""
TESTS = """
import os, pytest

@pytest.mark.parametrize("number", range(int(os.environ["BENCH_TESTS"])))
def test_order(postgresql, number):
    postgresql.execute("INSERT INTO t0 (name) VALUES ('x')")
    assert postgresql.execute("SELECT count(*) FROM t0").fetchone() == (1,)
"""
SESSION = """
import json, os, time
import psycopg

def test_session(request):
    begun = time.perf_counter()
    server = request.getfixturevalue(os.environ["BENCH_SERVER"])
    where = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
    with psycopg.connect(dbname="postgres", **where) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with open(os.environ["BENCH_OUT"], "w") as out:
        json.dump(time.perf_counter() - begun, out)
"""


def schema() -> str:
    """30 tables as an application has them: keys, an index, a reference to the one before."""
    tables = []
    for number in range(TABLES):
        reference = f"REFERENCES t{number - 1} (id)" if number else ""
        tables.append(
            f"CREATE TABLE t{number} (id bigserial PRIMARY KEY, name text NOT NULL, made timestamptz DEFAULT now(),"
            f" parent bigint {reference}, body jsonb);\nCREATE INDEX ON t{number} (name);\n"
        )
    return "".join(tables)


@dataclass(frozen=True)
class Run:
    """One run of pytest.

    Attributes:
        tests: the phases of each test but the first of a process, in seconds, and what it tells of its database.
        wall: how long all of it took, in seconds.
    """

    tests: list[dict[str, Any]]
    wall: float

    def mean(self) -> float:
        """Of a whole test, in milliseconds."""
        return statistics.mean(whole(test) for test in self.tests)


def whole(test: dict[str, Any]) -> float:
    """Set-up, body and tear-down, in milliseconds."""
    return 1e3 * float(test["setup"] + test["call"] + test["teardown"])


class Bench:
    """Runs pytest on projects in a folder.

    Args:
        folder: where they lie.
        programs: where PostgreSQL's programs lie, the same ones for both.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._pg_ctl = programs / "pg_ctl"

    def tests(self, subject: Subject, tests: int, workers: int, pause: float) -> Run:
        """A database for each of so many tests."""
        project = self._project(TESTS, subject.conftest + MEASURE)
        environment = {"BENCH_TESTS": str(tests), "BENCH_PAUSE": str(pause), "BENCH_WORKERS": str(workers or "")}
        try:
            wall = self._pytest(subject, project, environment, ["-n", str(workers)] if workers else [])
            measured = []
            for file in project.glob("out.*"):
                measured += [json.loads(line) for line in file.read_text().splitlines()][1:]
            return Run(measured, wall)
        finally:
            shutil.rmtree(project)

    def session(self, subject: Subject) -> float:
        """How long a session's server takes to answer, in milliseconds."""
        project = self._project(SESSION, "")
        try:
            self._pytest(subject, project, {"BENCH_SERVER": subject.server}, [])
            return 1e3 * float(json.loads((project / "out").read_text()))
        finally:
            shutil.rmtree(project)

    def _project(self, tests: str, conftest: str) -> Path:
        project = Path(tempfile.mkdtemp(prefix="project-", dir=self._folder))
        files = {"conftest.py": conftest, "test_bench.py": tests, "schema.sql": schema(), "pytest.ini": "[pytest]\n"}
        for name, text in files.items():
            (project / name).write_text(text)
        return project

    def _pytest(self, subject: Subject, project: Path, environment: dict[str, str], arguments: list[str]) -> float:
        command = [sys.executable, "-m", "pytest", "-q", "-p", f"no:{subject.other}", "-p", "no:cacheprovider"]
        command += [f"--basetemp={project / 'base'}", *arguments]
        if subject is THEIRS:
            command.append(f"--postgresql-exec={self._pg_ctl}")
        environment = {**os.environ, "BENCH_OUT": str(project / "out"), **environment}
        begun = time.monotonic()
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        wall = time.monotonic() - begun
        if done.returncode != 0:
            raise SystemExit(f"{subject.name}: pytest failed\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        return wall


def of_tests(bench: Bench, tests: int, rounds: int, workers: int, pause: float) -> Iterator[Figure]:
    """One way to run the tests, on both in turns."""
    runs: dict[str, list[Run]] = {subject.name: [] for subject in SUBJECTS}
    for _ in range(rounds):
        for subject in SUBJECTS:
            runs[subject.name].append(bench.tests(subject, tests, workers, pause))
    way = f"{f'-n {workers}' if workers else 'serial'}, {f'{pause * 1e3:.0f} ms apart' if pause else 'back to back'}"
    ours = runs[OURS.name]
    shares = [100 * statistics.mean(test["was_ready"] for test in run.tests) for run in ours]
    yield Figure(f"{way}: hits", "%", shares)
    measured = [test for run in ours for test in run.tests]
    for what, was_ready in (("hit", True), ("miss", False)):
        some = [test for test in measured if test["was_ready"] is was_ready]
        yield Figure(f"{way}, {what}: its database is handed over", "ms", [1e3 * test["taken"] for test in some])
        most = HIT_MS if was_ready and pause else None
        yield Figure(f"{way}, {what}: set-up, with a connection", "ms", [1e3 * test["setup"] for test in some], most)
    for subject in SUBJECTS:
        times = [whole(test) for run in runs[subject.name] for test in run.tests]
        yield Figure(f"{way}: a test with {subject.name}", "ms", times)
    pairs = list(zip(ours, runs[THEIRS.name]))
    means = [one.mean() / other.mean() for one, other in pairs]
    yield Figure(f"{way}: a test, as a part of pytest-postgresql's", "x", means, None if pause else PART)
    if not pause:
        walls = [one.wall / other.wall for one, other in pairs]
        yield Figure(f"{way}: the whole run, as a part of pytest-postgresql's", "x", walls)


def of_sessions(bench: Bench, sessions: int) -> Iterator[Figure]:
    """A session's server, on both in turns."""
    took: dict[str, list[float]] = {subject.name: [] for subject in SUBJECTS}
    for subject in SUBJECTS:
        # What it reads is in memory from now on.
        bench.session(subject)
    for _ in range(sessions):
        for subject in SUBJECTS:
            took[subject.name].append(bench.session(subject))
    yield Figure("a session's server answers, pgpersist", "ms", took[OURS.name], SERVER_MS)
    yield Figure("a session's server answers, pytest-postgresql", "ms", took[THEIRS.name])


def become_plain_user() -> None:
    """As root, begins again in a user namespace as ``postgres``, to whom all that is root's own belongs there."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        below = ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]
        os.execvp(below[0], [*below, sys.executable, *sys.argv])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is run, on both")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds after each test, for the hits")
    parser.add_argument("--sessions", type=int, default=15, help="how often a session's server is started, on both")
    options = parser.parse_args()
    if options.tests <= 2 * max(1, options.workers) or min(options.rounds, options.sessions) < 1 or options.pause <= 0:
        parser.error("more than two tests for each worker, at least one round and one session, and a pause are wanted")
    become_plain_user()
    folder = Path(tempfile.mkdtemp(prefix="pgbench-"))
    try:
        # A template that this user can read, made now if at all; programs that both use.
        os.environ["PGPERSIST_CACHE"] = str(folder / "cache")
        from pgpersist import TemporaryCluster

        with TemporaryCluster() as cluster:
            programs, version = cluster.bin_directory, cluster.version
        print(
            f"PostgreSQL {version}, {options.tests} tests, {TABLES} tables, {options.rounds} rounds,"
            f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
        )
        bench = Bench(folder, programs)
        head()
        tell(list(of_sessions(bench, options.sessions)))
        for workers in (0, options.workers):
            for pause in (options.pause, 0.0):
                tell(list(of_tests(bench, options.tests, options.rounds, workers, pause)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
