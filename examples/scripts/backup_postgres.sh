#!/bin/sh
# Each night: dumps the database to backup_YYYYMMDD_HHMMSS.sql.gz in the store, and drops the dumps that are too old to keep.
# Arguments go to `pgpersist dump`.
set -eu
PGPERSIST_CONFIG=${PGPERSIST_CONFIG:-$(dirname "$0")/pgpersist.toml} PGDATA=${PGDATA:-/app/pgdata}
export PGPERSIST_CONFIG PGDATA

pgpersist dump "$@"
exec pgpersist prune
