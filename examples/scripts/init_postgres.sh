#!/bin/sh
# At each boot of the machine or start of the container: adopts the cluster in PGDATA, or makes one where none was ever known, and
# starts its server. It never overwrites one. Arguments go to `pgpersist init`.
set -eu
PGPERSIST_CONFIG=${PGPERSIST_CONFIG:-$(dirname "$0")/pgpersist.toml} PGDATA=${PGDATA:-/app/pgdata}
export PGPERSIST_CONFIG PGDATA

pgpersist init "$@"
exec pgpersist start
