"""Makes a PostgreSQL cluster outlive the machine it runs on."""

from pgpersist._agent import Agent, AgentPhase, AgentStatus
from pgpersist._cluster import (
    BadDump,
    Cluster,
    Dropped,
    Dump,
    DumpEntry,
    DumpReport,
    FenceReport,
    InitPlan,
    InitReport,
    Kept,
    LoadReport,
    MigrateReport,
    MigrationPlan,
    PrunePlan,
    ServerState,
    ServerStatus,
    StartReport,
    StopReport,
    VerifyReport,
)
from pgpersist._config import Config, ConfigValue
from pgpersist._drill import (
    CrashReport,
    DatabaseReport,
    Invariant,
    Query,
    RecoveryTimes,
    RestoreReport,
    Verdict,
    crash_drill,
    crash_drill_async,
    past_drills,
    past_drills_async,
    restore_drill,
    restore_drill_async,
)
from pgpersist._embedded import bring_along as _bring_along
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
from pgpersist._native import VERSION as __version__
from pgpersist._overview import Gap, Overview
from pgpersist._progress import BytesDone, ProgressEvent, ProgressEvents, ProgressListener, Step, Warned
from pgpersist._store import BackupStore, LocalBackupStore, MemoryBackupStore, ObjectMeta, OpenStore, open_store
from pgpersist._temporary import TemporaryCluster
from pgpersist._upload import UploadSource

__all__ = [
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
    "DatabaseReport",
    "DeadlineError",
    "DeniedError",
    "Dropped",
    "Dump",
    "DumpEntry",
    "DumpReport",
    "FenceReport",
    "Finding",
    "Gap",
    "HealthCheck",
    "HealthReport",
    "HealthStatus",
    "InitPlan",
    "InitReport",
    "InvalidError",
    "Invariant",
    "Kept",
    "LoadReport",
    "LocalBackupStore",
    "MemoryBackupStore",
    "MigrateReport",
    "MigrationPlan",
    "NotFoundError",
    "ObjectMeta",
    "OpenStore",
    "Overview",
    "PgPersistError",
    "ProgressEvent",
    "ProgressEvents",
    "ProgressListener",
    "PrunePlan",
    "Query",
    "RecoveryTimes",
    "RestoreReport",
    "ServerState",
    "ServerStatus",
    "StartReport",
    "Step",
    "StopReport",
    "TemporaryCluster",
    "UnavailableError",
    "UnsafeError",
    "UploadSource",
    "Verdict",
    "VerifyReport",
    "Warned",
    "crash_drill",
    "crash_drill_async",
    "open_store",
    "past_drills",
    "past_drills_async",
    "restore_drill",
    "restore_drill_async",
    "__version__",
]

# Where users find them, in tracebacks and pickles.
for _name in __all__:
    _public = globals()[_name]
    if isinstance(_public, type) and issubclass(_public, BaseException):
        _public.__module__ = __name__
del _name, _public
_bring_along()
