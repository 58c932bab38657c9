"""While the database is away, the answer is 503 and when to come again; never 500, and never a promise."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

logger = logging.getLogger(__name__)

#: In seconds; a crashed server is back sooner, mostly.
COME_AGAIN = 1
#: Classes of SQLSTATE that say: the connection, too little of something, somebody ended it, the system. See the
#: appendix *PostgreSQL Error Codes*.
_PASSING = ("08", "53", "57", "58")


def is_away(error: DBAPIError) -> bool:
    """Whether the database is to blame, and not the statement. Without a code, no answer came at all."""
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "sqlstate", None)
    return (
        str(code).startswith(_PASSING) if code else type(error.orig).__name__ in ("OperationalError", "InterfaceError")
    )


def answer_when_away(app: FastAPI) -> None:
    """Has the application answer so."""

    async def failed(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, DBAPIError) and not is_away(error):
            raise error
        logger.warning("%s %s: the database is away: %s", request.method, request.url.path, type(error).__name__)
        # It may have been committed when the connection broke: the client repeats it under its key, and finds out.
        return JSONResponse(
            {"detail": "the database is away for a moment"}, 503, headers={"Retry-After": str(COME_AGAIN)}
        )

    for kind in (DBAPIError, PoolTimeout):
        app.add_exception_handler(kind, failed)
