# Sourced by the scripts that run tests, after environment.sh: a folder for all that tests put down, and what they left behind.
# shellcheck shell=sh
# shellcheck disable=SC2154

# One folder for everything, so that what is left is known to be ours. It is open like /tmp, since PostgreSQL's processes run as
# another user when we are root; its path is short, since sockets lie in it. Sets `scratch`.
make_scratch() {
    place=$(mktemp -d "${TMPDIR:-/tmp}/pgp-test.XXXXXX")
    trap remove_scratch EXIT
    trap 'exit 130' HUP INT TERM
    chmod 755 "$place"
    scratch=$place
    if disk_in_memory; then scratch=$place/d/t; fi
    chmod 1777 "$scratch"
    # Templates of throw-away clusters are kept for the next run elsewhere; here they go with the rest.
    mkdir "$scratch/cache"
}

# The tests sync thousands of files, and wait for a disk more than for anything else. So where we may mount and there is memory enough,
# they have an ext4 of their own whose disk is memory: PostgreSQL and pgpersist make the same calls, and these take no time.
# PGPERSIST_TEST_MEMORY=no leaves it out; script/proofs does without.
disk_in_memory() {
    if [ "$(id -u)" -ne 0 ] || [ "${PGPERSIST_TEST_MEMORY:-yes}" = no ]; then return 1; fi
    kilobytes=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
    limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
    if [ "$limit" != max ] && [ $((limit / 1024)) -lt "${kilobytes:-0}" ]; then kilobytes=$((limit / 1024)); fi
    # Half of it, so that the tests' servers and whatever else runs have the other half.
    if [ "${kilobytes:-0}" -lt $((12 * 1024 * 1024)) ]; then return 1; fi
    mkdir "$place/m" "$place/d"
    if mount -t tmpfs -o "size=$((kilobytes / 2))k,mode=0700" pgpersist-test "$place/m" 2>/dev/null; then
        if truncate -s "$((kilobytes / 2))k" "$place/m/disk" && mkfs.ext4 -q -m 0 "$place/m/disk" &&
            mount -o loop,discard "$place/m/disk" "$place/d" 2>/dev/null; then
            mkdir "$place/d/t"
            say "the scratch folder is an ext4 in memory"
            return
        fi
        umount "$place/m"
    fi
    rmdir "$place/m" "$place/d"
    return 1
}

remove_scratch() {
    rm -rf --one-file-system "$scratch" 2>/dev/null || true
    for mounted in "$place/d" "$place/m"; do
        # A process that was left behind, and told, holds it no longer than it lives.
        if [ -d "$mounted" ]; then umount "$mounted" 2>/dev/null || umount --lazy "$mounted" || true; fi
    done
    rm -rf --one-file-system "$place"
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
