# Sourced by the scripts that run tests, after environment.sh: a folder for all that tests put down, and what they left behind.
# shellcheck shell=sh
# shellcheck disable=SC2154

# One folder for everything, so that what is left is known to be ours. It is open like /tmp, since PostgreSQL's processes run as
# another user when we are root; its path is short, since sockets lie in it. Sets `scratch`.
make_scratch() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/pgpersist-test.XXXXXX")
    chmod 1777 "$scratch"
    trap 'rm -rf --one-file-system "$scratch"' EXIT
    trap 'exit 130' HUP INT TERM
    # Templates of throw-away clusters are kept for the next run elsewhere; here they go with the rest.
    mkdir "$scratch/cache"
}

# in_scratch COMMAND…
in_scratch() {
    env TMPDIR="$scratch" PGPERSIST_CACHE="$scratch/cache" "$@"
}

# Whether nothing was left behind; says what else.
left_nothing() {
    # A server that was told to stop, or whose owner has died, may need a moment.
    clean=no
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        if "$repository/script/leftovers" "$scratch" >/dev/null; then
            clean=yes
            break
        fi
        sleep 1
    done
    if [ $clean = no ]; then
        say "left behind:" >&2
        "$repository/script/leftovers" "$scratch" >&2 || true
    fi
    # Whom that folder does not let in, as another user, keeps templates beside it.
    rm -rf --one-file-system "$scratch/cache" "$scratch"/pgpersist-cache-*
    files=$(find "$scratch" -mindepth 1 -maxdepth 1)
    if [ -n "$files" ]; then
        say "left behind in the scratch folder:" >&2
        # What lies in it tells which test it was.
        printf '%s\n' "$files" | while read -r folder; do find "$folder" -ls | head -n 40; done >&2
        clean=no
    fi
    [ $clean = yes ] || return 1
    say "no process, mount, loop device or folder was left behind"
}
