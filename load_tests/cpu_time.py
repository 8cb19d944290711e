"""CPU time: of this process, of a server, and of all else on the machine. Owns no state but a stopwatch's start."""

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class CPUShare:
    """Cores used during a run, on average. A client near 1.0 would be the bottleneck; others disturbed the run."""

    client: float
    server: float
    others: float  # all else that ran on this machine, and what its host took from it


class Stopwatch:
    """Runs from when it is made. `server_pid` is another process than this one."""

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid
        self._started = self._read()

    def share(self) -> CPUShare:
        """Of the time since then."""
        wall, machine, client, server = (now - then for now, then in zip(self._read(), self._started, strict=True))
        return CPUShare(client / wall, server / wall, max(0.0, machine - client - server) / wall)

    def _read(self) -> tuple[float, float, float, float]:
        return time.perf_counter(), machine_cpu_seconds(), time.process_time(), cpu_seconds(self._server_pid)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far, to the nanosecond: /proc counts in hundredths of a
    second, which are 0.7% of a round of `prefix_cost`.
    """
    process = psutil.Process(pid)
    return sum(time.clock_gettime(_cpu_clock(member.pid)) for member in (process, *process.children(recursive=True)))


def _cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, as Linux's clock_getcpuclockid(3) names it: Python has no call for it."""
    return ~pid << 3 | 2


def machine_cpu_seconds() -> float:
    """In which a core did anything or was taken by the host, since the machine started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal
