"""Calls over rtpengine's ng protocol, in its JSON encoding: what the runner needs of it."""

import ipaddress
import itertools
import json
import socket

# How long control may take for one answer, and what a client waits before it asks again.
PATIENCE_S, AGAIN_S = 10, 1


class Refused(Exception):
    """Control answered, but not what was asked for; or it did not answer at all."""


class Ng:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            raise Refused(f"{address} is no address: write HOST:PORT")
        self.address = address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(AGAIN_S)
        try:
            self.socket.connect((host, int(port)))
        except OSError as error:
            raise Refused(f"{address}: {error}") from error
        self.cookies = itertools.count()

    def ask(self, **request):
        """The answer to a request, which is repeated until it comes: control answers a repeated one alike."""
        cookie = b"trex%d" % next(self.cookies)
        for _ in range(PATIENCE_S // AGAIN_S):
            try:
                self.socket.send(cookie + b" " + json.dumps(request).encode())
                while True:
                    got, _, answer = self.socket.recv(65536).partition(b" ")
                    if got == cookie:
                        return self.judge(request, json.loads(answer))
            except ConnectionRefusedError as error:
                raise Refused(f"nobody answers ng at {self.address}") from error
            except socket.timeout:
                pass
        raise Refused(f"nobody answers ng at {self.address}")

    @staticmethod
    def judge(request, answer):
        if answer.get("result") not in ("ok", "pong"):
            reason = answer.get("error-reason", answer.get("result"))
            raise Refused(f"control refused {request['command']} of call {request.get('call-id')}: {reason}")
        return answer

    def place(self, call, caller, callee, payload_type, interfaces):
        """Sets a call up. Returns where the caller has to send and where the callee has to: (address, port) each."""
        common = {"call-id": call, "from-tag": "caller", "replace": ["origin"], "ICE": "remove"}
        offer = self.ask(command="offer", sdp=sdp(caller, payload_type), direction=interfaces, **common)
        answer = self.ask(command="answer", sdp=sdp(callee, payload_type), **{"to-tag": "callee"}, **common)
        return media(answer["sdp"]), media(offer["sdp"])

    def end(self, call):
        self.ask(command="delete", **{"call-id": call, "from-tag": "caller"})


NAMES = {0: "PCMU/8000", 18: "G729/8000"}


def sdp(remote, payload_type):
    address, port = remote
    return (
        f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {NAMES[payload_type]}\r\n"
    )


def media(text):
    """The address and port of the first m= line."""
    address = port = None
    for line in text.splitlines():
        if line.startswith("c=IN IP4 "):
            address = line[9:].strip()
        elif line.startswith("m=audio ") and port is None:
            port = int(line.split()[1])
    if address is None or port is None:
        raise Refused(f"control's SDP has no IPv4 address and port: {text!r}")
    return str(ipaddress.IPv4Address(address)), port


def place_calls(ng, count, prefix, first, port, payload_type, interfaces):
    """N calls. Callers and callees have addresses of their own, which follow each other from `first`'s two on, and one
    port. Returns the flows of both directions, as the profiles take them."""
    flows = ([], [])
    begins = [ipaddress.IPv4Address(address) for address in first]
    for idx in range(count):
        parties = [(str(begin + idx), port) for begin in begins]
        local = ng.place(f"{prefix}{idx}", *parties, payload_type, interfaces)
        for side in (0, 1):
            flows[side].append([*parties[side], *local[side]])
    return flows
