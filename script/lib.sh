# Functions that the scripts of this directory share. Sourced, POSIX sh:
#
#     . "$(dirname "$0")/lib.sh"
#
# Afterwards the working directory is the root of the repository, ROOT its path, and LOGS a directory for
# the output of what runs quietly.

set -eu
cd "$(dirname "$0")/.."
ROOT=$(pwd)
LOGS=${LOGS:-$ROOT/build/logs}
export PYTHONDONTWRITEBYTECODE=1

# What building, running and testing need, by their Debian names; "a|b" is satisfied by either.
BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config ccache git ca-certificates
    libjansson-dev libssl-dev zlib1g-dev libsqlite3-dev libmicrohttpd-dev libwslay-dev
    libcurl4-openssl-dev|libcurl4-gnutls-dev libarchive-dev libzstd-dev libyaml-dev libblosc-dev libjq-dev
    uthash-dev libcmocka-dev"
RUN_PACKAGES="runc|crun python3 python3-venv python3-numpy python3-sklearn"
TEST_PACKAGES="clang runc crun procps curl zsh fish r-base-core libxgboost0|libxgboost-dev libonnx-testdata docker.io"
BENCH_PACKAGES="nginx-light|nginx wrk redis-server"

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "root or sudo is needed for: $*"
    fi
}

# quietly NAME COMMAND…: one line that says what happens; the output goes to a file, whose end is shown if
# the command fails.
quietly() {
    quietly_name=$1
    shift
    mkdir -p "$LOGS"
    quietly_log=$LOGS/$(printf '%s' "$quietly_name" | tr ' /' '--').log
    quietly_from=$(date +%s)
    if "$@" >"$quietly_log" 2>&1 </dev/null; then
        say "  $quietly_name ($(($(date +%s) - quietly_from)) s)"
        return 0
    else
        quietly_status=$?
        say "  $quietly_name FAILED, the end of $quietly_log:"
        tail -n 40 "$quietly_log" | sed 's/^/    /'
        return "$quietly_status"
    fi
}

# -- packages --

package_is_installed() {
    case $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) in
    ii*) return 0 ;;
    *) return 1 ;;
    esac
}

# The packages of the arguments that are not there; of alternatives the first.
missing_packages() {
    for missing_choice in "$@"; do
        missing_found=no
        for missing_name in $(printf '%s' "$missing_choice" | tr '|' ' '); do
            if package_is_installed "$missing_name"; then
                missing_found=yes
            fi
        done
        if [ $missing_found = no ]; then
            printf '%s\n' "${missing_choice%%|*}"
        fi
    done
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
}

install_packages() {
    if ! have apt-get || ! have dpkg-query; then
        say "this is no Debian or Ubuntu; make sure that these are there, by your system's names for them:"
        say "  $*" | tr '\n' ' ' | tr -s ' '
        say ""
        return 0
    fi
    install_missing=$(missing_packages "$@")
    if [ -z "$install_missing" ]; then
        return 0
    fi
    say "installing" $install_missing
    quietly "apt-get update" as_root apt-get -qq -o Acquire::Retries=3 update
    # shellcheck disable=SC2086
    quietly "apt-get install" apt_install $install_missing
}

# clang's sanitizer and fuzzer run-time, whose name holds the version.
clang_runtime_package() {
    clang_major=$(clang -dumpversion | cut -d. -f1)
    if apt-cache show "libclang-rt-$clang_major-dev" >/dev/null 2>&1; then
        printf 'libclang-rt-%s-dev\n' "$clang_major"
    else
        printf 'libclang-common-%s-dev\n' "$clang_major"
    fi
}

# -- building --

compiler() {
    if have ccache; then
        printf 'ccache %s\n' "$1"
    else
        printf '%s\n' "$1"
    fi
}

# build_into DIR COMPILER MESON-OPTION…: configures where that is not done yet, and compiles.
build_into() {
    build_directory=$1
    build_compiler=$(compiler "$2")
    shift 2
    if [ ! -f "$build_directory/build.ninja" ]; then
        CC=$build_compiler meson setup "$build_directory" "$@"
    fi
    ninja -C "$build_directory"
}

# -- the Python that tests run with --

# A virtual environment of the system's Python with the packages of tests/requirements.lock; made anew when
# that file changes.
test_python() {
    VENV=$ROOT/.venv
    if [ ! -x "$VENV/bin/python" ] || ! cmp -s tests/requirements.lock "$VENV/requirements.lock"; then
        rm -rf "$VENV"
        quietly "python environment" make_test_python
    fi
}

make_test_python() {
    /usr/bin/python3 -m venv "$VENV" &&
        "$VENV/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes \
            -r tests/requirements.lock &&
        cp tests/requirements.lock "$VENV/requirements.lock"
}

# -- the daemon of the demo --

SLIPWAY=${SLIPWAY_BINARY:-$ROOT/build/src/slipway}
DEMO_DATA=${SLIPWAY_DATA:-/var/tmp/slipway-demo-$(id -u)}

# Processes of our binary that were started for a data directory: the daemon, its gateway, monitors.
demo_processes() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe" 2>/dev/null) in
        */slipway | */slipway\ \(deleted\))
            if tr '\0' '\n' <"$process/cmdline" 2>/dev/null | grep -q -e "^$1\$" -e "^$1/" -e "=$1\$" -e "=$1/"; then
                printf '%s\n' "${process#/proc/}"
            fi
            ;;
        esac
    done
}

# daemon_start [SERVE-OPTION…]: starts `slipway serve` on DEMO_DATA in the background, unless it runs, and
# waits until it answers.
daemon_start() {
    umask 077
    mkdir -p "$DEMO_DATA"
    [ -O "$DEMO_DATA" ] || die "$DEMO_DATA belongs to somebody else"
    if "$SLIPWAY" status --data "$DEMO_DATA" >/dev/null 2>&1; then
        return 0
    fi
    setsid "$SLIPWAY" serve --data "$DEMO_DATA" "$@" >"$DEMO_DATA/daemon.log" 2>&1 </dev/null &
    daemon_pid=$!
    printf '%s\n' "$daemon_pid" >"$DEMO_DATA/daemon.pid"
    daemon_tries=0
    until "$SLIPWAY" status --data "$DEMO_DATA" >/dev/null 2>&1; do
        daemon_tries=$((daemon_tries + 1))
        if [ $daemon_tries -gt 200 ] || ! kill -0 "$daemon_pid" 2>/dev/null; then
            tail -n 20 "$DEMO_DATA/daemon.log" >&2
            die "the daemon does not answer; its log is $DEMO_DATA/daemon.log"
        fi
        sleep 0.05
    done
}

# Ends the daemon of DEMO_DATA and everything that it started: asks first, then insists.
daemon_stop() {
    if [ -z "$(demo_processes "$DEMO_DATA")" ]; then
        return 1
    fi
    for daemon_signal in TERM KILL; do
        for daemon_pid in $(demo_processes "$DEMO_DATA"); do
            kill -s $daemon_signal "$daemon_pid" 2>/dev/null || true
        done
        daemon_tries=0
        while [ -n "$(demo_processes "$DEMO_DATA")" ] && [ $daemon_tries -lt 150 ]; do
            daemon_tries=$((daemon_tries + 1))
            sleep 0.1
        done
    done
    rm -f "$DEMO_DATA/daemon.pid"
    [ -z "$(demo_processes "$DEMO_DATA")" ]
}
