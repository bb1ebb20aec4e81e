"""Two network namespaces joined by a cable, and the processes in them."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")
OTHER: dict[Side, Side] = {"a": "b", "b": "a"}
CABLE = "eth0"
# What the kernel gives a new interface.
DEFAULT_SEGMENTS = 65535


class Failure(Exception):
    """Something that was started did not do what it is for."""


def run(*words: str | Path, timeout: float = 30, stdin: str = "") -> str:
    """Output of a command that has to succeed."""
    try:
        done = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{' '.join(map(str, words))}: not done after {timeout:.0f} s") from late
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, words))}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


class Cable:
    """The two namespaces; a context manager that removes them with every process and file."""

    def __init__(self) -> None:
        self.namespace = {side: f"hf-bench-{os.getpid()}-{side}" for side in SIDES}
        self.device = {side: f"hfb{os.getpid()}{side}" for side in SIDES}
        self.underlay = {"a": "10.76.0.1", "b": "10.76.0.2"}
        self.overlay = {"a": "10.77.0.1", "b": "10.77.0.2"}
        # By process: its program.
        self.started: dict[subprocess.Popen[bytes], str] = {}
        # Files that a program puts elsewhere, and may leave there when it is ended.
        self.leftovers: list[Path] = []
        self.files = Path(tempfile.mkdtemp(prefix="handfast-bench."))

    def __enter__(self) -> "Cable":
        try:
            for side in SIDES:
                run("ip", "netns", "add", self.namespace[side])
                self.ip(side, "link", "set", "lo", "up")
                # One connection must not learn from the one before, which may have met loss.
                self.run(side, "tee", "/proc/sys/net/ipv4/tcp_no_metrics_save", stdin="1")
            ends = [["name", CABLE, "netns", self.namespace[side]] for side in SIDES]
            run("ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1])
            for side in SIDES:
                self.ip(side, "address", "add", f"{self.underlay[side]}/24", "dev", CABLE)
                self.ip(side, "link", "set", CABLE, "mtu", "1500", "up")
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        self.end(*self.started)
        for side in SIDES:
            subprocess.run(["ip", "netns", "delete", self.namespace[side]], capture_output=True)
        for file in self.leftovers:
            file.unlink(missing_ok=True)
        shutil.rmtree(self.files, ignore_errors=True)

    def ip(self, side: Side, *words: str) -> str:
        return run("ip", "-n", self.namespace[side], *words)

    def within(self, side: Side, *words: str | Path) -> list[str]:
        return ["ip", "netns", "exec", self.namespace[side], *map(str, words)]

    def run(self, side: Side, *words: str | Path, timeout: float = 30, stdin: str = "") -> str:
        return run(*self.within(side, *words), timeout=timeout, stdin=stdin)

    def start(self, side: Side, *words: str | Path, output: str) -> subprocess.Popen[bytes]:
        """Starts a process that stays in the foreground; what it prints goes to a file. It does not see Ctrl-C: it is ended by us."""
        with open(self.files / output, "ab") as log:
            process = subprocess.Popen(
                self.within(side, *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.files, start_new_session=True
            )
        self.started[process] = Path(words[0]).name
        return process

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        """Ends processes that were started here and waits for them; those that ignore it for two seconds are killed."""
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.started.pop(process, None)

    def pids(self, side: Side) -> list[int]:
        return [int(pid) for pid in run("ip", "netns", "pids", self.namespace[side]).split()]

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        file = self.files / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def logged(self, limit: int = 1000) -> str:
        logs = sorted(self.files.glob("*.log"))
        return "\n".join(f"{log.name}: {text[-limit:]}" for log in logs if (text := log.read_text(errors="replace").strip()))

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [f"{program} ended with exit status {process.returncode}" for process, program in self.started.items() if process.poll()]
            if dead or time.monotonic() > deadline:
                why = dead[0] if dead else f"not within {seconds:.0f} s"
                raise Failure(f"{what}: {why}\n{self.logged()}".rstrip())
            time.sleep(0.01)

    def wait_for_device(self, side: Side) -> None:
        look = ["ip", "-n", self.namespace[side], "link", "show", self.device[side]]
        self.wait_for(f"interface {self.device[side]}", lambda: subprocess.run(look, capture_output=True).returncode == 0)

    def wait_for_socket(self, process: subprocess.Popen[bytes], protocol: Literal["tcp", "udp"], port: int) -> None:
        """Waits until a process's namespace has a socket that listens on a port, or is bound to it."""
        state = {"tcp": "0A", "udp": "07"}[protocol]

        def is_there() -> bool:
            rows = [row.split() for version in ("", "6") for row in read_lines(f"/proc/{process.pid}/net/{protocol}{version}")]
            return any(row[1].endswith(f":{port:04X}") and row[3] == state for row in rows)

        self.wait_for(f"{protocol} port {port}", is_there)

    def wait_for_answer(self, side: Side) -> None:
        """Waits until a ping is answered through the tunnel."""
        ping = self.within(side, "ping", "-n", "-q", "-c", "1", "-W", "1", self.overlay[OTHER[side]])
        self.wait_for("ping", lambda: subprocess.run(ping, capture_output=True).returncode == 0, 20)

    def join(self, side: Side, mtu: int | None = None) -> None:
        """Gives a tunnel's interface its address, where the tunnel does not do it."""
        self.wait_for_device(side)
        self.ip(side, "address", "add", f"{self.overlay[side]}/24", "dev", self.device[side])
        self.ip(side, "link", "set", self.device[side], *(["mtu", str(mtu)] if mtu else []), "up")

    def mtu(self) -> int:
        """That of the tunnel's interface, or of the cable where there is no tunnel."""
        mtus: dict[str, int] = {link["ifname"]: link["mtu"] for link in json.loads(self.ip("a", "-j", "link"))}
        return mtus.get(self.device["a"], mtus[CABLE])

    def lose(self, percent: int, match: str) -> None:
        """Drops datagrams at random where they come out of the cable, on both sides.

        The cable first has to carry them one by one: by default up to 64 travel as one, and would be lost as one.
        """
        for side in SIDES:
            self.ip(side, "link", "set", CABLE, "gso_max_segs", "1")
            rule = f"{match} numgen random mod 100 < {percent} counter drop;"
            table = f"table netdev bench {{ chain loss {{ type filter hook ingress device {CABLE} priority filter; {rule} }}; }}"
            self.run(side, "nft", "-f", "-", stdin=table)

    def lose_no_more(self) -> int:
        """Undoes that; how many datagrams were dropped."""
        dropped = 0
        for side in SIDES:
            rules = self.run(side, "nft", "list", "table", "netdev", "bench")
            dropped += int(rules.partition("packets ")[2].split()[0])
            self.run(side, "nft", "delete", "table", "netdev", "bench")
            self.ip(side, "link", "set", CABLE, "gso_max_segs", str(DEFAULT_SEGMENTS))
        return dropped


def read_lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return []
