#!/bin/sh
# Once: makes the cluster outlive this machine. The one in OLD_PGDATA moves to PGDATA on the volume, and is kept where it was; where
# there is none, a new one is made. Then its server starts. Arguments go to `pgpersist init`.
set -eu
PGPERSIST_CONFIG=${PGPERSIST_CONFIG:-$(dirname "$0")/pgpersist.toml} PGDATA=${PGDATA:-/app/pgdata}
export PGPERSIST_CONFIG PGDATA

old=${OLD_PGDATA:-/var/lib/postgresql/15/main}
if [ -e "$old/global/pg_control" ]; then
    pgpersist migrate --from "$old" --yes
fi
exec "$(dirname "$0")/init_postgres.sh" "$@"
