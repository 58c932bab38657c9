"""``python -m customer_invoice``: the whole backend, with its database."""

from __future__ import annotations

import argparse
import logging

import uvicorn


def main() -> None:
    """Serves until SIGTERM or Ctrl-C; the database stops with the last worker."""
    parser = argparse.ArgumentParser(prog="customer_invoice", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes; one of them owns the cluster (1)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvicorn.run(
        "customer_invoice.app:create_app",
        factory=True,
        host=given.host,
        port=given.port,
        workers=given.workers,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
