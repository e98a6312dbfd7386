#!/usr/bin/env python3
"""The profiles' packets, made by a small model of TRex's field engine: without a TRex, within a second.

What is held: each flow has its addresses and ports, its sequence number advances by one and its time stamp by a
packet's time, both wrap, and every checksum is right.
"""

import ast
import os
import struct
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "profiles")]

import attack
import calls
import generator
import lab
import ng


class Variable:
    """STLVmFlowVar. The first packet has the first value, and counts as a round begun: the follower moves too, to its first."""

    def __init__(self, name, init_value=None, min_value=0, max_value=255, size=4, step=1, op="inc", value_list=None, split_to_cores=True, next_var=None):
        assert not split_to_cores and op in ("inc", "dec")
        self.name, self.size, self.follower = name, size, next_var
        if value_list is None:
            # TRex pads such a range, to what may not fit into the variable.
            assert (max_value - min_value + 1) % step == 0, name
            assert min_value <= init_value <= max_value, name
            self.low, self.count = min_value, max_value - min_value + 1
            self.way = step if op == "inc" else -step
            self.at = (init_value - min_value - self.way) % self.count
            self.values = None
        else:
            # With one value TRex's step is 0, and nothing ever comes round.
            assert len(value_list) > 1 and step == 1 and op == "inc"
            self.values, self.count, self.way, self.at = value_list, len(value_list), 1, len(value_list) - 1

    def advance(self):
        """Whether it came round."""
        unwrapped = self.at + self.way
        self.at = unwrapped % self.count
        return self.at != unwrapped

    def octets(self):
        value = self.low + self.at if self.values is None else self.values[self.at]
        return value.to_bytes(self.size, "big")


class Model:
    """As much of trex.stl.api as the profiles use; a stream is what it is made of."""

    STLVmFlowVar = Variable
    STLVmWrFlowVar = STLVmFixIpv4 = STLFlowStats = STLFlowLatencyStats = STLTXCont = staticmethod(lambda **given: given)
    STLScVmRaw = staticmethod(list)
    STLPktBuilder = STLStream = staticmethod(lambda **given: given)


def run(stream, count):
    """The first packets of a stream."""
    frame, instructions = bytearray(stream["packet"]["pkt_buffer"]), stream["packet"]["vm"]
    variables = {v.name: v for v in instructions if isinstance(v, Variable)}
    for variable, behind in zip(instructions, instructions[1:]):
        if isinstance(variable, Variable) and variable.follower:
            assert isinstance(behind, Variable) and behind.name == variable.follower
    for _ in range(count):
        moves = True
        follower = None
        for instruction in instructions:
            if isinstance(instruction, Variable):
                if instruction.name != follower or moves:
                    moves = instruction.advance()
                follower = instruction.follower
            elif "fv_name" in instruction:
                value = variables[instruction["fv_name"]].octets()
                at = instruction["pkt_offset"]
                frame[at : at + len(value)] = value
            else:
                frame[24:26] = b"\0\0"
                frame[24:26] = struct.pack("!H", calls.checksum(bytes(frame[14:34])))
        yield bytes(frame)


