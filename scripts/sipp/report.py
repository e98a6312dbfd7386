#!/usr/bin/env python3
"""report.py DIR CALLS SECONDS: what became of every packet.

Reads DIR/{alice,bob}.rtp and .sip, fields that tshark took from the captures at the phones; .jitter, its
table of streams; and streams.json, the plane's own counters as `penstock streams --json` gave them while the
calls ran. Prints the report, writes the totals to DIR/result.json, and exits 0 if every packet sent by one
phone reached the other unchanged and once, 1 otherwise.
"""

import json
import statistics
import sys
from collections import Counter
from pathlib import Path

ADDRESS = {"alice": "198.18.0.10", "bob": "198.18.0.20"}
FIRST_PORT, PORTS_PER_PHONE = 20000, 4
PACKETS_PER_SECOND = 50


def rows(path):
    return (line.rstrip("\n").split("\t") for line in path.open())


def packets(directory, name):
    """The RTP packets that a phone sent and received, by call: (sequence number, timestamp, payload)."""
    sent, received = Counter(), Counter()
    for source, source_port, target, target_port, *packet in rows(directory / f"{name}.rtp"):
        if source == ADDRESS[name]:
            sent[(int(source_port) - FIRST_PORT) // PORTS_PER_PHONE, *packet] += 1
        elif target == ADDRESS[name]:
            received[(int(target_port) - FIRST_PORT) // PORTS_PER_PHONE, *packet] += 1
    return sent, received


def setup(directory):
    """How many calls were answered, and the median time between Alice's INVITE and her 200."""
    invited, times = {}, []
    for time, call, method, status, cseq in rows(directory / "alice.sip"):
        if method == "INVITE":
            invited.setdefault(call, float(time))
        elif status == "200" and cseq == "INVITE" and call in invited:
            times.append((float(time) - invited.pop(call)) * 1000)
    return len(times), round(statistics.median(times), 1) if times else None


def tshark_jitter(directory, name):
    """Mean and maximum in ms over the streams that a phone received."""
    table = [line.split() for line in (directory / f"{name}.jitter").open()]
    streams = [row for row in table if len(row) >= 17 and row[4] == ADDRESS[name]]
    if not streams:
        return None
    return statistics.mean(float(row[15]) for row in streams), max(float(row[16]) for row in streams)


def own_counters(directory):
    """Each stream as it was last seen."""
    last = {}
    for line in (directory / "streams.json").open():
        for stream in json.loads(line):
            if stream["kind"] == "rtp":
                last[stream["local"]] = stream
    return list(last.values())


def direction(directory, sender, receiver, streams):
    sent, _ = packets(directory, sender)
    _, received = packets(directory, receiver)
    ours = [s for s in streams if (s["remote"] or "").startswith(ADDRESS[sender] + ":")]
    lost = (sent - received).total()
    return {
        "name": f"{sender} to {receiver}",
        "sent": sent.total(),
        "relayed": sum(s["packets"] for s in ours),
        "received": (received & sent).total(),
        "lost": lost,
        # Whatever arrived that was not sent: altered, doubled, or another call's.
        "wrong": (received - sent).total(),
        "jitter": tshark_jitter(directory, receiver),
        "own_jitter": statistics.mean(s["jitter_ms"] for s in ours) if ours else None,
    }


def show(ways, answered, setup_ms):
    print(f"{'':14}{'sent':>9}{'relayed':>9}{'received':>9}{'lost':>7}{'wrong':>7}  jitter ms")
    for way in ways:
        print(f"{way['name']:14}" + "".join(f"{way[k]:>9}" for k in ("sent", "relayed", "received")), end="")
        print(f"{way['lost']:>7}{way['wrong']:>7}", end="  ")
        own = "-" if way["own_jitter"] is None else f"{way['own_jitter']:.2f}"
        mean, most = way["jitter"] or (0.0, 0.0)
        print(f"{mean:.2f} at the phone (at most {most:.2f}), {own} at the plane")
    print(f"setup time    {'-' if setup_ms is None else setup_ms} ms, the median of {answered} answered")


def main():
    directory, calls, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    streams = own_counters(directory)
    ways = [direction(directory, "alice", "bob", streams), direction(directory, "bob", "alice", streams)]
    answered, setup_ms = setup(directory)
    sent, received, lost, wrong = (sum(way[k] for way in ways) for k in ("sent", "received", "lost", "wrong"))
    show(ways, answered, setup_ms)

    result = {"calls": answered, "sent": sent, "received": received, "lost": lost, "setup_ms": setup_ms}
    (directory / "result.json").write_text(json.dumps(result) + "\n")

    expected = 2 * calls * seconds * PACKETS_PER_SECOND
    if lost or wrong:
        print(f"FAILED: {lost} packets lost, {wrong} changed, doubled or astray.")
    elif sent < expected:
        print(f"FAILED: {answered} of {calls} calls answered, {sent} of {expected} packets sent.")
    else:
        print(f"Nothing lost, nothing changed: {sent} packets of {calls} call{'s' * (calls > 1)}.")
    sys.exit(bool(lost or wrong or sent < expected))


main()
