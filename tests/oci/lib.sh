# What the tests of the OCI runtime share: a bundle of busybox, checks, and a look at what is left behind.
# Sourced by tests/oci/run; sets runsc, work, state.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
runsc=${RUNSC:-$here/target/x86_64-unknown-linux-gnu/release/runsc}
platform=${PLATFORM:-auto}
work=$(mktemp -d)
state=$work/state
passed=0
failed=0

r() { timeout 60 "$runsc" --platform "$platform" --root "$state" "$@"; }

# check NAME STATUS PATTERN COMMAND…: runs the command; its status and its output (both streams) must fit.
check() {
    local name=$1 want=$2 pattern=$3 out status
    shift 3
    # Into a file: a container that is left running keeps its standard streams.
    "$@" >"$work/.out" 2>&1 </dev/null
    status=$?
    out=$(cat "$work/.out")
    if [ "$status" = "$want" ] && grep -qE -- "$pattern" <<<"$out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s: status %s (want %s), output:\n%s\n' "$name" "$status" "$want" "$(head -c 800 <<<"$out")"
    fi
}

# ok NAME CONDITION…: the condition must hold.
ok() {
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAIL $name: $*"
    fi
}

# until_true COMMAND…: waits for a condition, for at most ten seconds.
until_true() {
    for _ in $(seq 200); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}

# bundle NAME [PYTHON]: a bundle with busybox; PYTHON changes its configuration `c`.
bundle() {
    local dir=$work/$1
    if ! [ -d "$dir" ]; then
        mkdir -p "$dir/rootfs/bin" "$dir/rootfs/etc" "$dir/rootfs/tmp"
        cp /bin/busybox "$dir/rootfs/bin/busybox"
        for applet in sh ls cat mount id hostname df sleep true false echo ps kill stat touch dd mkdir head wc test tr grep nc chown cut; do
            ln -s busybox "$dir/rootfs/bin/$applet"
        done
        echo 'root:x:0:0:root:/root:/bin/sh
user:x:1000:1001::/home/user:/bin/sh' >"$dir/rootfs/etc/passwd"
        echo 'root:x:0:
users:x:1001:' >"$dir/rootfs/etc/group"
        (cd "$dir" && "$runsc" spec)
        edit "$1" 'c["process"]["terminal"]=False'
    fi
    [ -z "${2:-}" ] || edit "$1" "$2"
}

edit() {
    python3 - "$work/$1/config.json" "$2" <<'PYTHON'
import json, sys
path, change = sys.argv[1:]
c = json.load(open(path))
exec(change)
json.dump(c, open(path, "w"))
PYTHON
}

# shell NAME SCRIPT: the bundle's program becomes a shell script.
shell() { bundle "$1" "c['process']['args']=['/bin/sh','-c',$(python3 -c 'import sys; print(repr(sys.argv[1]))' "$2")]"; }

field() { r state "$1" 2>/dev/null | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
has_status() { [ "$(field "$1" status)" = "$2" ]; }

# gone PID: it has ended; whoever is its parent now may not have reaped it yet.
gone() { ! [ -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }

# nothing_left: no runsc of this test is left (each has the state directory among its arguments).
nothing_left() { ! grep -lsz -F "$state" /proc/[0-9]*/cmdline | xargs -r dirname | sed 's/$/\/comm/' | xargs -r cat 2>/dev/null | grep -q runsc; }
