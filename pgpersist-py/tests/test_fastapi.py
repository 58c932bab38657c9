"""``pgpersist.fastapi`` and ``pgpersist.asgi``, served by uvicorn."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pgpersist import ServerState
from support.serving import DETAILS, Serving, eventually, kill_server


@pytest.fixture
def serving(place: Path) -> Iterator[Serving]:
    serving = Serving(place)
    try:
        yield serving
    finally:
        serving.close()


def test_a_cluster_lives_as_long_as_its_application(serving: Serving) -> None:
    serving.start_ready()
    assert serving.cluster.status().state is ServerState.RUNNING
    assert serving.get("/waits").json()["url"].startswith("postgresql+psycopg://")
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"
    assert serving.cluster.status().state is ServerState.STOPPED
    # And again: what was made is adopted.
    serving.start_ready()
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"


def test_pages_tell_one_word_and_to_the_owner_of_the_token_details(serving: Serving) -> None:
    serving.start_ready()
    for path, word in (("/livez", "alive"), ("/readyz", "ready"), ("/startupz", "started")):
        bare = serving.get(path)
        assert (bare.status_code, bare.text, bare.headers["content-type"].split(";")[0]) == (
            200,
            f"{word}\n",
            "text/plain",
        )
        assert bare.headers["cache-control"] == "no-store" and bare.headers["x-content-type-options"] == "nosniff"
        assert serving.get(path, headers={"Authorization": "Bearer hunter"}).text == f"{word}\n"
        detailed = serving.get(path, headers=DETAILS).json()
        assert detailed["state"] == word and detailed["phase"] == "ready" and detailed["pid"] == serving.postmaster()
        assert (detailed["restarts"], detailed["recovery"], detailed["is_owner"]) == (0, None, True)
        head = httpx.head(serving.url + path)
        assert head.status_code == 200 and not head.content and head.headers["content-length"] == str(len(word) + 1)
        posted = httpx.post(serving.url + path)
        assert posted.status_code == 405 and posted.headers["allow"] == "GET, HEAD"
    for path in ("/health", "/metrics"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic hunter2"}):
            refused = serving.get(path, headers=headers)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert "/livez" not in serving.get("/openapi.json").text


def test_health_and_metrics_are_those_of_the_cluster(serving: Serving) -> None:
    serving.start_ready()
    report = serving.get("/health", headers=DETAILS)
    document = report.json()
    assert report.status_code == (200 if document["status"] in ("pass", "warn") else 503)
    assert {"server", "connection", "disk"} <= {finding["name"] for finding in document["findings"]}
    metrics = serving.get("/metrics", headers=DETAILS)
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = metrics.text.splitlines()
    assert 'pgpersist_agent_phase{phase="ready"} 1' in lines and "pgpersist_worker_is_owner 1" in lines
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(
        {line.split()[2] for line in lines if line.startswith("# TYPE")}
    )


def test_readiness_follows_a_killed_server(serving: Serving) -> None:
    serving.start_ready()
    for round_number in range(1, 4):
        postmaster = serving.postmaster()
        assert postmaster is not None
        kill_server(postmaster)
        eventually(lambda: serving.status("/readyz") == 503, "unready after the kill")
        eventually(lambda: serving.status("/readyz") == 200, "ready again")
        assert serving.details()["restarts"] == round_number and serving.postmaster() not in (None, postmaster)
        assert serving.get("/waits").status_code == 200
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"


def test_a_server_that_hangs_blocks_no_probe(serving: Serving) -> None:
    serving.start_ready()
    postmaster = serving.postmaster()
    assert postmaster is not None
    os.kill(postmaster, signal.SIGSTOP)
    try:
        eventually(lambda: serving.status("/readyz") == 503, "unready while it hangs")
        hanging = serving.details()
        assert hanging["state"] == "unready" and "did not answer" in hanging["reason"]
        assert serving.status("/livez") == 200 and serving.status("/startupz") == 200
        refused = serving.get("/does-not-wait")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.json() == {"detail": "the database is not ready"}
    finally:
        os.kill(postmaster, signal.SIGCONT)
    eventually(lambda: serving.status("/readyz") == 200, "ready again")
    assert serving.postmaster() == postmaster


def _owner(serving: Serving) -> int:
    """The process of the worker that owns the cluster."""
    view = serving.cluster.status().to_dict()["agent"]
    return int(view["pid"]) if view else 0


def test_of_several_workers_one_owns_the_cluster_and_another_takes_over(serving: Serving) -> None:
    serving.start_ready(workers=3)
    postmaster, owner = serving.postmaster(), eventually(lambda: _owner(serving), "an owner")
    pids = {eventually(lambda: serving.get("/does-not-wait").json()["pid"]) for _ in range(50)}
    assert len(pids) <= 3
    os.kill(owner, signal.SIGKILL)
    new = eventually(lambda: _owner(serving) not in (0, owner) and _owner(serving), "a new owner")
    assert serving.postmaster() == postmaster, "the server outlives its owner"
    # The new one is a real one: it starts the server again when that is killed.
    assert postmaster is not None
    kill_server(postmaster)
    eventually(lambda: serving.postmaster() not in (None, postmaster), "started again")
    eventually(lambda: serving.status("/readyz") == 200, "ready again")
    assert _owner(serving) == new
    serving.terminate()
    eventually(lambda: serving.cluster.status().state is ServerState.STOPPED, "stopped with the last worker")
    assert serving.state_on_disk() == "shut down"


def test_the_server_stays_while_one_process_follows_the_other(serving: Serving) -> None:
    serving.start_ready()
    postmaster = serving.postmaster()
    assert postmaster is not None
    with contextlib.ExitStack() as others:
        before = serving
        for _ in range(2):
            after = others.enter_context(contextlib.closing(Serving(serving.place, port=serving.port)))
            after.start_ready()
            assert not after.details()["is_owner"]
            assert before.terminate() in (0, -signal.SIGTERM)
            eventually(lambda: after.details()["is_owner"], "the next one takes over")  # noqa: B023
            assert serving.postmaster() == postmaster and after.status("/readyz") == 200
            before = after
        assert before.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"


def test_a_start_that_cannot_succeed_says_why_and_ends(serving: Serving) -> None:
    serving.data_directory.mkdir()
    (serving.data_directory / "thesis.txt").write_text("nobody touches this")
    process = serving.start()
    assert process.wait(60) == 3
    assert "thesis.txt" in serving.log() and "Error" in serving.log(), serving.log()
    assert [path.name for path in serving.data_directory.iterdir()] == ["thesis.txt"]


def test_without_waiting_the_probes_tell_why_there_is_no_server(serving: Serving) -> None:
    serving.data_directory.mkdir()
    foreign = serving.data_directory / "thesis.txt"
    foreign.write_text("nobody touches this")
    serving.start(wait=False)
    eventually(lambda: serving.status("/livez") == 200, "it serves")
    assert serving.status("/startupz") == 503 and serving.status("/readyz") == 503
    assert serving.get("/does-not-wait").status_code == 503
    eventually(lambda: "thesis.txt" in (serving.details()["reason"] or ""), "the reason")
    foreign.unlink()
    if os.geteuid() == 0:
        serving.data_directory.rmdir()
    eventually(lambda: serving.status("/readyz") == 200, "ready when the reason is gone")
    assert serving.status("/startupz") == 200 and serving.get("/waits").status_code == 200
    serving.terminate()
    assert serving.state_on_disk() == "shut down"


def test_a_detached_server_runs_on_and_is_adopted(serving: Serving) -> None:
    serving.start_ready(on_exit="detach")
    postmaster = serving.postmaster()
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.cluster.status().pid == postmaster is not None
    serving.start_ready()
    assert serving.postmaster() == postmaster
    serving.terminate()
    assert serving.state_on_disk() == "shut down"


def test_the_server_of_a_killed_application_is_adopted(serving: Serving) -> None:
    serving.start_ready()
    postmaster = serving.postmaster()
    assert serving.process is not None
    serving.process.kill()
    serving.process.wait()
    assert serving.cluster.status().pid == postmaster is not None
    serving.start_ready()
    assert serving.postmaster() == postmaster
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"


def test_starlette_alone_and_its_own_lifespan(serving: Serving) -> None:
    serving.start_ready("starlette_app")
    assert serving.get("/internal/startupz").json()["state"] == "started"
    assert serving.status("/readyz") == 404
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"


def test_an_asgi_application_that_knows_no_lifespan(serving: Serving) -> None:
    serving.start_ready("plain_app")
    assert serving.get("/").text == "hello" and serving.get("/livez").text == "alive\n"
    assert serving.details("/startupz")["state"] == "started"
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"


def test_a_plain_application_that_cannot_start_says_why(serving: Serving) -> None:
    serving.data_directory.mkdir()
    (serving.data_directory / "thesis.txt").write_text("nobody touches this")
    assert serving.start("plain_app").wait(60) == 3
    assert "thesis.txt" in serving.log()
