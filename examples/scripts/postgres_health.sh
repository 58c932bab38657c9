#!/bin/sh
# Is everything well? Ends with 0 when it is, with 1 when not. Arguments go to `pgpersist health`, such as --table orders.
set -eu
PGPERSIST_CONFIG=${PGPERSIST_CONFIG:-$(dirname "$0")/pgpersist.toml} PGDATA=${PGDATA:-/app/pgdata}
export PGPERSIST_CONFIG PGDATA

exec pgpersist health "$@"
