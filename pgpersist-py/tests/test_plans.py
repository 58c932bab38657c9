"""Plans: what an operation would do, told without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import psycopg
import pytest

import pgpersist
from pgpersist import Cluster, Invariant

Call = Callable[..., Any]


@pytest.fixture
def running(cluster: Cluster) -> Cluster:
    cluster.init(allow_ephemeral=True)
    cluster.start()
    return cluster


def _databases(cluster: Cluster) -> list[str]:
    with psycopg.connect(cluster.url()) as connection:
        return [name for (name,) in connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()]


def test_a_planned_dump_names_its_databases_and_makes_none(running: Cluster, call: Call, place: Path) -> None:
    plan = call(running, "plan_dump")
    assert plan.steps == (f"dump the database shop to {place / 'backups'}",)
    assert plan.to_dict() == {"plan": list(plan.steps)} and plan.warnings == ()
    assert call(running, "plan_dump", "postgres").steps[0].startswith("dump the database postgres ")
    assert running.dumps() == []


def test_a_planned_load_names_its_dump_and_makes_no_database(running: Cluster, call: Call) -> None:
    (dump,) = running.dump().dumps
    before = _databases(running)
    plan = call(running, "plan_load", database="copy")
    assert plan.steps[0] == f"load {dump.name} into a new database" and len(plan.steps) == 4
    assert plan.steps[-1] == "give the new database the name copy"
    assert _databases(running) == before
    with pytest.raises(pgpersist.NotFoundError):
        call(running, "plan_load", "absent.sql.gz")


def test_a_planned_load_needs_no_server(running: Cluster, call: Call) -> None:
    running.dump()
    running.stop()
    assert call(running, "plan_load").steps[-1] == "give the new database the name shop"


def test_a_planned_crash_drill_is_drawn_by_its_seed(call: Call) -> None:
    plan = call(pgpersist, "plan_crash_drill", rounds=2, seed=7, keep=True)
    assert plan.steps[0] == "make a throw-away cluster" and plan.steps[-1] == "keep all of it"
    assert [step.split(":")[0] for step in plan.steps[2:-1]] == ["round 1", "round 2"]
    assert call(pgpersist, "plan_crash_drill", rounds=2, seed=7, keep=True) == plan
    with pytest.raises(ValueError, match='kill is "nobody"; it is one of'):
        call(pgpersist, "plan_crash_drill", kill="nobody")


def test_a_planned_restore_drill_names_its_dumps_and_checks(running: Cluster, call: Call) -> None:
    (dump,) = running.dump().dumps
    own = Invariant("sum", "shop", lambda _query: True)
    steps = call(pgpersist, "plan_restore_drill", running, invariants=[own]).steps
    assert any(step.startswith(f"load {dump.name} into shop") for step in steps)
    assert "ask the check `sum` in shop" in steps
    assert pgpersist.past_drills(running) == []
