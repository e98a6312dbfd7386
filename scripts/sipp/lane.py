#!/usr/bin/env python3
"""lane.py DIR LANE OPTIONS: what came of one lane. lane.py --head: the heading of the rows.

Reads DIR/<phone>.packets, fields that tshark took from the captures at the phones, and DIR/hub.ng, what Kamailio
and Penstock said to each other. Prints the lane's row, with a sentence below if something did not hold, writes
DIR/result.json, and exits 0 if all held, 1 otherwise.

What one phone must hear of another (--hears A,B,HOW):
  whole   every packet
  held    every packet but those sent on hold; of those sent between the answer to the hold and the offer that
          resumes none may arrive, while either is on its way it may go either way
  early   every packet sent between the 183 and the end of the early media: the CANCEL, or someone's answer
          (what was sent in the last moment before is on its way when the call is gone)
Nobody may hear anything else.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

PACKETS_PER_SECOND = 50
# How long a packet may be on its way when a call ends, in seconds.
ON_ITS_WAY = 0.02
NG_PORTS = {"2223", "2225"}
# The plane's address in each network.
PLANE = {"198.18.0.0/24": "198.18.0.1", "198.18.1.0/24": "198.18.1.1", "2001:db8:18::/64": "2001:db8:18::1"}
COLUMNS = ("calls", "sent", "received", "lost", "withheld", "streams", "ports")


@dataclass
class Sip:
    """A SIP message at a phone; `method` is that of CSeq."""

    phone: str
    time: float
    is_sent: bool
    call: str
    method: str
    status: int
    cseq: int
    # The tag of who wrote it.
    tag: str
    address: str
    port: str


@dataclass
class Phone:
    """What a phone sent and received: RTP by (sequence number, timestamp, payload), with its times."""

    sent: dict = field(default_factory=dict)
    received: Counter = field(default_factory=Counter)


class Broken(Exception):
    """Something did not hold."""


def read_phone(directory, name, address, messages):
    phone = Phone()
    for line in (directory / f"{name.rstrip('6')}.packets").open():
        time, ip4, ip6, seq, stamp, payload, *sip = line.rstrip("\n").split("\t")
        call, request, status, cseq, from_tag, to_tag, connection, port, via, malformed = sip
        is_sent = address in (ip4, ip6)
        if malformed or (call and not via):
            raise Broken(f"a malformed message at {name}, {time}")
        if call:
            number, method = cseq.split()
            tag = from_tag if request else to_tag
            messages.append(
                Sip(name, float(time), is_sent, call, method, int(status or 0), int(number), tag, connection, port)
            )
        elif is_sent:
            phone.sent[seq, stamp, payload] = float(time)
        else:
            phone.received[seq, stamp, payload] += 1
    return phone


def first(messages, what, **wanted):
    """The time of the first message like that."""
    for message in messages:
        if all(getattr(message, key) == value for key, value in wanted.items()):
            return message.time
    raise Broken(f"{what} is missing")


def windows(messages, sender, receiver, how):
    """When what `sender` says has to arrive, as (from, to), and when it must not."""
    if how == "whole":
        return [(0, float("inf"))], []
    if how == "early":
        start = first(messages, "the 183", phone=receiver, status=183)
        ends = [m.time for m in messages if m.method == "CANCEL" and m.is_sent and not m.status]
        ends += [m.time for m in messages if m.method == "INVITE" and m.status == 200]
        return [(start, min(ends, default=float("inf")) - ON_ITS_WAY)], []
    caller = next(m.phone for m in messages if m.is_sent and m.method == "INVITE" and not m.status)
    at = {
        (cseq, status): first(messages, f"INVITE {cseq} or its answer", phone=caller, method="INVITE", cseq=cseq, status=status)
        for cseq in (2, 3)
        for status in (0, 200)
    }
    return [(0, at[2, 0]), (at[3, 200], float("inf"))], [(at[2, 200], at[3, 0])]


def among(times, spans):
    return {packet for packet, time in times.items() if any(start < time < end for start, end in spans)}


def check_media(phones, messages, hears, seconds, row):
    """Every packet of those that have to arrive, and no other."""
    heard = {name: set() for name in phones}
    for sender, receiver, how in hears:
        sent, received = phones[sender].sent, phones[receiver].received
        due, kept = (among(sent, spans) for spans in windows(messages, sender, receiver, how))
        row["sent"] += len(due)
        row["received"] += len(due & received.keys())
        row["withheld"] += len(kept)
        heard[receiver] |= sent.keys() - kept
        least = seconds * PACKETS_PER_SECOND if how == "whole" else PACKETS_PER_SECOND
        if len(due) < least:
            yield f"{sender} sent {len(due)} packets of {least} to {receiver}"
        if lost := sorted(sent[packet] for packet in due - received.keys()):
            yield f"{len(lost)} packets from {sender} to {receiver} lost, the first one sent at {lost[0]:.6f}"
        if leaked := len(kept & received.keys()):
            yield f"{leaked} packets of {sender} reached {receiver} on hold"
    row["lost"] = row["sent"] - row["received"]
    for name, phone in phones.items():
        if astray := sum(count for packet, count in phone.received.items() if packet not in heard[name]):
            yield f"{astray} packets at {name} that were not for it"
        if doubled := sum(count - 1 for count in phone.received.values()):
            yield f"{doubled} packets at {name} came twice"


def check_sdp(messages, addresses):
    """What a phone is told is the plane's address on its side, and a port that stays."""
    zero = {(m.call, m.cseq) for m in messages if m.is_sent and m.address == "0.0.0.0"}
    ports = {}
    for m in messages:
        if m.is_sent or not m.address:
            continue
        network = next(net for net in PLANE if ip_address(addresses[m.phone]) in ip_network(net))
        # An offer that holds as of old says so to the other phone as well.
        expected = "0.0.0.0" if (m.call, m.cseq) in zero and not m.status else PLANE[network]
        if m.address != expected:
            yield f"{m.phone} was told {m.address}, not {expected}"
        if ports.setdefault((m.phone, m.call, m.tag), m.port) != m.port:
            yield f"{m.phone}'s port changed from {ports[m.phone, m.call, m.tag]} to {m.port}"


