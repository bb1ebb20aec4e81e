"""What the machine does and is: processor time and memory, of the measured processes and of all others."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KERNEL_THREADS = 2


class Process(NamedTuple):
    """What /proc says of one process; times are seconds since it began, with those of its threads."""

    parent: int
    own: float
    reaped: float


def process(pid: int) -> Process | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    user, system, reaped_user, reaped_system = (int(field) / TICKS_PER_SECOND for field in fields[11:15])
    return Process(int(fields[1]), user + system, reaped_user + reaped_system)


def processor_seconds(pids: list[int]) -> float:
    return sum(one.own for pid in pids if (one := process(pid)))


def resident_mib(pids: list[int]) -> float:
    """Largest resident memory of these processes, now."""
    found = [re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in pids]
    return max((int(match[1]) for match in found if match), default=0) / 1024


class Foreign:
    """Counts the processors that others use: processes that this one has not started, and neighbours of a virtual machine."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.used = foreign_seconds()

    def cores(self) -> float:
        """How many processors others used since this was made, on average."""
        return max(0.0, (foreign_seconds() - self.used) / (time.monotonic() - self.began))


def foreign_seconds() -> float:
    """Processor time of all processes but ours and the kernel's threads, and time that the hypervisor has stolen.

    A process that ends hands its time to the one that waits for it, so the sum over all does not fall.
    """
    everyone = {int(name): one for name in os.listdir("/proc") if name.isdigit() and (one := process(int(name)))}
    ours: dict[int, bool] = {os.getpid(): True, KERNEL_THREADS: True, 1: False, 0: False}

    def is_ours(pid: int) -> bool:
        if pid not in ours:
            ours[pid] = pid in everyone and is_ours(everyone[pid].parent)
        return ours[pid]

    stolen = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / TICKS_PER_SECOND
    return stolen + sum(one.own + one.reaped for pid, one in everyone.items() if not is_ours(pid))


def pin(processors: int) -> None:
    """Confines this process, and all that it will start, to the first so many processors."""
    allowed = sorted(os.sched_getaffinity(0))
    if processors > len(allowed):
        raise SystemExit(f"bench: there are only {len(allowed)} processors")
    os.sched_setaffinity(0, allowed[:processors])


def description() -> dict[str, str]:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "revision": revision.stdout.strip() or "unknown",
        "kernel": platform.release(),
        "processor": f"{model[1].strip() if model else platform.machine()}, {os.cpu_count()} processors",
    }
