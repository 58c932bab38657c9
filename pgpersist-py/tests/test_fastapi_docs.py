"""The examples of ``docs/python/fastapi.md``, served as they stand, at another place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import PATIENCE, Serving, eventually, server_user

PAGE = Path(__file__).parents[2] / "docs" / "python" / "fastapi.md"
#: Each file of the page that can be served -> its application, where it tells its readiness, and what else it serves, how.
SERVED = {
    "shop": ("app", "/readyz", "/where", "shop"),
    "with_pool": ("app", "/internal/readyz", None, ""),
    "starlette_shop": ("app", "/readyz", None, ""),
    "plain": ("app", "/readyz", "/", "hello"),
    "mysite_asgi": ("application", "/readyz", "/hello", "hello from shop"),
}
#: What Django's readers have beside: a page that asks the database.
URLS = """
from django.db import connection
from django.http import HttpResponse
from django.urls import path

def hello(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        return HttpResponse(f"hello from {cursor.fetchone()[0]}")

urlpatterns = [path("hello", hello)]
"""


def examples() -> dict[str, str]:
    """The page's Python files by their names."""
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.S)
    return dict(blocks)


@pytest.fixture
def serving(place: Path) -> Iterator[Serving]:
    serving = Serving(place)
    serving.data_directory = place / "pgdata"
    try:
        yield serving
    finally:
        serving.close()


def test_every_example_is_served_by_a_test() -> None:
    assert set(examples()) == {*SERVED, "mysite_settings"}
    assert PAGE.read_text().count("```python") == len(examples())


@pytest.mark.parametrize("name", SERVED)
def test_an_example_works_as_it_stands(serving: Serving, name: str, place: Path) -> None:
    folder = place / "apps"
    folder.mkdir()
    # Another place, another port; and a place that the examples' readers have chosen with more care.
    settings = f"settings={{'unix_socket_directories': '{place}', 'shared_buffers': '16MB'}}"
    for file, text in examples().items():
        text = text.replace("/srv/app/", f"{place}/").replace(
            'databases=["shop"]', f'databases=["shop"], port={serving.port}, {settings}'
        )
        text = re.sub(
            r"((?:lifespan|Supervision)\((?:cluster|Cluster\(.*?\)))(?=[,)])", r"\1, allow_ephemeral=True", text
        )
        if file == "mysite_settings":
            for line, ours in _settings_of(serving, place).items():
                assert text.count(line) == 1
                text = text.replace(line, ours)
        assert name != file or "allow_ephemeral" in text
        (folder / f"{file}.py").write_text(text)
    (folder / "mysite_urls.py").write_text(URLS)
    app, readiness, other, expected = SERVED[name]
    arguments = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(folder),
        f"{name}:{app}",
        "--port",
        str(serving.http_port),
    ]
    with serving.log_file.open("ab") as log:
        process = serving.process = subprocess.Popen(
            arguments, stdout=log, stderr=log, start_new_session=True, env=os.environ, cwd=folder
        )
    eventually(lambda: process.poll() is not None or serving.status(readiness) == 200, f"{name} serves")
    assert process.poll() is None, serving.log()
    if other is not None:
        answer = serving.get(other)
        assert answer.status_code == 200 and expected in answer.text
    if name == "mysite_asgi":
        _migrates(folder)
    assert serving.terminate() in (0, -signal.SIGTERM)
    assert serving.state_on_disk() == "shut down"


def _settings_of(serving: Serving, place: Path) -> dict[str, str]:
    """Lines of Django's settings -> what they are for a server of ours."""
    return {
        '"HOST": "/var/run/postgresql",': f'"HOST": "{place}",',
        '"PORT": 5432,': f'"PORT": {serving.port},',
        '"USER": "postgres",': f'"USER": "{server_user()}",',
    }


def _migrates(folder: Path) -> None:
    """What the page says of ``manage.py migrate``: it finds the server while the application serves."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "mysite_settings"}
    done = subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--no-color"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0 and "No migrations to apply." in done.stdout, done.stdout + done.stderr
