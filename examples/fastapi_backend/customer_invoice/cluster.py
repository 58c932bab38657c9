"""The application's own cluster: where it lies, and who may log in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pgpersist import Cluster, Config

#: The folder of this example, with its configuration.
HOME = Path(__file__).resolve().parent.parent
#: A socket's path that is longer cannot be bound.
_LONGEST_SOCKET = 100

# PostgreSQL runs as another user than root, and lets in whoever has the name of a role. So root is told who it is.
_RULES = "local all all peer map=ours\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
_NAMES = "ours root {user}\nours /^(.*)$ \\1\n"


def volume() -> Path:
    """Where all that is to last lies: ``CUSTOMER_INVOICE_VOLUME``, else ``data/`` in this folder."""
    return Path(os.environ.get("CUSTOMER_INVOICE_VOLUME") or HOME / "data").resolve()


def open_cluster() -> Cluster:
    """The cluster that ``pgpersist.toml`` describes, on the volume."""
    place, config = volume(), Config(HOME / "pgpersist.toml")
    settings: dict[str, str | int | float | bool] = {}
    if len(f"{place}/.s.PGSQL.65535") <= _LONGEST_SOCKET:
        settings["unix_socket_directories"] = str(place)
    if os.geteuid() == 0:
        user = str(config["cluster.os_user"])
        _hand_over(place, user)
        settings["hba_file"] = _written(place / "pg_hba.conf", _RULES)
        settings["ident_file"] = _written(place / "pg_ident.conf", _NAMES.format(user=user))
    else:
        place.mkdir(parents=True, exist_ok=True)
    return Cluster(place / "pgdata", config=config, store=place / "backups", settings=settings)


def _hand_over(place: Path, user: str) -> None:
    """Makes the volume's folder, the server's user's own; one that is there already is not touched."""
    if not place.exists():
        place.mkdir(parents=True)
        shutil.chown(place, user)


def _written(path: Path, text: str) -> str:
    # Several workers come here at once: a reader sees the old file or the new one.
    if not path.exists() or path.read_text() != text:
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_text(text)
        beside.replace(path)
    return str(path)
