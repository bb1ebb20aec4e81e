"""What is measured, and how: each run goes through a tunnel that is up, and yields one or more measures."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from cable import SIDES, Cable, Failure
from machine import processor_seconds, resident_mib
from peers import VETH, Peer

PORT = 5201
LOSS_PERCENT = 1
UDP_SIZE = 64
PINGPONG_RATE = 1000
PING_INTERVAL = 0.02
# Time that TCP gets to fill the queues before the first ping.
PING_HEAD_START = 1.0

# By measure: what was found, or None where a measure has no meaning (what the bare cable costs).
Values = dict[str, float | None]


@dataclass(frozen=True)
class Measure:
    """One column of the table: which run yields it, and whether more of it is better."""

    name: str
    title: str
    unit: str
    decimals: int
    more_is_better: bool
    run: str
    # What to say of it when it has got worse.
    worse: str = "slower"


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("rtt50", "UDP round trip p50", "µs", 0, False, "rtt"),
        Measure("rtt99", "UDP round trip p99", "µs", 0, False, "rtt"),
        Measure("tcp1", "TCP 1 stream", "Gbit/s", 2, True, "tcp1"),
        Measure("cpu", "CPU, both daemons", "s/GB", 2, False, "tcp1", "costlier"),
        Measure("tcp4", "TCP 4 streams", "Gbit/s", 2, True, "tcp4"),
        Measure("ping", "ping under TCP", "ms", 2, False, "ping"),
        Measure("udp64", "UDP 64 bytes", "packets/s", 0, True, "udp64"),
        Measure("memory", "resident", "MiB", 1, False, "udp64", "costlier"),
        Measure("loss", f"TCP 1 stream, {LOSS_PERCENT} % loss", "Gbit/s", 3, True, "loss"),
    )
}


def choose(names: list[str]) -> list[Measure]:
    """Those that were named, by their own name or that of the run which yields them; else all."""
    for name in names:
        if not any(name in (measure.name, measure.run) for measure in MEASURES.values()):
            raise Failure(f"there is no measure {name}; there are {', '.join(MEASURES)}")
    return [measure for measure in MEASURES.values() if not names or measure.name in names or measure.run in names]


class Meter:
    """Measures one tunnel that is up, from side a to side b."""

    def __init__(self, cable: Cable, peer: Peer, probe: str, seconds: float) -> None:
        self.cable = cable
        self.peer = peer
        self.probe = probe
        self.seconds = seconds
        self.target = cable.overlay["b"]
        self.daemons = [pid for side in SIDES for pid in cable.pids(side)]
        self.runs: dict[str, Callable[[], Values]] = {
            "rtt": self.round_trip,
            "tcp1": self.one_stream,
            "tcp4": self.four_streams,
            "ping": self.ping_under_load,
            "udp64": self.small_packets,
            "loss": self.lossy_stream,
        }

    def round_trip(self) -> Values:
        echo = self.cable.start("b", self.probe, "echo", self.target, str(PORT), output="echo.log")
        try:
            self.cable.wait_for_socket(echo, "udp", PORT)
            words = [self.target, str(PORT), str(UDP_SIZE), str(PINGPONG_RATE), str(self.seconds)]
            sent, answered, p50, p99 = self.cable.run("a", self.probe, "pingpong", *words, timeout=self.seconds + 30).split()
        finally:
            self.cable.end(echo)
        if int(answered) < int(sent) * 0.9:
            raise Failure(f"only {answered} of {sent} datagrams were answered")
        return {"rtt50": float(p50), "rtt99": float(p99)}

    def one_stream(self) -> Values:
        before = processor_seconds(self.daemons)
        speed, gigabytes = self.tcp(1)
        used = processor_seconds(self.daemons) - before
        return {"tcp1": speed, "cpu": used / gigabytes if self.daemons else None}

    def four_streams(self) -> Values:
        return {"tcp4": self.tcp(4)[0]}

    def ping_under_load(self) -> Values:
        count = max(1, int((self.seconds - PING_HEAD_START) / PING_INTERVAL))
        words = ["ping", "-n", "-c", str(count), "-i", str(PING_INTERVAL), "-W", "1", self.target]
        server = self.iperf3_server()
        client = self.cable.start("a", *self.iperf3_client(1, self.seconds + 1), output="client.json")
        try:
            time.sleep(PING_HEAD_START)
            said = subprocess.run(self.cable.within("a", *words), capture_output=True, text=True, timeout=self.seconds + 60).stdout
        finally:
            self.cable.end(client, server)
        times = sorted(float(time) for time in re.findall(r"time=([\d.]+) ms", said))
        if not times:
            raise Failure("no ping was answered")
        return {"ping": times[len(times) // 2]}

    def small_packets(self) -> Values:
        counter = self.cable.start("b", self.probe, "count", self.target, str(PORT), output="count.txt")
        result = self.cable.files / "count.txt"
        try:
            self.cable.wait_for_socket(counter, "udp", PORT)
            flood = ["flood", self.target, str(PORT), str(UDP_SIZE), str(self.seconds)]
            _, sending = self.cable.run("a", self.probe, *flood, timeout=self.seconds + 30).split()
            counter.wait(30)
            received, receiving = result.read_text().split()
        except subprocess.TimeoutExpired as late:
            raise Failure("packets still arrived 30 s after the last was sent") from late
        finally:
            self.cable.end(counter)
            result.unlink(missing_ok=True)
        memory = resident_mib(self.daemons) if self.daemons else None
        return {"udp64": int(received) / max(float(sending), float(receiving)), "memory": memory}

    def lossy_stream(self) -> Values:
        self.cable.lose(LOSS_PERCENT, "meta l4proto tcp" if self.peer.name == VETH else "meta l4proto udp")
        try:
            speed, _ = self.tcp(1)
        finally:
            dropped = self.cable.lose_no_more()
        if dropped == 0:
            raise Failure("no datagram was lost")
        return {"loss": speed}

    def tcp(self, streams: int) -> tuple[float, float]:
        """Gbit/s and GB that arrived."""
        server = self.iperf3_server()
        try:
            said = self.cable.run("a", *self.iperf3_client(streams, self.seconds), timeout=self.seconds + 30)
        finally:
            self.cable.end(server)
        received = json.loads(said)["end"]["sum_received"]
        if not received["bytes"]:
            raise Failure("nothing arrived")
        return received["bits_per_second"] / 1e9, received["bytes"] / 1e9

    # A server for one client: on a busy machine it may still be at the last test when the next client calls.
    def iperf3_server(self) -> subprocess.Popen[bytes]:
        server = self.cable.start("b", "iperf3", "-s", "-1", "-p", str(PORT), output="server.log")
        self.cable.wait_for_socket(server, "tcp", PORT)
        return server

    def iperf3_client(self, streams: int, seconds: float) -> list[str]:
        return ["iperf3", "-J", "-c", self.target, "-p", str(PORT), "-P", str(streams), "-t", f"{seconds:.0f}"]
