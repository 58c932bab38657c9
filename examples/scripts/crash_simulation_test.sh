#!/bin/sh
# Would it survive a crash? Kills a server under load and looks for every commit that it had acknowledged: the server of a copy of the
# cluster, unless `--live --yes` says the running one, whose sessions then end. Arguments go to `pgpersist drill crash`.
set -eu
PGPERSIST_CONFIG=${PGPERSIST_CONFIG:-$(dirname "$0")/pgpersist.toml} PGDATA=${PGDATA:-/app/pgdata}
export PGPERSIST_CONFIG PGDATA

case " $* " in
    *' --live '*) ;;
    *) set -- --copy "$@" ;;
esac
exec pgpersist drill crash "$@"
