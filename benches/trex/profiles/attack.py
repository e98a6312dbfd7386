"""What strangers send beside the calls, a third each: RTP to ports that no call has, RTP from elsewhere to the
calls' ports, and packets that are no RTP from the calls' own addresses to their ports."""

import calls

# Whom strangers pretend to be: more addresses than the plane's limit for floods notices.
STRANGERS, STRANGERS_COUNT = "100.64.0.1", 4096
# First octets of what is no RTP: STUN, DTLS, a TURN channel (RFC 7983), and nothing that is known. ZRTP may share the
# port of a plain call.
FIRST_OCTETS = [0x00, 0x16, 0x40, 0x60, 0xFF]


def unknown_ports(flows):
    """The largest range of ports at which no flow ends, nor its RTCP."""
    used = sorted({port + rtcp for _, _, _, port in flows for rtcp in (0, 1)})
    gaps = [(after - before - 1, before + 1) for before, after in zip([1023] + used, used + [65536])]
    count, first = max(gaps)
    if count < 2:
        raise ValueError("the calls have every port: none is left to be unknown")
    return first, first + count - 1


def strangers(api):
    first = calls.number(STRANGERS)
    return calls.walk(api, "stranger", first, first + STRANGERS_COUNT - 1, 4)


def streams(api, flows, direction, codec, rate):
    """One direction of it: `rate` packets a second in all."""
    write = lambda name, at: api.STLVmWrFlowVar(fv_name=name, pkt_offset=at)
    fix = api.STLVmFixIpv4(offset=14)
    talk = calls.packet(flows[0], calls.rtp(flows[0], codec, complements=False), udp_sum=False)
    noise = calls.packet(flows[0], b"\xff" * (12 + codec.octets), udp_sum=False)
    ports = unknown_ports(flows)
    targets = calls.pick(api, "target", [calls.target(flow) for flow in flows], 8)
    mix = {
        "unknown-port": (talk, [strangers(api), calls.walk(api, "port", *ports, 2), write("stranger", calls.SOURCE), write("port", calls.UDP + 2), fix]),
        "wrong-source": (talk, [strangers(api), targets, write("stranger", calls.SOURCE), write("target", calls.TARGET), fix]),
        "not-rtp": (
            noise,
            [
                calls.walk(api, "source", *calls.sources(flows), 4),
                targets,
                calls.pick(api, "octet", FIRST_OCTETS, 1),
                write("source", calls.SOURCE),
                write("target", calls.TARGET),
                write("octet", calls.UDP + 8),
                fix,
            ],
        ),
    }
    made = []
    for kind, (frame, instructions) in mix.items():
        stats = api.STLFlowStats(pg_id=calls.group(kind, direction))
        # A call's own packet comes first: before it, a stranger's would count as one more to learn from.
        made.append(calls.stream(api, frame, instructions, rate / len(mix), stats, delay_us=1e6))
    return made


class Attack:
    def get_streams(self, direction=0, tunables=(), **_):
        import argparse

        import trex.stl.api as api

        parser = argparse.ArgumentParser(description="What strangers send beside the calls of a table.")
        parser.add_argument("--table", required=True, help="the flows, as benches/trex/run writes them with --keep")
        parser.add_argument("--codec", choices=["g711", "g729"], default="g711")
        parser.add_argument("--rate", type=float, default=1000, help="packets a second each way")
        args = parser.parse_args(list(tunables))
        codec = calls.G711 if args.codec == "g711" else calls.G729
        return streams(api, calls.load(args.table)[direction], direction, codec, args.rate)


def register():
    return Attack()
