"""Penstock in a network namespace of its own, two veth pairs between it and TRex, and what has to be ended again."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import time

CLONE_NEWNET = 0x40000000
NG = "127.0.0.1:2223"
# Of the plane and of TRex, on either side: a /30 each, with the phones behind TRex as their gateway.
PLANE, TREX, SIDES = ("198.18.0.1", "198.18.0.5"), ("198.18.0.2", "198.18.0.6"), "ab"
PLANE_MAC, TREX_MAC = "02:70:73:00:00:%02x", "02:74:72:00:00:%02x"
# Ports for calls. What is below them is for strangers to try.
FIRST_PORT = 10_000


class Missing(Exception):
    """The environment is at fault, not Penstock: one sentence."""


def command(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"there is no {program}")


class Process:
    """A program that runs beside this one. Leaving the block ends it, and all it started."""

    def __init__(self, name, words, log, **options):
        self.name, self.log = name, log
        with open(log, "wb") as output:
            self.popen = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Its process group is all that it started: a script's program may outlive the script.
        with contextlib.suppress(ProcessLookupError):
            for how in (signal.SIGTERM, signal.SIGKILL):
                os.killpg(self.popen.pid, how)
                end = time.monotonic() + 10
                while time.monotonic() < end:
                    self.popen.poll()
                    os.killpg(self.popen.pid, 0)
                    time.sleep(0.05)

    def wait(self, seconds, ready):
        """Until `ready()`, the sign that it can be used."""
        end = time.monotonic() + seconds
        while not ready():
            if self.popen.poll() is not None:
                raise Missing(f"{self.name} ended while starting: {self.last_words()}")
            if time.monotonic() > end:
                raise Missing(f"{self.name} was not ready within {seconds} seconds: {self.last_words()}")
            time.sleep(0.1)

    def last_words(self):
        with open(self.log, errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
        return " | ".join(lines[-5:]) or "it said nothing"


@contextlib.contextmanager
def namespace():
    """A network namespace that this process is in until the end of the block."""
    need("ip", "ethtool")
    if os.geteuid() != 0:
        raise Missing("must run as root: it makes a network namespace")
    name = f"ps{os.getpid()}-trex"
    command("ip", "netns", "add", name)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
        enter(there)
        os.close(there)
        for which in ("all", "default"):
            with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "w") as knob:
                knob.write("1")
        command("ip", "link", "set", "lo", "up")
        yield name
    finally:
        enter(here)
        os.close(here)
        command("ip", "netns", "del", name)


def enter(descriptor):
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise Missing(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")


def cables():
    """A veth pair for each side: `plane-a` and `trex-a`. The MACs are known to both ends, so nobody has to ask."""
    for idx, side in enumerate(SIDES):
        command("ip", "link", "add", f"plane-{side}", "type", "veth", "peer", "name", f"trex-{side}")
        for end, mac in (("plane", PLANE_MAC), ("trex", TREX_MAC)):
            command("ip", "link", "set", f"{end}-{side}", "address", mac % idx, "up", "arp", "off")
            command("ethtool", "-K", f"{end}-{side}", "tx", "off")


def configuration(folder, calls, core):
    """Penstock's: a port and an interface of control for each side."""
    parts = [
        f"""[region]
dir = "{folder}/region"
streams = {max(4096, 5 * calls)}
[plane]
cores = [{core}]
polling = "busy"
hugepages = "no"
memory_mb = 256
[control]
ng = "{NG}"
socket = "{folder}/control.sock"
store = "{folder}/calls.journal"
max_calls = {calls + 1}
[timeouts]
start_s = 0
silence_s = 0
one_way_s = 0
"""
    ]
    for idx, side in enumerate(SIDES):
        parts.append(
            f"""[[port]]
name = "{side}"
device = "net_af_packet{idx},iface=plane-{side},framecnt=4096"
queues = 1
[[port.address]]
address = "{PLANE[idx]}/30"
gateway = "{TREX[idx]}"
[[port.neighbour]]
address = "{TREX[idx]}"
mac = "{TREX_MAC % idx}"
"""
        )
    for idx, side in enumerate(SIDES):
        parts.append(f'[[control.interface]]\nname = "{side}"\naddress = "{PLANE[idx]}"\nports = "{FIRST_PORT}-65535"\n')
    return "".join(parts)


class Penstock:
    """The penstock command, which looks into the running daemons."""

    def __init__(self, words):
        self.words, self.daemons = words, []

    def ended(self):
        """Names of the daemons started here that are no more."""
        return [daemon.name for daemon in self.daemons if daemon.popen.poll() is not None]

    def ask(self, *words):
        done = subprocess.run([*self.words, *words, "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"penstock {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def drops(self):
        """Packets dropped, by reason."""
        return {reason["reason"]: reason["packets"] for reason in self.ask("drops")["reasons"]}


def start(stack, folder, binaries, calls, core):
    """Both daemons, ready; `stack` ends them. Returns the penstock command."""
    programs = {name: os.path.join(binaries, name) for name in ("penstock-dataplane", "penstock-control", "penstock")}
    for program in programs.values():
        if not os.access(program, os.X_OK):
            raise Missing(f"there is no {program}: build it (cargo build --release), or name its folder with --penstock")
    file = os.path.join(folder, "penstock.toml")
    with open(file, "w") as out:
        out.write(configuration(folder, calls, core))
    penstock = Penstock([programs["penstock"], "--config", file])
    for name in ("penstock-dataplane", "penstock-control"):
        log = os.path.join(folder, f"{name}.log")
        process = stack.enter_context(Process(name, [programs[name], "--config", file], log))
        process.wait(60, lambda: ready(penstock, name))
        penstock.daemons.append(process)
    return penstock


def ready(penstock, name):
    """Whether that daemon works."""
    done = subprocess.run([*penstock.words, "status", "--json"], capture_output=True, text=True)
    try:
        status = json.loads(done.stdout)
    except ValueError:
        return False
    if name == "penstock-control":
        return status["well"]
    return (status.get("plane") or {}).get("state") == "running"
