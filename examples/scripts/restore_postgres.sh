#!/bin/sh
# Makes the database what it was in a dump; without --yes it only tells what it would do.
#
#     restore_postgres.sh [NAME|latest] --yes
#
# The database that stands in the way is renamed and kept. Further arguments go to `pgpersist load`, such as --disconnect.
set -eu
PGPERSIST_CONFIG=${PGPERSIST_CONFIG:-$(dirname "$0")/pgpersist.toml} PGDATA=${PGDATA:-/app/pgdata}
export PGPERSIST_CONFIG PGDATA

dump=latest
case "${1:-}" in
    '' | -*) ;;
    *) dump=$1 && shift ;;
esac
exec pgpersist load "$dump" --clean "$@"
