"""A TRex of its own for a run: started from an installation, driven by the client that comes with it."""

import contextlib
import os
import socket
import sys
import time
import warnings

import lab

HERE = os.path.dirname(os.path.abspath(__file__))
RPC_PORT = 4501
CLIENT = "automation/trex_control_plane/interactive"
# A ring of the kernel's for each virtual port, large enough for what comes while TRex sleeps.
RING = "framesz=2048,blocksz=4096,framecnt=4096"


def check(installation):
    """The first thing that an installation lacks, as an exception."""
    for name in ("_t-rex-64", "t-rex-64", os.path.join(CLIENT, "trex/stl/api.py")):
        if not os.path.exists(os.path.join(installation, name)):
            raise lab.Missing(f"{installation} has no {name}: name the scripts folder of a TRex that is built (see the README)")


def client_library(installation):
    """TRex's Python API. It brings its own versions of the libraries it needs."""
    sys.path.insert(0, os.path.join(installation, CLIENT))
    warnings.filterwarnings("ignore")  # scapy, of old ciphers and regular expressions
    try:
        import trex.stl.api as api
    except Exception as error:
        raise lab.Missing(f"TRex's client does not run with Python {sys.version.split()[0]}: {error}") from error
    return api


def configuration(ports, addresses, cpus):
    """TRex's: two ports, each with its own address and its gateway, the relay. On one CPU its threads take turns and sleep;
    with three or more, one is for control, one for receiving, and the others send."""
    lines = ["- version: 2", f"  interfaces: [{', '.join(repr(port) for port in ports)}]", "  port_limit: 2"]
    if len(cpus) == 1:
        lines += ["  low_end: true", f"  low_end_core: {cpus[0]}", "  limit_memory: 512"]
    else:
        lines += [
            f"  c: {len(cpus) - 2}",
            "  platform:",
            f"    master_thread_id: {cpus[0]}",
            f"    latency_thread_id: {cpus[1]}",
            "    dual_if:",
            f"      - socket: {node(ports[0])}",
            f"        threads: [{', '.join(map(str, cpus[2:]))}]",
        ]
    lines.append("  port_info:")
    for own, relay in addresses:
        lines += [f"    - ip: {own}", f"      default_gw: {relay}"]
    return "\n".join(lines) + "\n"


def node(port):
    """The NUMA node of a NIC; 0 for anything else."""
    try:
        with open(f"/sys/bus/pci/devices/{port}/numa_node") as file:
            return max(0, int(file.read()))
    except OSError:
        return 0


def virtual(interface, idx):
    """An interface of the kernel's as TRex's port."""
    return f"--vdev=net_af_packet{idx},iface={interface},{RING}"


def start(stack, folder, installation, ports, addresses, cpus):
    """A TRex with two ports, ready; `stack` ends it. Returns a client."""
    api = client_library(installation)
    file = os.path.join(folder, "trex.yaml")
    with open(file, "w") as out:
        out.write(configuration(ports, addresses, cpus))
    # The script binds NICs to their drivers; virtual ports need none of that.
    program = "./_t-rex-64" if ports[0].startswith("--vdev") else "./t-rex-64"
    cores = ["-c", str(max(1, len(cpus) - 2))]
    words = [program, "-i", "--software", "--cfg", file, "--no-key", "--no-scapy-server", *cores]
    environment = dict(os.environ, LD_LIBRARY_PATH=installation)
    log = os.path.join(folder, "trex.log")
    server = lab.Process("TRex", words, log, cwd=installation, env=environment)
    stack.enter_context(server).wait(120, listens)
    client = api.STLClient(server="127.0.0.1")
    with told(api):
        client.connect()
        stack.callback(client.disconnect)
        client.reset(ports=[0, 1])
        client.set_service_mode(ports=[0, 1], enabled=True)
        client.resolve(ports=[0, 1], retries=50, verbose=False)
        client.set_service_mode(ports=[0, 1], enabled=False)
    return Generator(api, client)


@contextlib.contextmanager
def told(api):
    """What TRex refuses is no fault of Penstock's."""
    try:
        yield
    except api.TRexError as error:
        raise lab.Missing(f"TRex does not do as it is told: {' '.join(str(error).split())}") from error


def listens():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", RPC_PORT)) == 0


def percentile(histogram, percent):
    """The value that so many of a hundred stay below: the beginning of its class, of which there are nine in a decade."""
    wanted = sum(histogram.values()) * percent / 100
    for begin, count in sorted(histogram.items()):
        wanted -= count
        if wanted <= 0:
            return begin
    return 0


class Generator:
    """The running TRex."""

    def __init__(self, api, client):
        self.api, self.client = api, client

    def load(self, profile, direction, **tunables):
        """Adds a profile's streams to the port of a direction."""
        words = [word for name, value in tunables.items() for word in (f"--{name}", str(value))]
        path = os.path.join(HERE, "profiles", f"{profile}.py")
        with told(self.api):
            loaded = self.api.STLProfile.load(path, direction=direction, port_id=direction, tunables=words)
            self.client.add_streams(loaded.get_streams(), ports=[direction])

    def run(self, seconds):
        """Sends for so long, and waits for what is under way. Returns what TRex counted."""
        client = self.client
        with told(self.api):
            client.clear_stats(ports=[0, 1])
            client.start(ports=[0, 1], duration=seconds, force=True)
            began = time.monotonic()
            while client.get_active_ports():
                if time.monotonic() > began + 2 * seconds + 30:
                    raise lab.Missing("TRex does not come to an end")
                time.sleep(0.01)
            took = time.monotonic() - began
            client.wait_on_traffic(ports=[0, 1], rx_delay_ms=1000)
            return Counts(client.get_stats(), client.get_pgid_stats(), took)


class Counts:
    """What TRex counted in a run."""

    def __init__(self, ports, groups, took):
        # How long it really took: a TRex that is too slow sends all the same, only later.
        self.ports, self.groups, self.took = ports, groups, took

    def sent(self, number):
        """Packets of a group."""
        return self.groups["flow_stats"].get(number, {}).get("tx_pkts", {}).get("total", 0)

    def received(self, port):
        """All packets that came in at a port."""
        return self.ports[port]["ipackets"]

    def unsent(self):
        """Packets that TRex made and could not send, because a queue was full."""
        return int(self.ports["global"].get("queue_full", 0))

    def latency(self, number):
        """Microseconds from port to port, of the group that is timed, and its packets that were lost."""
        found = self.groups["latency"][number]
        times, errors = found["latency"], found["err_cntrs"]
        histogram = {int(begin): count for begin, count in times["histogram"].items()}
        return {
            "min": times["total_min"],
            "median": percentile(histogram, 50),
            "p99": percentile(histogram, 99),
            "max": times["total_max"],
            "jitter": times["jitter"],
            "histogram": dict(sorted(histogram.items())),
            "lost": errors["dropped"],
            "out_of_order": errors["out_of_order"],
        }
