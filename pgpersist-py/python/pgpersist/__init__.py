"""Makes a PostgreSQL cluster outlive the machine it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

# At their first use, not here: a program that needs one of them, a command of pytest that needs none, imports no more.
if TYPE_CHECKING:
    from pgpersist._agent import Agent
    from pgpersist._agent_status import AgentPhase, AgentStatus, JobOutcome, JobRun, JobStatus, RecoveryProgress
    from pgpersist._cluster import Cluster
    from pgpersist._config import Config, ConfigValue
    from pgpersist._drill import (
        Invariant,
        Query,
        crash_drill,
        crash_drill_async,
        past_drills,
        past_drills_async,
        plan_crash_drill,
        plan_crash_drill_async,
        plan_restore_drill,
        plan_restore_drill_async,
        restore_drill,
        restore_drill_async,
    )
    from pgpersist._drill_reports import (
        CrashReport,
        DatabaseReport,
        DrillReport,
        RecoveryTimes,
        RestoreReport,
        Verdict,
    )
    from pgpersist._dump_listing import DumpEntry, DumpListing, ListedStore
    from pgpersist._dump_reports import (
        BadDump,
        Dropped,
        Dump,
        DumpReport,
        Kept,
        LoadReport,
        PrunePlan,
        StorePrune,
        VerifyReport,
    )
    from pgpersist._exceptions import (
        BugError,
        CancelledError,
        ConflictError,
        ConsentNeededError,
        DamagedError,
        DeadlineError,
        DeniedError,
        InvalidError,
        NotFoundError,
        PgPersistError,
        UnavailableError,
        UnsafeError,
    )
    from pgpersist._health import Finding, HealthCheck, HealthReport, HealthStatus
    from pgpersist._keys import (
        AddedKeys,
        DataKey,
        KeyProof,
        KeyReport,
        KeyTest,
        NewKey,
        RemovedKey,
        RotatedKey,
        StoreKeys,
        new_key,
        new_key_async,
    )
    from pgpersist._native import VERSION as __version__
    from pgpersist._overview import Gap, Overview
    from pgpersist._plan import Plan
    from pgpersist._progress import BytesDone, ProgressEvent, ProgressEvents, ProgressListener, Step, Warned
    from pgpersist._server_reports import (
        FenceReport,
        InitPlan,
        InitReport,
        MigrateReport,
        MigrationPlan,
        ServerState,
        ServerStatus,
        StartReport,
        StopReport,
    )
    from pgpersist._store import BackupStore, LocalBackupStore, MemoryBackupStore, ObjectMeta, OpenStore, open_store
    from pgpersist._store_check import Fitness, StoreCheck, StoreFinding
    from pgpersist._sync_reports import NotCopied, PlannedCopy, StoreSync, StoreSyncPlan, SyncPlan, SyncReport
    from pgpersist._temporary import TemporaryCluster
    from pgpersist._upload import UploadSource

__all__ = [
    "AddedKeys",
    "Agent",
    "AgentPhase",
    "AgentStatus",
    "BackupStore",
    "BadDump",
    "BugError",
    "BytesDone",
    "CancelledError",
    "Cluster",
    "Config",
    "ConfigValue",
    "ConflictError",
    "ConsentNeededError",
    "CrashReport",
    "DamagedError",
    "DataKey",
    "DatabaseReport",
    "DeadlineError",
    "DeniedError",
    "DrillReport",
    "Dropped",
    "Dump",
    "DumpEntry",
    "DumpListing",
    "DumpReport",
    "FenceReport",
    "Finding",
    "Fitness",
    "Gap",
    "HealthCheck",
    "HealthReport",
    "HealthStatus",
    "InitPlan",
    "InitReport",
    "InvalidError",
    "Invariant",
    "JobOutcome",
    "JobRun",
    "JobStatus",
    "Kept",
    "KeyProof",
    "KeyReport",
    "KeyTest",
    "ListedStore",
    "LoadReport",
    "LocalBackupStore",
    "MemoryBackupStore",
    "MigrateReport",
    "MigrationPlan",
    "NewKey",
    "NotCopied",
    "NotFoundError",
    "ObjectMeta",
    "OpenStore",
    "Overview",
    "PgPersistError",
    "Plan",
    "PlannedCopy",
    "ProgressEvent",
    "ProgressEvents",
    "ProgressListener",
    "PrunePlan",
    "Query",
    "RecoveryProgress",
    "RecoveryTimes",
    "RemovedKey",
    "RestoreReport",
    "RotatedKey",
    "ServerState",
    "ServerStatus",
    "StartReport",
    "Step",
    "StopReport",
    "StoreCheck",
    "StoreFinding",
    "StoreKeys",
    "StorePrune",
    "StoreSync",
    "StoreSyncPlan",
    "SyncPlan",
    "SyncReport",
    "TemporaryCluster",
    "UnavailableError",
    "UnsafeError",
    "UploadSource",
    "Verdict",
    "VerifyReport",
    "Warned",
    "crash_drill",
    "crash_drill_async",
    "new_key",
    "new_key_async",
    "open_store",
    "past_drills",
    "past_drills_async",
    "plan_crash_drill",
    "plan_crash_drill_async",
    "plan_restore_drill",
    "plan_restore_drill_async",
    "restore_drill",
    "restore_drill_async",
    "__version__",
]

#: Which module defines what.
_HOMES = {
    "_agent": ("Agent",),
    "_agent_status": (
        "AgentPhase",
        "AgentStatus",
        "JobOutcome",
        "JobRun",
        "JobStatus",
        "RecoveryProgress",
    ),
    "_cluster": ("Cluster",),
    "_dump_listing": (
        "DumpEntry",
        "DumpListing",
        "ListedStore",
    ),
    "_dump_reports": (
        "Dump",
        "DumpReport",
        "LoadReport",
        "BadDump",
        "VerifyReport",
        "Kept",
        "Dropped",
        "PrunePlan",
        "StorePrune",
    ),
    "_server_reports": (
        "ServerState",
        "ServerStatus",
        "StartReport",
        "StopReport",
        "FenceReport",
        "InitPlan",
        "InitReport",
        "MigrationPlan",
        "MigrateReport",
    ),
    "_config": (
        "Config",
        "ConfigValue",
    ),
    "_drill": (
        "Invariant",
        "Query",
        "crash_drill",
        "crash_drill_async",
        "past_drills",
        "past_drills_async",
        "plan_crash_drill",
        "plan_crash_drill_async",
        "plan_restore_drill",
        "plan_restore_drill_async",
        "restore_drill",
        "restore_drill_async",
    ),
    "_drill_reports": (
        "CrashReport",
        "DatabaseReport",
        "DrillReport",
        "RecoveryTimes",
        "RestoreReport",
        "Verdict",
    ),
    "_exceptions": (
        "BugError",
        "CancelledError",
        "ConflictError",
        "ConsentNeededError",
        "DamagedError",
        "DeadlineError",
        "DeniedError",
        "InvalidError",
        "NotFoundError",
        "PgPersistError",
        "UnavailableError",
        "UnsafeError",
    ),
    "_health": (
        "Finding",
        "HealthCheck",
        "HealthReport",
        "HealthStatus",
    ),
    "_keys": (
        "AddedKeys",
        "DataKey",
        "KeyProof",
        "KeyReport",
        "KeyTest",
        "NewKey",
        "RemovedKey",
        "RotatedKey",
        "StoreKeys",
        "new_key",
        "new_key_async",
    ),
    "_overview": (
        "Gap",
        "Overview",
    ),
    "_plan": ("Plan",),
    "_progress": (
        "BytesDone",
        "ProgressEvent",
        "ProgressEvents",
        "ProgressListener",
        "Step",
        "Warned",
    ),
    "_store": (
        "BackupStore",
        "LocalBackupStore",
        "MemoryBackupStore",
        "ObjectMeta",
        "OpenStore",
        "open_store",
    ),
    "_store_check": (
        "Fitness",
        "StoreCheck",
        "StoreFinding",
    ),
    "_sync_reports": (
        "NotCopied",
        "PlannedCopy",
        "StoreSync",
        "StoreSyncPlan",
        "SyncPlan",
        "SyncReport",
    ),
    "_temporary": ("TemporaryCluster",),
    "_upload": ("UploadSource",),
}


def __getattr__(name: str) -> object:
    import importlib

    if name == "__version__":
        from pgpersist._native import VERSION

        return VERSION
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
