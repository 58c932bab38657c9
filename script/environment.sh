# Sourced by the scripts beside it, which set `repository` first: where programs are found, how we speak, and what is free.
# shellcheck shell=sh
# shellcheck disable=SC2154

# mkfs, losetup and the like lie where a plain user's PATH does not look.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
if [ -d "${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}/bin" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
export PATH

# With another HOME (sudo, a fresh account) rustup's `cargo` is found on PATH, but not the toolchain that lies
# beside it in the home directory where both were installed.
if [ -z "${RUSTUP_HOME:-}" ] && [ ! -d "${HOME:-/nonexistent}/.rustup" ]; then
    cargo_program=$(command -v cargo || true)
    case "$cargo_program" in
        */.cargo/bin/cargo)
            if [ -d "${cargo_program%/.cargo/bin/cargo}/.rustup/toolchains" ]; then
                RUSTUP_HOME="${cargo_program%/.cargo/bin/cargo}/.rustup"
                export RUSTUP_HOME
            fi
            ;;
    esac
fi

say() {
    printf '%s: %s\n' "$(basename "$0")" "$*"
}

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Hundredths of a second since the machine's boot: a clock that nobody sets.
now_hundredths() {
    read -r uptime _ </proc/uptime
    # "12.05" becomes 1205; never a leading zero, which would mean octal.
    printf '%s\n' "${uptime%.*}${uptime#*.}" | sed 's/^0*\(.\)/\1/'
}

# seconds_since HUNDREDTHS: "4.2".
seconds_since() {
    passed=$(($(now_hundredths) - $1))
    printf '%d.%d\n' $((passed / 100)) $((passed % 100 / 10))
}

# A port that nobody listens on, by the kernel's own tables.
free_port() {
    port=$((20000 + $$ % 10000))
    while cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$(printf '%04X' $port) [0-9A-F]*:0000 "; do
        port=$((port + 1))
    done
    echo $port
}
