# Docker's daemon, one of our own in network and mount namespaces of its own, with an image made here; sourced by the tests
# that use it. Sets d (its client), group; ends everything at exit.
#
# The script that sources it has executed itself anew with `unshare --net --mount --propagation private`.

d() { timeout "${LIMIT:-60}" docker --host "unix://$work/docker.sock" --config "$work" "$@"; }
finish() {
    d ps --all --quiet 2>/dev/null | xargs -r docker --host "unix://$work/docker.sock" rm --force >/dev/null 2>&1
    [ -n "${daemon:-}" ] && kill "$daemon" && wait "$daemon"
    for dir in /sys/fs/cgroup/*/"$group" /sys/fs/cgroup/"$group"; do
        [ -d "$dir" ] && find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    grep -o " $work/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount 2>/dev/null
    rm -rf "$work"
} 2>/dev/null
group=runsc-test-$$
trap finish EXIT

ip link set lo up
mkdir -p "$work/data"
cat >"$work/daemon.json" <<JSON
{"default-runtime": "runsc", "runtimes": {"runsc": {"path": "$runsc"},
 "kept": {"path": "$runsc", "runtimeArgs": ["--overlay2=none"]}}}
JSON
dockerd --host "unix://$work/docker.sock" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
    --config-file "$work/daemon.json" --cgroup-parent "/$group" \
    --bip 10.88.7.1/24 --default-address-pool base=10.88.128.0/17,size=24 >"$work/daemon.log" 2>&1 &
daemon=$!
until_true d version || { tail -n 20 "$work/daemon.log"; echo "0 passed, 1 failed"; exit 1; }
tar -C "$image" -c . | d import - box >/dev/null
