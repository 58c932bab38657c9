"""Asks a PostgreSQL server whether it answers, without any driver: the beginning of its protocol, and ``SELECT 1``.

See *Frontend/Backend Protocol*, chapter *Message Flow*, in PostgreSQL's documentation.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from typing import Optional

_PROTOCOL = 3 << 16
_SSL_REQUEST = 1234 << 16 | 5679
#: No message of these is as long; what says so is no PostgreSQL.
_LONGEST = 1 << 16
_OK = 0


@dataclass(frozen=True)
class Answered:
    """How a server has answered.

    Attributes:
        obstacle: what kept it from answering, in one line; ``None`` when it has answered.
        lets_in: whether it lets this user in without a password; ``None`` where it was not asked.
    """

    obstacle: Optional[str]
    lets_in: Optional[bool] = None


async def ask(host: str, port: int, user: str, database: str, *, timeout: float, log_in: bool = True) -> Answered:
    """Asks a server.

    Where it lets us in without a password, it has to answer a query. Where it asks for one, or does not let this user
    in, that is its answer: it is up, and has looked at its rules.

    Args:
        host: a folder of its socket, or an address.
        timeout: seconds, for all of it.
        log_in: without it, the server's process for us has only to greet: for one that is known to turn us away, and
            would say so in its log each time.
    """
    question = _logged_in(host, port, user, database) if log_in else _greeted(host, port)
    try:
        return await asyncio.wait_for(question, timeout)
    except asyncio.TimeoutError:
        return Answered(f"the server did not answer within {timeout:g} s")
    except (OSError, EOFError) as error:
        return Answered(f"the server cannot be reached: {error}")
    except _NoPostgres:
        return Answered("what answers is no PostgreSQL")


class _NoPostgres(Exception):
    """Bytes that PostgreSQL does not send."""


async def _greeted(host: str, port: int) -> Answered:
    reader, writer = await _connected(host, port)
    try:
        # Whether it speaks TLS does not matter: that it says so does. Going then is not worth a line in its log.
        writer.write(struct.pack("!ii", 8, _SSL_REQUEST))
        if await reader.readexactly(1) not in (b"S", b"N", b"E"):
            raise _NoPostgres
        return Answered(None)
    finally:
        writer.close()


async def _logged_in(host: str, port: int, user: str, database: str) -> Answered:
    reader, writer = await _connected(host, port)
    try:
        words = ("user", user, "database", database, "application_name", "pgpersist")
        body = struct.pack("!i", _PROTOCOL) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
        writer.write(struct.pack("!i", len(body) + 4) + body)
        has_asked, has_row = False, False
        while True:
            kind, body = await _message(reader)
            if kind == b"E":
                return _refusal(_fields(body))
            if kind == b"R" and (len(body) < 4 or struct.unpack_from("!i", body)[0] != _OK):
                return Answered(None, lets_in=False)
            if kind == b"D":
                has_row = True
            if kind == b"Z":
                if has_asked:
                    return Answered(None if has_row else "the server gave no answer to `SELECT 1`", lets_in=True)
                query = b"SELECT 1\0"
                writer.write(b"Q" + struct.pack("!i", len(query) + 4) + query)
                has_asked = True
    finally:
        with contextlib.suppress(OSError):
            writer.write(b"X" + struct.pack("!i", 4))
        writer.close()


async def _connected(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if host.startswith(("/", "@")):
        path = f"{host}/.s.PGSQL.{port}"
        return await asyncio.open_unix_connection(f"\0{path[1:]}" if host.startswith("@") else path)
    return await asyncio.open_connection(host, port)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    if not 4 <= length <= _LONGEST:
        raise _NoPostgres
    return kind, await reader.readexactly(length - 4)


def _fields(body: bytes) -> dict[str, str]:
    parts = (part.decode(errors="replace") for part in body.split(b"\0") if part)
    return {part[:1]: part[1:] for part in parts}


def _refusal(fields: dict[str, str]) -> Answered:
    # Class 28 is "invalid authorization specification": only a server that is up says so.
    if fields.get("C", "").startswith("28"):
        return Answered(None, lets_in=False)
    return Answered(f"the server refuses: {fields.get('M', 'it does not say why')}")
