"""The keys that open what is encrypted in the store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence, Union

from pgpersist import _native
from pgpersist._faces import awaited, blocking
from pgpersist._report import Report

if TYPE_CHECKING:
    from pgpersist._native import NativeCluster, Operation

_Path = Union[str, os.PathLike[str]]


@dataclass(frozen=True)
class NewKey(Report):
    """A private key that was made.

    Attributes:
        file: where it lies: put it into a safe.
        public_key: its public half, for ``recipients`` in the store's ``encryption``.
    """

    file: Path
    public_key: str


@dataclass(frozen=True)
class DataKey(Report):
    """A data key of the store: dumps are encrypted to it, and it is wrapped for everybody who may open them.

    Attributes:
        name: its name in the store.
        made_at: when it was made.
        public_key: its public half.
        holders: who opens it: public keys, or ``passphrase_…``.
        missing: the configured recipients that do not.
    """

    name: str
    made_at: datetime
    public_key: str
    holders: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class KeyProof(Report):
    """The newest test of a recovery key.

    Attributes:
        holder: the public half of the key, or ``passphrase``.
        proven_at: when it was tested.
        data_keys: how many data keys it opened, which were all.
    """

    holder: str
    proven_at: datetime
    data_keys: int


@dataclass(frozen=True)
class KeyReport(Report):
    """The keys of a store.

    Attributes:
        data_keys: the newest first.
        proof: when a configured recovery key was last proven to open them all; ``None`` where none ever was.
        warnings: what somebody should do.
    """

    data_keys: tuple[DataKey, ...]
    proof: Optional[KeyProof]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AddedKeys(Report):
    """Who was let in.

    Attributes:
        added: the slots that came, by their names in the store; none where everybody had every data key.
        warnings: who will not be let into later data keys.
    """

    added: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RemovedKey(Report):
    """From whom the data keys were taken.

    Attributes:
        removed: the slots that went, by their names in the store.
        warnings: what would let them in again.
    """

    removed: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RotatedKey(Report):
    """A new data key for what comes later.

    Attributes:
        name: its name in the store.
        public_key: its public half.
        recipients: the configured public keys that open it.
        warnings: what will not be remembered.
    """

    name: str
    public_key: str
    recipients: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyTest(Report):
    """What a test of a key showed.

    Attributes:
        holder: the public half of the key, or ``passphrase``.
        data_keys: how many data keys there are; it opened all of them.
        dump: the newest encrypted dump, which it opened, too; ``None`` where there is none.
        proven_at: when that was, which is recorded in the store.
    """

    holder: str
    data_keys: int
    dump: Optional[str]
    proven_at: datetime


def new_key(file: _Path) -> NewKey:
    """Makes a private key in a file that must not exist, for its owner alone to read.

    Raises:
        ConflictError: there is such a file.
    """
    return NewKey._of(blocking(_native.new_key(file)))


async def new_key_async(file: _Path) -> NewKey:
    """As :func:`new_key`."""
    return NewKey._of(await awaited(_native.new_key(file)))


class StoreKeys:
    """Who opens what is encrypted in the first store of a cluster: :attr:`Cluster.keys`.

    Where nothing is encrypted, each call raises :class:`InvalidError`.
    """

    def __init__(self, cluster: NativeCluster) -> None:
        self._cluster = cluster

    def list(self) -> KeyReport:
        """The data keys, who opens each, and when a recovery key was tested."""
        return KeyReport._of(blocking(_native.list_keys(self._cluster)))

    async def list_async(self) -> KeyReport:
        """As :meth:`list`."""
        return KeyReport._of(await awaited(_native.list_keys(self._cluster)))

    def add(self, *recipients: str) -> AddedKeys:
        """Lets somebody open what was written before: wraps every data key for them.

        Takes a key that opens these: see ``identity_file`` of :class:`Cluster`.

        Args:
            recipients: public keys; none means all configured ones, and the configured passphrase.

        Raises:
            DeniedError: no key at hand opens a data key.
        """
        return AddedKeys._of(blocking(_native.add_keys(self._cluster, _texts(recipients))))

    async def add_async(self, *recipients: str) -> AddedKeys:
        """As :meth:`add`."""
        return AddedKeys._of(await awaited(_native.add_keys(self._cluster, _texts(recipients))))

    def plan_remove(self, holder: str) -> RemovedKey:
        """What :meth:`remove` would take away; changes nothing."""
        return RemovedKey._of(blocking(_native.remove_key(self._cluster, holder, False, True)))

    async def plan_remove_async(self, holder: str) -> RemovedKey:
        """As :meth:`plan_remove`."""
        return RemovedKey._of(await awaited(_native.remove_key(self._cluster, holder, False, True)))

    def remove(self, holder: str, *, consent: bool = False) -> RemovedKey:
        """Takes the data keys from somebody. What is in dumps that were encrypted to them they can read as before.

        Args:
            holder: a public key, or ``passphrase_…`` as :meth:`list` shows it.
            consent: without it nothing is removed.

        Raises:
            ConsentNeededError: ``consent`` was not given; its ``plan`` says what would go.
            UnsafeError: nobody else opens one of the data keys.
        """
        return RemovedKey._of(blocking(_native.remove_key(self._cluster, holder, consent, False)))

    async def remove_async(self, holder: str, *, consent: bool = False) -> RemovedKey:
        """As :meth:`remove`."""
        return RemovedKey._of(await awaited(_native.remove_key(self._cluster, holder, consent, False)))

    def rotate(self) -> RotatedKey:
        """Makes a new data key for what comes later, for those who are configured."""
        return RotatedKey._of(blocking(_native.rotate_key(self._cluster)))

    async def rotate_async(self) -> RotatedKey:
        """As :meth:`rotate`."""
        return RotatedKey._of(await awaited(_native.rotate_key(self._cluster)))

    def test(self, identity_file: Optional[_Path] = None, *, passphrase_file: Optional[_Path] = None) -> KeyTest:
        """Proves that a recovery key opens every data key and the newest dump, and records that in the store.

        Args:
            identity_file: a file with the private key.
            passphrase_file: a file with the passphrase, instead.

        Raises:
            DeniedError: it does not open everything.
        """
        return KeyTest._of(blocking(self._test(identity_file, passphrase_file)))

    async def test_async(
        self, identity_file: Optional[_Path] = None, *, passphrase_file: Optional[_Path] = None
    ) -> KeyTest:
        """As :meth:`test`."""
        return KeyTest._of(await awaited(self._test(identity_file, passphrase_file)))

    def _test(self, identity_file: Optional[_Path], passphrase_file: Optional[_Path]) -> Operation:
        if (identity_file is None) == (passphrase_file is None):
            raise TypeError("give either identity_file or passphrase_file")
        if identity_file is not None:
            return _native.test_key(self._cluster, identity_file, False)
        assert passphrase_file is not None
        return _native.test_key(self._cluster, passphrase_file, True)


def _texts(recipients: Sequence[str]) -> list[str]:
    for recipient in recipients:
        if not isinstance(recipient, str):
            raise TypeError(f"a recipient is a public key as text, not {type(recipient).__name__}")
    return [*recipients]