def bdecode(data, at=0):
    """A bencoded value, and where it ends."""
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in b"ld":
        items, at = [], at + 1
        while data[at : at + 1] != b"e":
            item, at = bdecode(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end], end


def frames(stream):
    """The messages of one way of a WebSocket (RFC 6455 section 5.2), from after its handshake."""
    if stream.startswith((b"GET ", b"HTTP/")):
        stream = stream.split(b"\r\n\r\n", 1)[1]
    while len(stream) > 1:
        opcode, is_masked, length, at = stream[0] & 15, stream[1] & 128, stream[1] & 127, 2
        if length > 125:
            at = 4 if length == 126 else 10
            length = int.from_bytes(stream[2:at])
        mask = stream[at : at + 4] if is_masked else bytes(4)
        at += len(mask) if is_masked else 0
        if opcode in (1, 2):
            yield bytes(byte ^ mask[n % 4] for n, byte in enumerate(stream[at : at + length]))
        stream = stream[at + length :]


def ng_messages(directory):
    """Whether it is a request, and its bytes; those of a WebSocket last, requests first."""
    streams = {}
    for line in (directory / "hub.ng").open():
        stream, udp_port, datagram, tcp_port, segment = line.rstrip("\n").split("\t")
        if stream:
            way = tcp_port not in NG_PORTS, stream
            streams[way] = streams.get(way, b"") + bytes.fromhex(segment)
        else:
            yield udp_port in NG_PORTS, bytes.fromhex(datagram)
    for is_reply, stream in sorted(streams):
        yield from ((not is_reply, message) for message in frames(streams[is_reply, stream]))


def check_ng(directory):
    """Every request was asked once and answered once, and by no error."""
    asked = {}
    for is_request, message in ng_messages(directory):
        cookie, body = message.split(b" ", 1)
        said, _ = bdecode(body)
        if is_request:
            if cookie in asked:
                yield f"Kamailio had to repeat {said[b'command'].decode()}"
            asked[cookie] = said[b"command"]
            continue
        if said[b"result"] not in (b"ok", b"pong"):
            yield f"{asked[cookie].decode()} was answered by: {said.get(b'error-reason', said[b'result']).decode()}"
        asked[cookie] = None
    if silent := [command.decode() for command in asked.values() if command]:
        yield f"no answer to {', '.join(silent)}"
    if not asked:
        yield "Kamailio asked nothing"


def judge(options, row):
    directory, messages = Path(options.directory), []
    addresses = dict(pair.split("=", 1) for pair in options.phone)
    phones = {name: read_phone(directory, name, address, messages) for name, address in addresses.items()}
    messages.sort(key=lambda message: message.time)
    row["calls"] = len({m.call for m in messages})
    if row["calls"] != 1:
        yield f"{row['calls']} calls were seen"
    hears = [way.split(",") for way in options.hears]
    yield from check_media(phones, messages, hears, options.seconds, row)
    yield from check_sdp(messages, addresses)
    yield from check_ng(directory)
    calls, row["streams"], row["ports"] = map(int, options.left.split())
    if calls or row["streams"] or row["ports"]:
        yield f"{calls} calls, {row['streams']} streams and {row['ports']} ports left over"


def complaints(options, row):
    try:
        yield from judge(options, row)
    except Broken as broken:
        yield str(broken)
    if options.errors:
        yield f"Kamailio logged {options.errors} errors"
    if options.failed:
        logs = sorted(Path(options.directory).glob("*/*_errors.log"))
        # The first line is a heading.
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()[1:2]]
        yield f"{options.failed} phones were not served as they should be: {lines[0] if lines else 'no word from them'}"


def main():
    if sys.argv[1:] == ["--head"]:
        print(f"{'lane':14}" + "".join(f"{name:>9}" for name in COLUMNS) + "  verdict")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("lane")
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--failed", type=int)
    parser.add_argument("--errors", type=int)
    parser.add_argument("--left", help="calls, streams and ports, once the call is over")
    parser.add_argument("--phone", action="append", help="NAME=ADDRESS")
    parser.add_argument("--hears", action="append", default=[])
    options = parser.parse_args()
    row = {"lane": options.lane, **dict.fromkeys(COLUMNS, 0)}
    failures = list(dict.fromkeys(complaints(options, row)))
    row["verdict"] = "failed" if failures else "ok"
    row["failures"] = failures
    print(f"{row['lane']:14}" + "".join(f"{row[name]:>9}" for name in COLUMNS) + f"  {row['verdict']}")
    for failure in failures:
        print(f"    {failure}")
    (Path(options.directory) / "result.json").write_text(json.dumps(row) + "\n")
    sys.exit(bool(failures))


main()
