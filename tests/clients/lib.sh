# What the tests of container managers share: the program, an image of busybox, checks. Sourced by the scripts beside
# it; sets runsc, work, image.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
runsc=${RUNSC:-$here/target/x86_64-unknown-linux-gnu/release/runsc}
work=$(mktemp -d)
image=$work/image
passed=0
failed=0

check() { # NAME STATUS PATTERN COMMAND…
    local name=$1 want=$2 pattern=$3 status
    shift 3
    "$@" >"$work/out" 2>&1 </dev/null
    status=$?
    if [ "$status" = "$want" ] && { [ -z "$pattern" ] || grep -qE -- "$pattern" "$work/out"; }; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'FAIL %s: status %s (want %s), output:\n%s\n' "$name" "$status" "$want" "$(head -c 800 "$work/out")"
    fi
}

# until_true COMMAND…: waits for a condition, for at most 30 seconds.
until_true() {
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    return 1
}

# The result, in the form that tests/run counts.
report() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

mkdir -p "$image/bin" "$image/etc" "$image/tmp" "$image/root"
cp /bin/busybox "$image/bin/busybox"
for applet in sh ls cat id echo sleep true false hostname touch nc wget httpd nslookup tail ip ping ps kill stat head wc test env mkdir \
    tr grep awk seq df nproc free; do
    ln -s busybox "$image/bin/$applet"
done
printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' >"$image/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$image/etc/group"

# box_image [CONFIG]: makes $work/box.tar, the image in the form of `docker save`, with more fields of its configuration.
box_image() {
    mkdir -p "$work/save/layer"
    tar -C "$image" -cf "$work/save/layer/layer.tar" .
    sum=$(sha256sum "$work/save/layer/layer.tar" | cut -d' ' -f1)
    echo '{"architecture":"amd64","os":"linux","config":{'"${1:-}"'"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:'"$sum"'"]}}' >"$work/save/config.json"
    echo '[{"Config":"config.json","RepoTags":["example.org/box:latest"],"Layers":["layer/layer.tar"]}]' >"$work/save/manifest.json"
    tar -C "$work/save" -cf "$work/box.tar" manifest.json config.json layer/layer.tar
}
