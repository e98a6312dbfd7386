#!/usr/bin/env python3
"""voice.py DIR CALLS SECONDS PHONE...: what the phones say.

Writes DIR/<phone>-<call>/voice.ulaw, G.711 mu-law at 8 kHz. Alice's voice is a rising sweep, the others'
a falling one, in syllables; every phone adds quiet noise of its own, so that no two packets of a run are
alike and media that reaches the wrong phone shows. The same arguments give the same bytes.
"""

import math
import random
import sys
from pathlib import Path

RATE = 8000


def mulaw(sample):
    """ITU-T G.711, one 16-bit sample."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


def phrase(rising):
    """Four seconds between 300 and 3,000 Hz, four syllables a second."""
    length = 4 * RATE
    phase, out = 0.0, bytearray()
    for n in range(length):
        x = n / length if rising else 1 - n / length
        phase += 2 * math.pi * (300 + 2700 * x) / RATE
        loudness = 1000 + 11000 * abs(math.sin(4 * math.pi * n / RATE))
        out.append(mulaw(int(loudness * math.sin(phase))))
    return bytes(out)


def with_noise(voice, seed):
    """Flips the two lowest bits of each sample at random: noise just above the quantiser's own."""
    size = len(voice)
    mask = int.from_bytes(b"\x03" * size)
    noise = int.from_bytes(random.Random(seed).randbytes(size)) & mask
    return (int.from_bytes(voice) ^ noise).to_bytes(size)


def main():
    directory, calls, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for name in sys.argv[4:]:
        once = phrase(rising=name == "alice")
        voice = (once * (seconds // 4 + 1))[: seconds * RATE]
        for call in range(calls):
            phone = directory / f"{name}-{call}"
            phone.mkdir()
            (phone / "voice.ulaw").write_bytes(with_noise(voice, f"{name}-{call}"))


main()
