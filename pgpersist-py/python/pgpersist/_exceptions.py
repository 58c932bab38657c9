"""What can go wrong, as exceptions: the class tells what the caller can do about it."""

from __future__ import annotations

from typing import Optional, Sequence


class PgPersistError(Exception):
    """Any error of pgpersist. Its text says what happened; causes and the next step come along.

    Attributes:
        kind: what the caller can do, in one word, as the command line's JSON documents have it.
        remedy: the next step, where one is known.
        causes: what lies behind it, the nearest first; ``__cause__`` is the first of them.
    """

    kind: str = "bug"
    remedy: Optional[str] = None
    causes: tuple[str, ...] = ()

    def __init__(self, message: str, *, remedy: Optional[str] = None, causes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.causes = tuple(causes)

    def __str__(self) -> str:
        text = ": ".join((self.message, *self.causes))
        return f"{text} ({self.remedy})" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders: a pool of workers, pytest-xdist.
        return (_restored, (type(self), self.message, self.__dict__))


class NotFoundError(PgPersistError, FileNotFoundError):
    """The thing asked for does not exist: look at what does."""

    kind = "not_found"


class ConflictError(PgPersistError, FileExistsError):
    """Something else stands in the way: remove it, or choose another place."""

    kind = "conflict"


class UnavailableError(PgPersistError, ConnectionError):
    """It may work later: the server is down, a port is taken, the disk is full."""

    kind = "unavailable"


class DeadlineError(UnavailableError, TimeoutError):
    """A wait ended without what it waited for. It may work later, or with a longer deadline."""


class DeniedError(PgPersistError, PermissionError):
    """The operating system or the server forbids it: change permissions."""

    kind = "denied"


class InvalidError(PgPersistError, ValueError):
    """The request itself is wrong: arguments, configuration, or an input that is not what it should be."""

    kind = "invalid"


class DamagedError(PgPersistError):
    """Stored data is not what was written: use another copy."""

    kind = "damaged"


class UnsafeError(PgPersistError):
    """A refusal, since going on could lose data: the remedy says how to insist."""

    kind = "unsafe"


class ConsentNeededError(UnsafeError):
    """An operation destroys or moves something and was not confirmed.

    Attributes:
        plan: what would be done, step by step.
    """

    plan: tuple[str, ...] = ()


class CancelledError(PgPersistError):
    """The caller stopped it."""

    kind = "cancelled"


class BugError(PgPersistError, RuntimeError):
    """A defect of pgpersist itself, or of code that it was given: report it to its author."""

    kind = "bug"


class Cause(Exception):
    """What lies behind an error, as its author told it."""


# Where users find them, in tracebacks and pickles.
for _public in list(globals().values()):
    if isinstance(_public, type) and issubclass(_public, PgPersistError):
        _public.__module__ = "pgpersist"

_BY_KIND: dict[str, type[PgPersistError]] = {
    one.kind: one
    for one in (
        NotFoundError,
        ConflictError,
        UnavailableError,
        DeniedError,
        InvalidError,
        DamagedError,
        UnsafeError,
        CancelledError,
        BugError,
    )
}


def made(
    kind: str,
    is_deadline: bool,
    message: str,
    remedy: Optional[str],
    causes: Sequence[str],
    system_error: Optional[tuple[int, str]],
    plan: Optional[Sequence[str]],
    original: Optional[BaseException] = None,
) -> PgPersistError:
    """Makes the exception of an error of the library."""
    kind_class = _BY_KIND.get(kind, BugError)
    if plan is not None:
        kind_class = ConsentNeededError
    elif is_deadline:
        kind_class = DeadlineError
    error = kind_class(message, remedy=remedy, causes=causes)
    if isinstance(error, ConsentNeededError):
        error.plan = tuple(plan or ())
    # An exception of the caller's own code is the last of the causes, itself and not as text.
    behind = original
    for text in reversed(causes if original is None else causes[:-1]):
        cause: BaseException = Cause(text)
        cause.__cause__ = behind
        behind = cause
    if system_error is not None:
        number, text = system_error
        behind = OSError(number, causes[0] if causes else text)
        if isinstance(error, OSError):
            error.errno = number
    elif isinstance(original, OSError) and isinstance(error, OSError):
        error.errno = original.errno
    error.__cause__ = behind
    return error


def _restored(kind_class: type[PgPersistError], message: str, state: dict[str, object]) -> PgPersistError:
    error = kind_class(message)
    error.__dict__.update(state)
    return error
