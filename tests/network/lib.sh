# What the network tests share: counting, waiting, and what a policy is expected to do (egress.py).

passed=0 failed=0 running=()

check() { # NAME PATTERN FILE
    if grep -Eq -- "$2" "$3"; then
        passed=$((passed + 1))
        echo "ok     $platform $1"
    else
        failed=$((failed + 1))
        echo "FAILED $platform $1: no /$2/ in:"
        tail -n 30 "$3" | cut -c 1-300 | sed 's/^/    /'
    fi
}

# Waits until a file has a line, for at most ten seconds.
has_line() { # PATTERN FILE
    for _ in $(seq 100); do
        grep -q "$1" "$2" 2>/dev/null && return
        sleep 0.1
    done
    echo "$0: no '$1' in $2 after ten seconds:" >&2
    cat "$2" >&2
}

check_policy() {
    check "policy: an address before its name is known" '^before EACCES' "$work/out"
    check "policy: an allowed name" '^named True' "$work/out"
    check "policy: the address of an allowed name" '^address True' "$work/out"
    check "policy: another port" '^port EACCES' "$work/out"
    check "policy: UDP to an allowed name" "^udp b'ba'" "$work/out"
    check "policy: TLS for an allowed name" '^tls True' "$work/out"
    check "policy: TLS for another name" '^other tls EACCES' "$work/out"
    check "policy: TLS without a name" '^nameless tls EACCES' "$work/out"
    check "policy: another name is not resolved" '^other name no such name' "$work/out"
    check "policy: another address" '^other address EACCES' "$work/out"
    check "policy: an allowed network" '^network True' "$work/out"
    check "policy: a server that speaks first" "^silent b'welcome'" "$work/out"
    check "policy: one line for a refusal" '"destination":"10.99.0.3:7000".*"msg":"egress refused".*"pid":"[0-9]+".*"program":"python3"' "$work/log"
    check "policy: names over TCP" '^name over TCP \(True, 0\)' "$work/out"
    check "policy: another name over TCP" '^other name over TCP \(True, 5\)' "$work/out"
}
