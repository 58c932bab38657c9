"""Drills."""

from __future__ import annotations

import asyncio
from typing import Union

import psycopg
import pytest

import pgpersist
from pgpersist import Cluster, Invariant, Verdict


def test_nothing_acknowledged_is_lost_and_a_fault_is_found() -> None:
    report = pgpersist.crash_drill(rounds=1, writers=2, kill="group")
    assert report.passed and report.lost == 0 and report.acknowledged > 0 and report.rounds == 1
    planted = asyncio.run(pgpersist.crash_drill_async(rounds=1, writers=2, kill="postmaster", plant="deleted-row"))
    assert planted.verdict is Verdict.FAIL and planted.lost > 0 and planted.reasons
    with pytest.raises(ValueError, match='kill is "nobody"; it is one of'):
        pgpersist.crash_drill(kill="nobody")


def test_dumps_come_back_and_python_asks_about_them(cluster: Cluster) -> None:
    cluster.init(allow_ephemeral=True)
    cluster.start()
    with psycopg.connect(cluster.url("shop"), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders AS SELECT id, 10 * id AS amount FROM generate_series(1, 20) AS id")
    cluster.dump()

    def sums_up(query: pgpersist.Query) -> Union[str, bool]:
        (row,) = query("SELECT count(*), sum(amount) FROM public.orders")
        return True if row == ["20", "2100"] else f"found {row}"

    report = pgpersist.restore_drill(cluster, invariants=[Invariant("sum", "shop", sums_up)])
    assert report.passed and report.rows == 20 and report.restore.total_seconds() > 0, report.reasons

    def never(_query: pgpersist.Query) -> bool:
        return False

    def throws(query: pgpersist.Query) -> bool:
        return bool(query("SELECT 1 / 0"))

    broken = asyncio.run(
        pgpersist.restore_drill_async(
            cluster, invariants=[Invariant("never", "shop", never), Invariant("throws", "shop", throws)]
        )
    )
    assert not broken.passed
    told = " ".join(broken.databases[0].reasons)
    assert "never" in told and "throws" in told and "division by zero" in str(broken.to_dict())
    assert [drill["verdict"] for drill in pgpersist.past_drills(cluster)] == ["fail", "pass"]
