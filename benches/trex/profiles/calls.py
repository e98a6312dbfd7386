"""The media of N calls as a few TRex streams.

A table says who talks to whom: for each direction a list of flows [source, port, destination, port], one a
call. The destinations and both ports may be any (the relay chooses its ports over ng); the sources follow each
other, address by address, and never come twice.

One stream carries all flows of a direction (or of a TRex core's share of it) in turn, one packet each. Its
variables are four that step with every packet, and four that step when one of those comes round:

    source     a, a+1, ... a+n-1     goes to the IP header              then  sequence +1
    ~source    its complement        is the SSRC                        then  ~sequence -1
    target     a list                destination address, both ports    then  time stamp +160
    ~target    its complements       lies in the payload                then  ~time stamp -160

So each SSRC's sequence number advances by 1 and its time stamp by a packet's time. And for each octet that
varies another one is its complement, 16 bits with 16 bits: their sum is all ones, which a UDP checksum does not
notice. It is the same for every packet, right and not zero, whether or not a NIC computes checksums.

One call more has a stream of its own, with TRex's time stamp at the end of the payload. TRex writes that after
all else, so this one goes without a UDP checksum (zero, as IPv4 allows).
"""

import ipaddress
import json
import struct

# Where things lie in a frame: Ethernet, IPv4, UDP, RTP, payload.
SOURCE, TARGET = 26, 30  # address; address, port and port
UDP, SEQUENCE, TIME_STAMP, SSRC, PAYLOAD = 34, 44, 46, 50, 54
UDP_SUM = UDP + 6
# In the payload: the complements.
NOT_TARGET, NOT_SEQUENCE, NOT_TIME_STAMP = PAYLOAD, PAYLOAD + 8, PAYLOAD + 10

# The first packet of a flow has these. Sequence numbers wrap after some seconds.
FIRST_SEQUENCE, FIRST_TIME_STAMP = 65_400, 160_000

# Groups by which TRex counts what it sent: one of each kind a direction; `calls` has one a core, from there on.
GROUPS = {"timed": 10, "unknown-port": 20, "wrong-source": 30, "not-rtp": 40, "calls": 1000}


def group(kind, direction, core=0):
    """TRex's number for packets of a kind, from one side, of one core."""
    return GROUPS[kind] + direction * (500 if kind == "calls" else 1) + core


class Codec:
    """What goes out every `ms`: a payload type, octets, and how far the time stamp moves."""

    def __init__(self, payload_type, octets, ms=20, clock=8000):
        self.payload_type, self.octets, self.ms = payload_type, octets, ms
        self.step = clock * ms // 1000

    def frame(self):
        """Octets of a frame, without its check sequence."""
        return PAYLOAD + self.octets


G711 = Codec(payload_type=0, octets=160)
G729 = Codec(payload_type=18, octets=20)


def load(path):
    """The table: a list of flows for each direction."""
    with open(path) as file:
        table = json.load(file)
    return [table["a"], table["b"]]


def number(address):
    return int(ipaddress.IPv4Address(address))


def target(flow):
    """Destination address, source port and destination port: they lie side by side in a packet."""
    _, source_port, destination, port = flow
    return number(destination) << 32 | source_port << 16 | port


