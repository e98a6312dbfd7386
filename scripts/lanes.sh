# shellcheck shell=bash
# The lanes: what real callers do besides talking, each of them one short call through the exchange of calls.sh.
#
# A lane is a function: `stage` names its phones, `callee` and `caller` start them, and `hears A B HOW` says what B
# must hear of A (sipp/lane.py has the words). Sourced by scripts/run, which calls `run_lanes` once everything is up.

LANES=(hold hold-inactive hold-zero cancel cancel-early busy decline fork fork-tidy serial ipv6 networks websocket)

declare -A LANE_SAYS=(
    [hold]="the caller holds with sendonly, and resumes"
    [hold-inactive]="the caller holds with inactive, and resumes"
    [hold-zero]="the caller holds with c=0.0.0.0, as of old, and resumes"
    [cancel]="the caller gives up while it rings"
    [cancel-early]="the caller gives up on early media (183 with SDP)"
    [busy]="the callee is busy: 486 after 180"
    [decline]="the callee declines: 603 after 180"
    [fork]="two phones ring, one with early media, and the other answers"
    [fork-tidy]="the same, and the branch that lost is deleted by its Via branch"
    [serial]="one phone is busy, the next one answers"
    [ipv6]="the caller has IPv4, the callee IPv6"
    [networks]="caller and callee are in networks of their own, by two logical interfaces"
    [websocket]="Kamailio asks Penstock over a WebSocket"
)

lane_hold() { holds sendonly recvonly "IN IP4 ${PHONE[alice]}" whole; }
lane_hold_inactive() { holds inactive inactive "IN IP4 ${PHONE[alice]}" held; }
lane_hold_zero() { holds sendrecv sendrecv "IN IP4 0.0.0.0" whole; }

# holds DIRECTION ANSWER CONNECTION CALLER: Alice holds Bob; CALLER is what he must hear of her.
holds() {
    stage alice bob
    callee bob held -key answer "$2"
    caller hold bob bob -key direction "$1" -key connection "$3" -d 2000
    hears alice bob "$4"
    hears bob alice held
}

lane_cancel() {
    stage alice bob
    callee bob ring
    caller cancel bob bob -d 1500
}

lane_cancel_early() {
    stage alice bob
    callee bob early
    caller cancel bob bob -d 2000
    hears bob alice early
}

lane_busy() { refused busy; }
lane_decline() { refused decline; }

# refused SCENARIO: Bob refuses as that one does.
refused() {
    stage alice bob
    callee bob "$1"
    caller rejected bob bob
}

lane_fork() { forks fork; }
lane_fork_tidy() { forks fork-tidy; }

# forks USER: calling USER rings Bob and Carol, and she answers.
forks() {
    stage alice bob carol
    callee bob early
    callee carol bob -d 1500
    caller alice "$1" bob -d 4000
    hears bob alice early
    hears carol alice whole
    hears alice carol whole
}

lane_serial() {
    stage alice bob carol
    callee bob busy
    callee carol bob
    caller alice serial bob -d 4000
    hears carol alice whole
    hears alice carol whole
}

lane_ipv6() {
    stage alice bob6
    callee bob6 bob
    caller alice ipv6 bob6 -d 4000
    hears alice bob6 whole
    hears bob6 alice whole
}

lane_networks() {
    stage alice dave
    callee dave bob
    caller alice networks dave -d 4000
    hears alice dave whole
    hears dave alice whole
}

lane_websocket() {
    stage alice bob
    callee bob bob
    caller alice websocket bob -d 4000
    hears alice bob whole
    hears bob alice whole
}

# stage WHO...: the phones' voices, and captures of what they and Kamailio say.
stage() {
    local who names=()
    for who; do
        cast+=("$who")
        names+=("${who%6}")
        expected+=(--phone "$who=${PHONE[$who]}")
    done
    python3 "$ROOT/scripts/sipp/voice.py" "$round" 1 "$seconds" "${names[@]}"
    capture hub lo "udp port 2223 or tcp port 2225"
    for who in "${names[@]}"; do capture "$who"; done
    captures_run hub "${names[@]}"
}

