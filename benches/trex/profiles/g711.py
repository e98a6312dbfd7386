"""G.711: 160 octets every 20 ms, frames of 214 octets."""

from calls import G711, Profile


class Calls(Profile):
    codec = G711


def register():
    return Calls()
