# Ends the servers of a scratch folder and removes it, once its owner is gone. Arguments: the folder, `remove` or `keep`.
#
# It stays behind as a process of its own and reads from a pipe whose other end the owner alone holds: the kernel closes
# that end however the owner ends, SIGKILL included. The owner may send one word first: `leave` when there is nothing to do,
# `keep` when the files are to stay after all.
trap '' HUP INT TERM QUIT PIPE
directory=$1 data=$1/data afterwards=$2

read -r word || :
[ "$word" = leave ] && exit 0
[ "$word" = keep ] && afterwards=keep

# PostgreSQL's processes that work in our data directory. A number from a file could belong to somebody else by now; a
# working directory cannot.
servers() {
    for process in /proc/[0-9]*; do
        [ "$process/cwd" -ef "$data" ] || continue
        { read -r name <"$process/comm"; } 2>/dev/null || continue
        case $name in postgres | postmaster) echo "${process#/proc/}" ;; esac
    done
}

# The few bytes of System V shared memory that a killed postmaster cannot take with it. The file names them, and the kernel
# says whether its process made them and nobody uses them.
release_shared_memory() {
    { read -r creator && read -r _ && read -r _ && read -r _ && read -r _ && read -r _ && read -r _ id; } \
        <"$data/postmaster.pid" || return
    while read -r _ segment _ _ made_by _ attached _; do
        [ "$segment" = "$id" ] && [ "$made_by" = "$creator" ] && [ "$attached" = 0 ] && ipcrm -m "$id"
    done </proc/sysvipc/shm
} 2>/dev/null

# Immediate shutdown where nothing is kept, fast shutdown where the files are.
gently=QUIT
[ "$afterwards" = keep ] && gently=INT
round=0
while [ -d "$directory" ] && [ "$round" -lt 3000 ]; do
    found=$(servers)
    if [ -n "$found" ]; then
        # A postmaster ends its own children when they do not; one that does not end itself is killed with them.
        # shellcheck disable=SC2086 # these are several numbers
        case $round in
        0 | 500) kill -s "$gently" $found ;;
        1[05]00 | 2?00) kill -s KILL $found ;;
        esac
    elif [ "$afterwards" = keep ]; then
        release_shared_memory
        rm -f "$directory/owner"
        exit 0
    else
        release_shared_memory
        # A server that was just being started may still write while we remove: then look again.
        rm -rf "$directory"
    fi 2>/dev/null
    [ -d "$directory" ] || exit 0
    sleep 0.01
    round=$((round + 1))
done