# callee WHO SCENARIO OPTIONS...
callee() {
    local who=$1 scenario=$2
    shift 2
    phone "$who" "$scenario" 0 "$@" &
    actors+=($!)
    lab_until 10 listening "${who%6}" 6000 1 || env_fail "$(tail -n 1 "$round/${who%6}-0/phone.log")"
}

# caller SCENARIO USER WHO OPTIONS...: Alice calls USER at the phone of WHO.
caller() {
    local scenario=$1 user=$2 host=${PHONE[$3]}
    shift 3
    [[ $host == *:* ]] && host="[$host]"
    phone alice "$scenario" 0 -key target "$user@$host:6000" "$@" "$proxy:5060" &
    actors+=($!)
}

hears() { expected+=(--hears "$1,$2,$3"); }

# What there is of calls, streams and ports in use.
left() {
    local calls streams ports
    calls=$(penstock calls --json | jq length) && streams=$(penstock streams --json | jq length) &&
        ports=$(penstock status --json | jq '[.. | objects | .used? // empty] | add') &&
        echo "$calls $streams $ports"
}

# shellcheck disable=SC2317 # called by lab_until
nothing_left() { [[ $(left) == "0 0 0" ]]; }

proxy_errors() { grep -cE 'ERROR|CRITICAL' "$LAB_DIR/kamailio.log" || true; }

# run_lane NAME: one lane, up to the captures in LAB_DIR/lane-NAME; `judge_lane` is then on its way, as `judging`.
run_lane() {
    local who pid failed=0 errors
    local cast=() actors=() expected=()
    round=$LAB_DIR/lane-$1
    mkdir "$round"
    errors=$(proxy_errors)
    "lane_${1//-/_}"
    lab_until $((seconds + 35)) over "${actors[@]}" || kill "${actors[@]}" 2>/dev/null || true
    for pid in "${actors[@]}"; do wait "$pid" || failed=$((failed + 1)); done
    lab_until 5 nothing_left || true
    for who in hub "${cast[@]}"; do capture_over "${who%6}"; done
    expected+=(--failed $failed --errors $(($(proxy_errors) - errors)) --left "$(left)")
    judged
    judge_lane "$1" &
    judging=$!
}

# judged: what was on its way has arrived.
judged() {
    [[ -z $judging ]] || wait "$judging" || exit 2
    judging=
}

# judge_lane NAME: its row, and LAB_DIR/lane-NAME/result.json.
judge_lane() {
    local who
    for who in hub "${cast[@]}"; do
        extract_lane "${who%6}" 2>"$round/tshark.log" || env_fail "tshark: $(tail -n 1 "$round/tshark.log")"
    done
    python3 "$ROOT/scripts/sipp/lane.py" "$round" "$1" --seconds "$seconds" "${expected[@]}" || (($? == 1)) ||
        env_fail "the report of lane $1 could not be made"
}

# extract_lane NAME: what lane.py needs of a capture, one line a packet.
extract_lane() {
    if [[ $1 == hub ]]; then
        tshark -r "$round/hub.pcap" -Y "udp.length > 8 || tcp.len > 0" -T fields -e tcp.stream \
            -e udp.dstport -e udp.payload -e tcp.dstport -e tcp.payload >"$round/hub.ng"
        return
    fi
    tshark -r "$round/$1.pcap" -d udp.port==20000-20003,rtp -Y "rtp || sip" -T fields -E occurrence=f \
        -e frame.time_epoch -e ip.src -e ipv6.src -e rtp.seq -e rtp.timestamp -e rtp.payload \
        -e sip.Call-ID -e sip.Method -e sip.Status-Code -e sip.CSeq -e sip.from.tag -e sip.to.tag \
        -e sdp.connection_info.address -e sdp.media.port -e sip.Via -e _ws.malformed >"$round/$1.packets"
}

# run_lanes NAME...: each in turn, their files in `results`; false if one failed.
run_lanes() {
    local name judging='' seconds=3
    results=()
    python3 "$ROOT/scripts/sipp/lane.py" --head
    for name; do
        run_lane "$name"
        results+=("$LAB_DIR/lane-$name/result.json")
    done
    judged
    jq -se 'all(.verdict == "ok")' "${results[@]}" >/dev/null
}
