"""G.729: 20 octets every 20 ms, frames of 74 octets."""

from calls import G729, Profile


class Calls(Profile):
    codec = G729


def register():
    return Calls()