def flows(count, first=0):
    """Ports in an order as after a wrap of the relay's range."""
    ports = [16384 + 2 * ((count // 3 + idx) % count) for idx in range(count)]
    return [[str(calls.ipaddress.IPv4Address("10.0.254.250") + first + idx), 4000, "198.18.0.1", port] for idx, port in enumerate(ports)]


def sums(frame):
    """What is left of the IP header's and the UDP checksum: 0 if they are right."""
    length = struct.unpack_from("!H", frame, calls.UDP + 4)[0]
    pseudo = frame[26:34] + struct.pack("!HH", 17, length)
    return calls.checksum(frame[14:34]), calls.checksum(pseudo + frame[calls.UDP :])


class Packets(unittest.TestCase):
    def rounds(self, codec, count, rounds, cores=1):
        """Every flow's packets, for all carried flows."""
        table = flows(count)
        streams = calls.streams(Model, table, 0, codec, 50 * count, cores)
        self.assertEqual(sum(s["mode"]["pps"] for s in streams), 50 * count)
        shares = calls.shares(table, cores)
        self.assertEqual([flow for share in shares for flow in share], table[:-1])
        self.assertEqual(len(streams), len(shares) + 1)
        for share, stream in zip(shares, streams):
            self.assertAlmostEqual(stream["mode"]["pps"], 50 * len(share))
            for number, frame in enumerate(run(stream, rounds * len(share))):
                yield share[number % len(share)], number // len(share), frame

    def check(self, codec, count, rounds, cores=1):
        for flow, round_idx, frame in self.rounds(codec, count, rounds, cores):
            self.assertEqual(len(frame), codec.frame())
            source, to = struct.unpack_from("!IQ", frame, calls.SOURCE)
            self.assertEqual((source, to), (calls.number(flow[0]), calls.target(flow)))
            first, kind, seq, stamp, ssrc = struct.unpack_from("!BBHII", frame, 42)
            self.assertEqual((first, kind), (0x80, codec.payload_type))
            self.assertEqual(seq, (calls.FIRST_SEQUENCE + round_idx) % 65536)
            self.assertEqual(stamp, calls.FIRST_TIME_STAMP + 160 * round_idx)
            self.assertEqual(ssrc, 2**32 - 1 - source)
            self.assertEqual(sums(frame), (0, 0))
            self.assertNotEqual(frame[calls.UDP_SUM : calls.UDP_SUM + 2], b"\0\0")

    def test_each_flow_advances_by_one_and_checksums_are_right(self):
        for codec in (calls.G711, calls.G729):
            for count in (3, 4, 17, 300):
                self.check(codec, count, 4)

    def test_sequence_numbers_wrap(self):
        self.check(calls.G729, 5, 300)

    def test_cores_share_the_calls(self):
        self.check(calls.G711, 50, 3, cores=4)
        self.assertEqual([len(share) for share in calls.shares(flows(4), 8)], [3])

    def test_frames_are_as_long_as_the_codec_says(self):
        self.assertEqual((calls.G711.frame(), calls.G729.frame()), (214, 74))

    def test_a_time_stamp_wraps_and_stays_the_complement_of_its_complement(self):
        last = 2**32 // 160 * 160 - 160
        up = calls.clock(Model, "up", last, 160, False, 4)
        down = calls.clock(Model, "down", last, 160, True, 4)
        seen = []
        for _ in range(4):
            up.advance()
            down.advance()
            seen.append(int.from_bytes(up.octets(), "big"))
            self.assertEqual(seen[-1] + int.from_bytes(down.octets(), "big"), 2**32 - 1)
        self.assertEqual(seen, [last, 0, 160, 320])

    def test_the_timed_call_has_no_udp_checksum_and_advances(self):
        table = flows(10)
        *_, stream = calls.streams(Model, table, 1, calls.G711, 500)
        self.assertEqual(stream["mode"]["pps"], 50)
        for number, frame in enumerate(run(stream, 200)):
            self.assertEqual(frame[calls.UDP_SUM : calls.UDP_SUM + 2], b"\0\0")
            self.assertEqual(struct.unpack_from("!HI", frame, calls.SEQUENCE), ((65_400 + number) % 65536, 160_000 + 160 * number))
            self.assertEqual(sums(frame)[0], 0)

    def test_sources_that_do_not_follow_each_other_are_refused(self):
        table = flows(5)
        table[2], table[3] = table[3], table[2]
        with self.assertRaises(ValueError):
            calls.streams(Model, table, 0, calls.G711, 250)

    def test_groups_do_not_meet(self):
        numbers = [calls.group(kind, direction) for kind in calls.GROUPS for direction in (0, 1)]
        numbers += [calls.group("calls", direction, core) for direction in (0, 1) for core in range(1, 64)]
        self.assertEqual(len(set(numbers)), len(numbers))


class Strangers(unittest.TestCase):
    def setUp(self):
        self.flows = flows(20)
        self.kinds = attack.streams(Model, self.flows, 0, calls.G711, 300)
        self.own = {(calls.number(flow[0]), calls.target(flow)) for flow in self.flows}

    def seen(self, kind, count=100):
        for frame in run(self.kinds[kind], count):
            self.assertEqual(sums(frame)[0], 0)
            yield struct.unpack_from("!IQ", frame, calls.SOURCE) + (frame[42],)

    def test_unknown_ports_are_no_calls(self):
        used = {flow[3] + rtcp for flow in self.flows for rtcp in (0, 1)}
        ports = [to & 0xFFFF for _, to, _ in self.seen(0, 70_000)]
        self.assertFalse(used & set(ports))
        self.assertGreater(len(set(ports)), 10_000)

    def test_wrong_sources_meet_every_call(self):
        seen = list(self.seen(1))
        self.assertEqual({to for _, to, _ in seen}, {to for _, to in self.own})
        self.assertFalse({source for source, _, _ in seen} & {source for source, _ in self.own})

    def test_what_is_no_rtp_comes_from_the_calls_themselves(self):
        seen = list(self.seen(2))
        self.assertEqual({(source, to) for source, to, _ in seen}, self.own)
        self.assertEqual({octet for _, _, octet in seen}, set(attack.FIRST_OCTETS))

    def test_there_have_to_be_unknown_ports(self):
        everywhere = [[None, 0, "198.18.0.1", port] for port in range(1024, 65536, 2)]
        with self.assertRaises(ValueError):
            attack.unknown_ports(everywhere)


class Around(unittest.TestCase):
    def test_penstock_takes_the_configuration(self):
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "../../target"))
        program = os.path.join(target, "debug/penstock")
        if not os.access(program, os.X_OK):
            self.skipTest(f"there is no {program}")
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(lab.configuration("/dev/shm/none", 1000, 1))
            file.flush()
            done = subprocess.run([program, "check", file.name], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_sdp_that_is_written_can_be_read(self):
        self.assertEqual(ng.media(ng.sdp(("192.0.2.7", 4000), 18)), ("192.0.2.7", 4000))
        with self.assertRaises(ng.Refused):
            ng.media("v=0\r\n")

    def test_one_cpu_is_shared_and_more_have_their_parts(self):
        pairs = [("198.18.0.2", "198.18.0.1"), ("198.18.0.6", "198.18.0.5")]
        self.assertIn("low_end_core: 3", generator.configuration(["a", "b"], pairs, [3]))
        self.assertIn("threads: [4, 6]", generator.configuration(["a", "b"], pairs, [0, 2, 4, 6]))

    def test_percentiles(self):
        histogram = {10: 50, 20: 48, 3000: 1, 9000: 1}
        found = [generator.percentile(histogram, percent) for percent in (0, 50, 51, 98, 99, 100)]
        self.assertEqual(found, [10, 10, 20, 20, 3000, 9000])
        self.assertEqual(generator.percentile({}, 50), 0)


class Files(unittest.TestCase):
    def test_every_program_is_python(self):
        for folder in (HERE, os.path.join(HERE, "profiles")):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                if name == "run" or name.endswith(".py"):
                    with open(path) as file:
                        ast.parse(file.read(), path)


if __name__ == "__main__":
    unittest.main()