def shares(flows, cores):
    """The calls' flows, all but the last, for each core: parts of equal size, of two or more."""
    carried = flows[:-1]
    cores = max(1, min(cores, len(carried) // 2))
    ends = [len(carried) * core // cores for core in range(cores + 1)]
    return [carried[begin:end] for begin, end in zip(ends, ends[1:])]


def checksum(data):
    """RFC 1071, of an even number of octets."""
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(flow, payload, udp_sum):
    """A frame of a flow. TRex fills in the MACs."""
    addresses = struct.pack("!IQ", number(flow[0]), target(flow))  # the ports with them
    length = 8 + len(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0xB8, 20 + length, 0, 0x4000, 64, 17, 0) + addresses[:8]
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    udp = addresses[8:] + struct.pack("!HH", length, 0)
    if udp_sum:
        pseudo = addresses[:8] + struct.pack("!HH", 17, length)
        udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp + payload) or 0xFFFF)
    return bytes(12) + b"\x08\x00" + ip + udp + payload


def rtp(flow, codec, complements):
    """An RTP packet: the first of its flow."""
    head = struct.pack("!BBHII", 0x80, codec.payload_type, FIRST_SEQUENCE, FIRST_TIME_STAMP, ~number(flow[0]) & 0xFFFFFFFF)
    payload = b""
    if complements:
        values = (target(flow), FIRST_SEQUENCE, FIRST_TIME_STAMP)
        payload = struct.pack("!QHI", *(~value & mask for value, mask in zip(values, (2**64 - 1, 2**16 - 1, 2**32 - 1))))
    return head + payload.ljust(codec.octets, b"\xd5")


def walk(api, name, first, last, size, then=None):
    """A variable from `first` to `last`, up or down, over and over."""
    return api.STLVmFlowVar(
        name,
        init_value=first,
        min_value=min(first, last),
        max_value=max(first, last),
        size=size,
        op="inc" if first <= last else "dec",
        split_to_cores=False,
        next_var=then,
    )


def clock(api, name, first, step, down, size):
    """A counter of `size` octets that wraps, up or down: steps have to fit, so a time stamp wraps some seconds early."""
    count = 256**size // step * step
    low = 256**size - count if down else 0
    return api.STLVmFlowVar(
        name,
        init_value=~first & (256**size - 1) if down else first,
        min_value=low,
        max_value=low + count - 1,
        size=size,
        step=step,
        op="dec" if down else "inc",
        split_to_cores=False,
    )


def pick(api, name, values, size, op="inc", then=None):
    """A variable that takes each value of a list."""
    return api.STLVmFlowVar(name, value_list=values, size=size, op=op, split_to_cores=False, next_var=then)


def sources(flows):
    """The first and the last source, having seen that they follow each other."""
    first = number(flows[0][0])
    if [number(flow[0]) for flow in flows] != list(range(first, first + len(flows))):
        raise ValueError("the sources of the calls do not follow each other")
    return first, first + len(flows) - 1


def program(api, flows, codec):
    """The field engine's: see above. A variable's follower has to stand right behind it."""
    first, last = sources(flows)
    targets = [target(flow) for flow in flows]
    write = lambda name, at: api.STLVmWrFlowVar(fv_name=name, pkt_offset=at)
    return [
        walk(api, "source", first, last, 4, then="sequence"),
        clock(api, "sequence", FIRST_SEQUENCE, 1, False, 2),
        walk(api, "not_source", ~first & 0xFFFFFFFF, ~last & 0xFFFFFFFF, 4, then="not_sequence"),
        clock(api, "not_sequence", FIRST_SEQUENCE, 1, True, 2),
        pick(api, "target", targets, 8, then="time_stamp"),
        clock(api, "time_stamp", FIRST_TIME_STAMP, codec.step, False, 4),
        pick(api, "not_target", [~value & (2**64 - 1) for value in targets], 8, then="not_time_stamp"),
        clock(api, "not_time_stamp", FIRST_TIME_STAMP, codec.step, True, 4),
        write("source", SOURCE),
        write("not_source", SSRC),
        write("target", TARGET),
        write("not_target", NOT_TARGET),
        write("sequence", SEQUENCE),
        write("not_sequence", NOT_SEQUENCE),
        write("time_stamp", TIME_STAMP),
        write("not_time_stamp", NOT_TIME_STAMP),
        api.STLVmFixIpv4(offset=14),
    ]


def timed_program(api, codec):
    """For the one call that is timed: only its RTP header changes."""
    return [
        clock(api, "sequence", FIRST_SEQUENCE, 1, False, 2),
        clock(api, "time_stamp", FIRST_TIME_STAMP, codec.step, False, 4),
        api.STLVmWrFlowVar(fv_name="sequence", pkt_offset=SEQUENCE),
        api.STLVmWrFlowVar(fv_name="time_stamp", pkt_offset=TIME_STAMP),
    ]


def stream(api, frame, instructions, pps, stats, core=-1, delay_us=0.0):
    builder = api.STLPktBuilder(pkt_buffer=frame, vm=api.STLScVmRaw(instructions))
    return api.STLStream(packet=builder, mode=api.STLTXCont(pps=pps), flow_stats=stats, core_id=core, isg=delay_us)


def streams(api, flows, direction, codec, rate, cores=1):
    """One direction of all calls: `rate` packets a second in all, each call at the same rate."""
    each = rate / len(flows)
    made = []
    for core, share in enumerate(shares(flows, cores)):
        frame = packet(share[0], rtp(share[0], codec, complements=True), udp_sum=True)
        stats = api.STLFlowStats(pg_id=group("calls", direction, core))
        made.append(stream(api, frame, program(api, share, codec), each * len(share), stats, core))
    frame = packet(flows[-1], rtp(flows[-1], codec, complements=False), udp_sum=False)
    stats = api.STLFlowLatencyStats(pg_id=group("timed", direction))
    made.append(stream(api, frame, timed_program(api, codec), each, stats))
    return made


class Profile:
    """What TRex's client asks of a profile, for one codec."""

    codec = G711

    def get_streams(self, direction=0, tunables=(), **_):
        import argparse

        import trex.stl.api as api

        parser = argparse.ArgumentParser(description="Calls that stand at a relay, both directions at their rate.")
        parser.add_argument("--table", required=True, help="the flows, as benches/trex/run writes them with --keep")
        parser.add_argument("--rate", type=float, help="packets a second each way (default: 50 a call)")
        parser.add_argument("--cores", type=int, default=1, help="TRex cores that share a direction")
        args = parser.parse_args(list(tunables))
        flows = load(args.table)[direction]
        rate = args.rate or len(flows) * 1000 / self.codec.ms
        return streams(api, flows, direction, self.codec, rate, args.cores)
