# What the scripts beside this file share. It is sourced, after `set -euo pipefail`, and leaves the shell in the root of the repository.
# shellcheck shell=bash

# A program of the caller's own, named from where he stands.
[[ -z ${HANDFAST_BIN:-} ]] || HANDFAST_BIN=$(realpath "$HANDFAST_BIN")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
export LC_ALL=C.UTF-8
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
mkdir -p "$CARGO_TARGET_DIR"

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' RESET=$'\e[0m'
else
    # shellcheck disable=SC2034 # for those who source this
    BOLD='' GREEN='' RED='' RESET=''
fi

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s%s: %s%s\n' "$RED" "${0##*/}" "$*" "$RESET" >&2
    exit 1
}

need_root() {
    ((EUID == 0)) || die "needs root, because $1"
}

# Installs the Debian packages of the commands that are missing: need COMMAND=PACKAGE...
need() {
    local pair missing=() log
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        die "missing: ${missing[*]}; on Debian: sudo apt-get install ${missing[*]}"
    fi
    say "Installing ${missing[*]}"
    log=$(mktemp)
    { apt_get update && apt_get install "${missing[@]}"; } >"$log" 2>&1 || { cat "$log" >&2; die "cannot install ${missing[*]}"; }
    rm "$log"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 -o APT::Install-Recommends=false "$@" </dev/null
}

need_rust() {
    need cc=build-essential
    command -v cargo >/dev/null || die 'cargo is not in the PATH: install Rust for this user, see https://rustup.rs'
}

need_tun() {
    if [[ ! -c /dev/net/tun ]]; then
        mkdir -p /dev/net
        mknod -m 666 /dev/net/tun c 10 200 2>/dev/null || true
    fi
    # Opening fails where the kernel has no such driver.
    { : <>/dev/net/tun; } 2>/dev/null || die '/dev/net/tun is missing: load the kernel module tun, or give this container the device'
}

# Sets HANDFAST_BIN to a release build, unless the caller has set it.
build_release() {
    [[ -z ${HANDFAST_BIN:-} ]] || return 0
    need_rust
    local log=$CARGO_TARGET_DIR/release.log
    say 'Building (the first time takes minutes)'
    cargo build --release --locked >"$log" 2>&1 || { cat "$log" >&2; die 'the build failed'; }
    HANDFAST_BIN=$CARGO_TARGET_DIR/release/handfast
}

# Tries a command ten times a second until it succeeds: wait_for SECONDS COMMAND...
wait_for() {
    local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@" >/dev/null 2>&1; do
        ((${EPOCHREALTIME/[.,]/} < deadline)) || return 1
        sleep 0.1
    done
}

# Ends processes of this script and waits for them; those that ignore it for two seconds are killed: end PID...
end() {
    local pid
    for pid in "$@"; do
        kill "$pid" 2>/dev/null || continue
        wait_for 2 is_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

is_gone() {
    local state
    state=$(sed -n 's/^State:\t//p' "/proc/$1/status" 2>/dev/null) || return 0
    [[ -z $state || $state == Z* ]]
}

# Whether fuzzing is possible; installs cargo-fuzz where only that is missing.
has_fuzzing() {
    rustup toolchain list 2>/dev/null | grep -q '^nightly' || return 1
    cargo fuzz --version >/dev/null 2>&1 && return
    local log=$CARGO_TARGET_DIR/cargo-fuzz.log
    say 'Installing cargo-fuzz'
    cargo install cargo-fuzz --locked >"$log" 2>&1 || { cat "$log" >&2; die 'cannot install cargo-fuzz'; }
}

fuzz_targets() {
    cargo +nightly fuzz list --fuzz-dir tests/fuzz
}

fuzz_build() {
    cargo +nightly fuzz build --fuzz-dir tests/fuzz --target-dir tests/fuzz/target
}

# Fuzzes one target, beginning with the corpus of the repository; what is new goes to the target directory: fuzz_run TARGET SECONDS
fuzz_run() {
    local found=tests/fuzz/target/corpus/$1 kept=tests/fuzz/corpus/$1 corpora
    corpora=("$found")
    mkdir -p "$found"
    [[ ! -d $kept ]] || corpora+=("$kept")
    cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir tests/fuzz/target "$1" "${corpora[@]}" -- \
        -max_total_time="$2" -timeout=10 -rss_limit_mb=1024
}
