# shellcheck shell=bash
# The exchange: Kamailio, both daemons of Penstock and SIPp phones, in a network of their own.
#
# Sourced by scripts that place real calls: they set `calls` and `seconds`, call `open_exchange` once,
# then `place_calls`, `watch_calls` and `report`, whose status is 0 if nothing was lost and 1 if media was
# lost or changed. It all goes as lab.sh says; `round` is the directory of the captures and logs of a round.

# shellcheck source-path=SCRIPTDIR source=lab.sh
source "$(dirname "${BASH_SOURCE[0]}")/lab.sh"

calls=1 seconds=10
memory_mb=256
# Two networks, inner and outer; the inner one has IPv6 as well. The plane is .1 in each of them, the proxy .2.
inner=198.18.0 inner6=2001:db8:18: outer=198.18.1
plane=$inner.1
proxy=$inner.2
# The phones: Dave is in the outer network, Bob has two addresses.
declare -A PHONE=([alice]=$inner.10 [bob]=$inner.20 [bob6]=$inner6:20 [carol]=$inner.30 [dave]=$outer.40)

say() { printf '%s\n' "$*"; }

build() {
    "$ROOT/scripts/install" run || exit 2
    lab_cargo
    say "Building (the first time takes some minutes)"
    (cd "$ROOT" && cargo build --release --locked -p penstock-plane -p penstock-control -p penstock-e2e --bins) >&2 ||
        env_fail "the build failed (above: why)"
    bin=${CARGO_TARGET_DIR:-$ROOT/target}/release
}

configure() {
    config=$LAB_DIR/penstock.toml
    cat >"$config" <<END
[region]
dir = "/dev/shm/penstock-$LAB"

[plane]
cores = [$(lab_core)]
polling = "adaptive"
memory_mb = $memory_mb

[[port]]
name = "inner"
device = "net_tap0,iface=ps0,persist"
mac = "02:70:73:00:00:01"
[[port.address]]
address = "$inner.1/24"
[[port.address]]
address = "$inner6:1/64"

[[port]]
name = "outer"
device = "net_tap1,iface=ps1,persist"
mac = "02:70:73:00:00:02"
[[port.address]]
address = "$outer.1/24"

[control]
ng = "127.0.0.1:2223"
http = "127.0.0.1:2225"
socket = "$LAB_DIR/control.sock"
store = "/dev/shm/penstock-$LAB.journal"

[[control.interface]]
name = "internal"
address = "$inner.1"
ports = "16384-32767"

[[control.interface]]
name = "internal6"
address = "$inner6:1"
ports = "16384-32767"

[[control.interface]]
name = "external"
address = "$outer.1"
ports = "16384-32767"
END
    lab_undo "rm -rf /dev/shm/penstock-$LAB /dev/shm/penstock-$LAB.journal"
}

network() {
    local name
    lab_netns hub
    lab_bridge hub br0 $inner.2/24 $inner6:2/64
    lab_bridge hub br1 $outer.2/24
    for name in alice bob carol dave; do lab_netns $name; done
    lab_wire hub br0 alice "${PHONE[alice]}/24"
    lab_wire hub br0 bob "${PHONE[bob]}/24" "${PHONE[bob6]}/64"
    lab_wire hub br0 carol "${PHONE[carol]}/24"
    lab_wire hub br1 dave "${PHONE[dave]}/24"
}

# The plane sets its taps' MACs some time after they appear, so the cables are seen to at each try.
# shellcheck disable=SC2317 # called by lab_wait
plane_answers() {
    lab_tap hub br0 ps0 && lab_tap hub br1 ps1 &&
        lab_in alice ping -c 1 -W 1 $plane && lab_in dave ping -c 1 -W 1 $outer.1 &&
        lab_in bob ping -c 1 -W 1 $inner6:1
}

# shellcheck disable=SC2317 # called by lab_wait
ng_answers() {
    lab_in hub timeout 1 bash -c 'exec 3<>/dev/udp/127.0.0.1/2223
        printf "0 d7:command4:pinge" >&3
        dd bs=1500 count=1 <&3 2>/dev/null' | grep -q pong
}

# listening NAMESPACE PORT COUNT: COUNT UDP sockets from PORT up are bound.
# shellcheck disable=SC2317 # called by lab_wait
listening() {
    lab_in "$1" ss -Hlun | awk -v first="$2" -v count="$3" '
        { port = $4; sub(/.*:/, "", port); if (port >= first && port < first + count) bound++ }
        END { exit bound < count }'
}

start_control() { lab_start control hub "$bin/penstock-control" --config "$config"; }

daemons() {
    lab_start plane hub "$bin/penstock-dataplane" --config "$config"
    lab_wait 30 plane plane_answers
    start_control
    lab_wait 10 control ng_answers
    mkdir "$LAB_DIR/kamailio"
    lab_start kamailio hub kamailio -f "$ROOT/scripts/kamailio.cfg" -DD -E -m 64 -M 8 \
        -Y "$LAB_DIR/kamailio" -P "$LAB_DIR/kamailio/pid"
    lab_wait 10 kamailio listening hub 5060 1
}

# open_exchange: builds, and starts everything that calls need. The caller's first act.
open_exchange() {
    build
    lab_open
    lab_hugepages $memory_mb || say "No hugepages to be had: using ordinary memory"
    network
    configure
    daemons
    round=$LAB_DIR/calls
}

