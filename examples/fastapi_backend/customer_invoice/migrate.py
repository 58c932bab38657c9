"""Brings the schema up to date, also when several workers start at once."""

from __future__ import annotations

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

#: The advisory lock of whoever migrates: one of the workers, the others wait and find all done.
_LOCK = 0x1A0_1CE
#: How long a start puts up with a database that goes away meanwhile, in seconds.
_PATIENCE = 60.0


def migrate(url: str) -> None:
    """Applies what is missing of ``migrations/``. Blocking. Each is a transaction: a killed one leaves nothing."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            _upgrade(url)
            return
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _upgrade(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5, "application_name": "migrate"})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        with engine.connect() as connection:
            # The session's, so that it goes with the connection, however that ends.
            connection.execute(text("SET statement_timeout = '120s'"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
