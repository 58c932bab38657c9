"""Is a database for each test cheaper than pytest-postgresql's?

Runs the same tests, with a schema of 30 tables and a connection of psycopg 3, on both, in turns: back to back, where no
pool can be ahead for long, and with a pause after each test, where it is. What is told is a test's set-up, body (two
statements) and tear-down together, as pytest measures them, without the first test of each process; and the run's whole
wall time.

    pip install pgpersist[pytest] pytest-xdist pytest-postgresql psycopg[binary]
    python benches/pytest_databases.py [--tests 200] [--rounds 3] [--workers 4] [--only pgpersist]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TABLES = 30

PGPERSIST = """
from pgpersist.pytest_plugin import factories
postgresql_proc = factories.cluster(load=["schema.sql"])
database = factories.database("postgresql_proc")
postgresql = factories.connection("database")
"""
PYTEST_POSTGRESQL = """
from pathlib import Path
from pytest_postgresql import factories
postgresql_proc = factories.postgresql_proc(load=[Path(__file__).parent / "schema.sql"])
postgresql = factories.postgresql("postgresql_proc")
"""
MEASURE = """
import json, os, time

_spent = {}

def pytest_runtest_logreport(report):
    if os.environ.get("PYTEST_XDIST_WORKER") or not os.environ.get("BENCH_WORKERS"):
        phases = _spent.setdefault(report.nodeid, {})
        phases[report.when] = report.duration
        if report.when == "teardown":
            with open(os.environ["BENCH_OUT"] + f".{os.getpid()}", "a") as out:
                out.write(json.dumps(phases) + "\\n")

def pytest_runtest_logfinish(nodeid):
    if os.environ.get("PYTEST_XDIST_WORKER") or not os.environ.get("BENCH_WORKERS"):
        time.sleep(float(os.environ["BENCH_PAUSE"]))
"""
TESTS = """
import os, pytest

@pytest.mark.parametrize("number", range(int(os.environ["BENCH_TESTS"])))
def test_order(postgresql, number):
    postgresql.execute("INSERT INTO t0 (name) VALUES ('x')")
    assert postgresql.execute("SELECT count(*) FROM t0").fetchone() == (1,)
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


def run(name: str, conftest: str, tests: int, workers: int, pause: float) -> dict[str, float]:
    """One run of pytest; milliseconds of a test, and the wall's seconds."""
    folder = Path(tempfile.mkdtemp(prefix="pgbench-"))
    try:
        (folder / "conftest.py").write_text(conftest + MEASURE)
        (folder / "test_bench.py").write_text(TESTS)
        (folder / "schema.sql").write_text(schema())
        (folder / "pytest.ini").write_text("[pytest]\n")
        other = "pytest_postgresql" if name == "pgpersist" else "pgpersist"
        command = [sys.executable, "-m", "pytest", "-q", "-p", f"no:{other}", "-p", "no:cacheprovider"]
        command += [f"--basetemp={folder / 'base'}"] + (["-n", str(workers)] if workers else [])
        out = folder / "out"
        environment = {
            **os.environ,
            "BENCH_OUT": str(out),
            "BENCH_TESTS": str(tests),
            "BENCH_PAUSE": str(pause),
            "BENCH_WORKERS": str(workers or ""),
        }
        begun = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        wall = time.monotonic() - begun
        if done.returncode != 0:
            raise SystemExit(f"{name}: pytest failed\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        spent, setups = [], []
        for file in folder.glob("out.*"):
            phases = [json.loads(line) for line in file.read_text().splitlines()]
            # The first one of a process pays for the server and the template.
            spent += [sum(one.values()) * 1e3 for one in phases[1:]]
            setups += [one["setup"] * 1e3 for one in phases[1:]]
        spent.sort()
        return {
            "median": statistics.median(spent),
            "p95": spent[int(len(spent) * 0.95)],
            "mean": statistics.mean(spent),
            "setup": statistics.median(setups),
            "wall": wall,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds after each test, for the hits")
    parser.add_argument("--only", choices=["pgpersist", "pytest-postgresql"])
    options = parser.parse_args()
    if os.geteuid() == 0:
        raise SystemExit("run this as a plain user: pytest-postgresql cannot start PostgreSQL as root")
    print(f"{options.tests} tests, {TABLES} tables, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':38}   a test, ms: median   p95    mean   (set-up)    wall s")
    subjects = [("pgpersist", PGPERSIST), ("pytest-postgresql", PYTEST_POSTGRESQL)]
    for workers in (0, options.workers):
        for pause, what in ((0.0, "back to back"), (options.pause, f"{options.pause * 1e3:.0f} ms apart")):
            medians: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for name, conftest in subjects:
                    if options.only not in (None, name):
                        continue
                    one = run(name, conftest, options.tests, workers, pause)
                    medians.setdefault(name, []).append(one["mean"])
                    mode = f"-n {workers}" if workers else "serial"
                    print(
                        f"{mode:8} {what:14} {name:18}          {one['median']:6.1f} {one['p95']:6.1f}  {one['mean']:6.1f}"
                        f"   ({one['setup']:6.1f})  {one['wall']:8.2f}   load {os.getloadavg()[0]:.1f}",
                        flush=True,
                    )
            if len(medians) == 2:
                ours, theirs = (statistics.median(medians[name]) for name, _ in subjects)
                print(f"{'':24}ratio of the mean, median of rounds: {ours / theirs:.2f}", flush=True)


if __name__ == "__main__":
    main()