penstock() { "$bin/penstock" --config "$config" "$@"; }

# capture NAMESPACE [IFACE [FILTER]]: what that phone's cable, or another interface, carries.
capture() {
    lab_start "capture-$1" "$1" dumpcap -q -P -B 64 -i "${2:-eth0}" -f "${3:-udp}" -w "$round/$1.pcap"
}

# captures_run NAMESPACE...: they have begun.
captures_run() {
    local name
    for name; do lab_wait 10 "capture-$name" test -s "$round/$name.pcap"; done
}

# capture_over NAMESPACE: ends a capture, which must be complete.
capture_over() {
    lab_stop "capture-$1"
    grep -q 'dropped on interface.*/0 (pcap:0/' "$LAB_DIR/capture-$1.log" ||
        env_fail "the capture at $1 is not complete: $(tail -n 1 "$LAB_DIR/capture-$1.log")"
}

# phone WHO SCENARIO CALL OPTIONS...: one SIPp is one phone: 3.6 would send all its calls from one RTP port.
# WHO is a key of PHONE; a digit at its end is no part of the namespace's name.
phone() {
    local name=${1%6} address=${PHONE[$1]} scenario=$2 call=$3
    shift 3
    cd "$round/$name-$call" || exit
    exec ip netns exec "$LAB-$name" sipp -sf "$ROOT/scripts/sipp/$scenario.xml" -i "$address" -p $((6000 + call)) \
        -mi "$address" -mp $((20000 + 4 * call)) -cp $((40000 + call)) -m 1 -nostdin -trace_err \
        -timeout $((seconds + 30))s -timeout_error "$@" >phone.log 2>&1
}

# One round of calls, captured at both ends, in the directory `round`.
place_calls() {
    local call
    callers=() callees=()
    rm -rf "$round" && mkdir "$round"
    python3 "$ROOT/scripts/sipp/voice.py" "$round" "$calls" "$seconds" alice bob
    capture alice
    capture bob
    captures_run alice bob
    for ((call = 0; call < calls; call++)); do
        phone bob bob $call &
        callees+=($!)
    done
    lab_until 30 listening bob 6000 "$calls" || env_fail "$(tail -n 1 "$round/bob-0/phone.log")"
    for ((call = 0; call < calls; call++)); do
        phone alice alice $call -key target "bob@${PHONE[bob]}:$((6000 + call))" -d $(((seconds + 2) * 1000)) $proxy:5060 &
        callers+=($!)
        sleep 0.02
    done
}

# over PID...: none of them runs any more.
over() {
    local pid
    for pid; do ! kill -0 "$pid" 2>/dev/null || return 1; done
}

# Shows the streams once a second while the calls last, and keeps the plane's counters for the report.
watch_calls() {
    local start=$SECONDS
    until over "${callers[@]}"; do
        sleep 1
        penstock streams --json >>"$round/streams.json" || true
        if [[ -t 1 ]]; then
            printf '\e[H\e[2J%d calls, %d s\n\n' "$calls" $((SECONDS - start))
            penstock streams | head -n $(($(tput lines) - 4)) || true
        else
            tail -n 1 "$round/streams.json" | jq -r --arg s $((SECONDS - start)) \
                'map(select(.kind == "rtp")) | "\($s) s: \(length) streams, \(map(.packets) | add // 0) packets, \(map(.lost) | add // 0) lost"'
        fi
    done
    lab_until 5 over "${callees[@]}" || kill "${callees[@]}" 2>/dev/null || true
}

# A phone that failed says why in its error log. Not an environment's failure: the call did not work.
phones_complain() {
    local pid failed=0
    for pid in "${callers[@]}"; do wait "$pid" || failed=$((failed + 1)); done
    for pid in "${callees[@]}"; do wait "$pid" || true; done
    ((failed == 0)) && return
    say "$failed of $calls calls failed; the first complaint:"
    find "$round" -name '*_errors.log' | sort -V | head -n 1 | xargs -r sed -n '2s/^/    /p'
}

# extract NAME: what the report needs of NAME's capture.
extract() {
    local pcap=$round/$1.pcap rtp="udp.port==20000-$((20000 + 4 * calls - 1)),rtp"
    tshark -r "$pcap" -d "$rtp" -Y rtp -T fields -e ip.src -e udp.srcport -e ip.dst -e udp.dstport \
        -e rtp.seq -e rtp.timestamp -e rtp.payload >"$round/$1.rtp" &&
        tshark -r "$pcap" -Y sip -T fields -e frame.time_epoch -e sip.Call-ID -e sip.Method -e sip.Status-Code \
            -e sip.CSeq.method >"$round/$1.sip" &&
        tshark -r "$pcap" -d "$rtp" -q -z rtp,streams >"$round/$1.jitter"
}

report() {
    local name status=0
    for name in alice bob; do
        capture_over $name
        extract "$name" 2>"$round/tshark.log" || env_fail "tshark: $(tail -n 1 "$round/tshark.log")"
    done
    phones_complain
    touch "$round/streams.json"
    python3 "$ROOT/scripts/sipp/report.py" "$round" "$calls" "$seconds" || status=$?
    [[ -s $round/result.json ]] || env_fail "the report could not be made"
    return $status
}
