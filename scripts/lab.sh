# shellcheck shell=bash
# The laboratory: network namespaces, their wires and the processes in them.
#
# Sourced by scripts that need a network of their own. Everything made here carries this process's
# id and is undone, newest first, however the script ends. Functions that fail for a reason outside
# Penstock call `env_fail`: one sentence, exit 2.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAB="ps$$"
LAB_UNDO=()
declare -A LAB_PID=()

# env_fail SENTENCE: the environment, not Penstock, is at fault.
env_fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 2
}

# lab_cargo: puts a cargo that is new enough for the workspace on the PATH.
lab_cargo() {
    local wanted found
    PATH=$PATH:${CARGO_HOME:-${HOME-}/.cargo}/bin
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    type -P cargo >/dev/null || env_fail "there is no cargo: install Rust $wanted or newer"
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
    [[ -n $found ]] || env_fail "cargo does not run: install Rust $wanted or newer"
    printf '%s\n' "$wanted" "${found%%-*}" | sort -CV ||
        env_fail "cargo $found is too old: Rust $wanted or newer is needed (rustup update)"
}

# lab_undo COMMAND: a line of shell to run at the end, newest first.
lab_undo() { LAB_UNDO+=("$1"); }

lab_clean() {
    local status=$? i
    trap '' INT TERM HUP
    set +e
    for ((i = ${#LAB_UNDO[@]} - 1; i >= 0; i--)); do
        eval "${LAB_UNDO[i]}"
    done
    exit "$status"
}

# lab_open: call once, first. Gives LAB_DIR, a private directory for logs and captures.
lab_open() {
    trap lab_clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    LAB_DIR=$(mktemp -d "/tmp/penstock-$$.XXXXXX")
    chmod 755 "$LAB_DIR"
    lab_undo "rm -rf $LAB_DIR"
}

# lab_netns NAME: a namespace called ps<pid>-NAME with its loopback up and no IPv6 chatter.
lab_netns() {
    local ns="$LAB-$1"
    ip netns add "$ns" || env_fail "cannot make a network namespace (is this a container without CAP_SYS_ADMIN?)"
    lab_undo "lab_drop_netns $ns"
    lab_in "$1" tee /proc/sys/net/ipv6/conf/{all,default}/disable_ipv6 <<<1 >/dev/null 2>&1 || true
    ip -n "$ns" link set lo up
}

# What still runs in a namespace of ours was started by us.
lab_drop_netns() {
    local pid
    for pid in $(ip netns pids "$1"); do
        kill -KILL "$pid" 2>/dev/null
        # The shell would report the death of its own children.
        wait "$pid" 2>/dev/null
    done
    ip netns del "$1"
}

# lab_in NAME COMMAND...: run COMMAND inside a namespace.
lab_in() {
    local ns="$LAB-$1"
    shift
    ip netns exec "$ns" "$@"
}

# lab_address NAME IFACE CIDR...: the addresses of an interface; IPv6 comes with the first one of its own.
lab_address() {
    local name=$1 iface=$2 cidr nodad
    shift 2
    for cidr; do
        nodad=
        if [[ $cidr == *:* ]]; then
            nodad=nodad
            ip -n "$LAB-$name" link set "$iface" addrgenmode none
            lab_in "$name" tee "/proc/sys/net/ipv6/conf/$iface/disable_ipv6" <<<0 >/dev/null 2>&1 ||
                env_fail "this kernel has no IPv6"
        fi
        ip -n "$LAB-$name" addr add "$cidr" dev "$iface" $nodad ||
            env_fail "cannot give $iface of $name the address $cidr"
    done
}

# lab_bridge NAME BRIDGE CIDR...: a bridge in NAME, with addresses of its own.
lab_bridge() {
    local ns="$LAB-$1" name=$1 bridge=$2
    shift 2
    ip -n "$ns" link add "$bridge" type bridge forward_delay 0 mcast_snooping 0 ||
        env_fail "cannot make a bridge (kernel module bridge missing?)"
    lab_address "$name" "$bridge" "$@"
    ip -n "$ns" link set "$bridge" up
}

# lab_wire HUB BRIDGE NAME CIDR...: a cable from HUB's bridge to eth0 in NAME.
lab_wire() {
    local hub=$1 bridge=$2 name=$3
    shift 3
    ip link add "$name" netns "$LAB-$hub" type veth peer name eth0 netns "$LAB-$name" ||
        env_fail "cannot make a veth pair (kernel module veth missing?)"
    ip -n "$LAB-$hub" link set "$name" master "$bridge" up
    lab_address "$name" eth0 "$@"
    ip -n "$LAB-$name" link set eth0 up
    # A veth peer leaves UDP checksums unfinished, and DPDK would see them so.
    lab_in "$hub" ethtool -K "$name" tx off >/dev/null
    lab_in "$name" ethtool -K eth0 tx off >/dev/null
}

# lab_tap HUB BRIDGE IFACE: put a tap that DPDK made into HUB's bridge. Its kernel side must not have the MAC
# that the plane answers with: the bridge would take the plane's frames for its own.
lab_tap() {
    ip -n "$LAB-$1" link set "$3" address 02:70:73:ff:ff:fe &&
        ip -n "$LAB-$1" link set "$3" master "$2" up
}

# lab_hugepages MEGABYTES: reserve 2 MB pages; false if the machine has none to give.
lab_hugepages() {
    local pool=/sys/kernel/mm/hugepages/hugepages-2048kB want=$(($1 / 2)) free before added
    [[ -w $pool/nr_hugepages ]] || return 1
    free=$(<$pool/free_hugepages)
    ((free >= want)) && return 0
    before=$(<$pool/nr_hugepages)
    echo $((before + want - free)) >$pool/nr_hugepages 2>/dev/null || return 1
    added=$(($(<$pool/nr_hugepages) - before))
    # Give back what was added, not what was there before: another run may have changed it since.
    lab_undo "echo \$((\$(<$pool/nr_hugepages) - $added)) >$pool/nr_hugepages"
    (($(<$pool/free_hugepages) >= want))
}

# lab_core: the last CPU this process may use, so that CPU 0 is left to the kernel where there are two.
lab_core() {
    local list
    list=$(awk '/^Cpus_allowed_list/ { print $2 }' /proc/self/status)
    echo "${list##*[,-]}"
}

# lab_start NAME NAMESPACE COMMAND...: a daemon; its output goes to LAB_DIR/NAME.log.
lab_start() {
    local name=$1 ns=$2
    shift 2
    ip netns exec "$LAB-$ns" "$@" >"$LAB_DIR/$name.log" 2>&1 &
    LAB_PID[$name]=$!
    lab_undo "lab_stop $name"
}

# lab_stop NAME: ask, wait 5 seconds, insist.
lab_stop() {
    local pid=${LAB_PID[$1]:-} i
    [[ -n $pid ]] || return 0
    unset "LAB_PID[$1]"
    kill -TERM "$pid" 2>/dev/null || return 0
    for ((i = 0; i < 50; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# lab_kill NAME: no warning, no chance to tidy up; false if it had ended already.
lab_kill() {
    local pid=${LAB_PID[$1]}
    unset "LAB_PID[$1]"
    kill -KILL "$pid" 2>/dev/null || return 1
    wait "$pid" 2>/dev/null || true
}

# lab_until SECONDS COMMAND...: until COMMAND succeeds; false if it did not in time.
lab_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# lab_wait SECONDS NAME COMMAND...: until COMMAND succeeds, the sign that daemon NAME is ready.
lab_wait() {
    local limit=$1 name=$2
    shift 2
    # shellcheck disable=SC2317 # called by lab_until
    ready_or_dead() { "$@" || ! kill -0 "${LAB_PID[$name]}"; }
    lab_until "$limit" ready_or_dead "$@" || lab_blame "$name" "was not ready within $limit seconds"
    kill -0 "${LAB_PID[$name]}" 2>/dev/null || lab_blame "$name" "ended while starting"
}

# lab_blame NAME WHAT: fail with the end of NAME's log.
lab_blame() {
    tail -n 15 "$LAB_DIR/$1.log" | sed "s/^/    /" >&2
    env_fail "$1 $2 (above: the end of its log)"
}
