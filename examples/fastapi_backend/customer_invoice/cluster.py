"""The application's own cluster, and where it lies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pgpersist import Cluster, Config

#: The folder of this example, with its configuration.
HOME = Path(__file__).resolve().parent.parent
#: A socket's path that is longer cannot be bound.
_LONGEST_SOCKET = 100


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
        # Its socket lies there, too.
        _hand_over(place, str(config["cluster.os_user"]))
    else:
        place.mkdir(parents=True, exist_ok=True)
    return Cluster(place / "pgdata", config=config, store=place / "backups", settings=settings)


def _hand_over(place: Path, user: str) -> None:
    """Makes the volume's folder, the server's user's own; one that is there already is not touched."""
    if not place.exists():
        place.mkdir(parents=True)
        shutil.chown(place, user)
