"""Drills."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Callable, Union

import psycopg
import pytest

import pgpersist
from pgpersist import Cluster, Invariant, RestoreReport, Verdict

Call = Callable[..., Any]


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
    past = pgpersist.past_drills(cluster)
    assert [drill.verdict for drill in past] == [Verdict.FAIL, Verdict.PASS]
    assert isinstance(past[1], RestoreReport) and past[1].started_at == report.started_at
    assert past[1].databases[0].rows_found == 20 and past[1].to_text() == report.to_text()


def test_a_report_is_told_as_the_command_tells_it() -> None:
    report = pgpersist.crash_drill(rounds=1, writers=1, kill="group")
    text, markdown = report.to_text(), report.to_markdown()
    assert text.startswith("pass: after 1 kill nothing acknowledged was lost\n") and f"seed {report.seed}, " in text
    assert markdown.startswith("# Crash drill: pass\n") and f"| Acknowledged | {report.acknowledged} |" in markdown


def test_what_is_no_report_is_left_out_and_told(place: Path, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    drills = place / "backups" / ".pgpersist" / "main" / "drills"
    drills.mkdir(parents=True)
    (drills / "restore_20260101T000000Z_1.json").write_text("torn {")
    (drills / "restore_20260101T000000Z_2.json").write_text('{"kind": "restore", "id": "2", "verdict": "perhaps"}')
    (drills / "restore_20260101T000000Z_3.json").write_text('["another", "document"]')
    assert call(pgpersist, "past_drills", Cluster(store=place / "backups")) == []
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 3 and sum("restore_20260101T000000Z_1.json is no report" in text for text in told) == 1, told
    assert sum("is not understood, and left out" in text for text in told) == 2, told
