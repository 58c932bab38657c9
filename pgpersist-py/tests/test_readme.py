"""The README's Python lines run as they stand, but for a port and a socket of our own."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def _blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(2))
def test_the_readmes_lines_run(number: int, place: Path) -> None:
    blocks = _blocks()
    assert len(blocks) == 2
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours = f'pgpersist.Cluster(port={port}, settings={{"unix_socket_directories": {str(place)!r}}}, data_directory='
    program = blocks[number].replace("pgpersist.Cluster(", ours)
    ran = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    if "pgpersist.Cluster" in program:
        lines = ran.stdout.splitlines()
        assert len(lines) == 5 and lines[1] == "created" and lines[4] == "True"
        assert lines[3].startswith("['backup_") and (place / "app/backups").is_dir()
