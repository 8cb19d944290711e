"""What this process may use of its machine: cores and memory, with cgroup limits. Owns no state; pure Python."""

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
CPU_TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")
CPU_FEATURES = ("flags", "Features")  # the lines of them, on x86 and on ARM
SELF_CGROUP = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 2**60  # cgroup v1 writes "no limit" as a number near 2**63


def num_usable_cores() -> int:
    """Physical cores that this process may run on, at most what its cgroup's CPU quota pays for. At least 1.

    Two hyperthreads of one core count once: they share the vector units that inference keeps busy.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux only
    cpus = sorted(os.sched_getaffinity(0)) if has_affinity else list(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in cpus}
    quota = _cpu_quota()
    return max(1, len(cores) if quota is None else min(len(cores), int(quota)))


@cache
def cpu_features() -> frozenset[str]:
    """As Linux names them; empty elsewhere."""
    named = (line.partition(":")[2] for line in (_read(CPU_INFO) or "").splitlines() if line.startswith(CPU_FEATURES))
    return frozenset(next(named, "").split())


def available_memory_bytes() -> int:
    """Memory that this process could still take without swapping, as the kernel or its cgroup says."""
    free = _proc_available_bytes()
    for limit, usage in _memory_limits():
        free = min(free, max(0, limit - usage))
    return free


def resident_bytes() -> int:
    """Memory that this process takes now. Where the kernel does not tell, the most that it has taken."""
    pages = (_read(STATM) or "").split()
    if len(pages) > 1:
        return int(pages[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def release_freed_memory() -> None:
    """Give back to the system what was freed: glibc keeps it for what may come, which for a model is much."""
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def _siblings(cpu: int) -> str:
    """A name of the physical core that a logical CPU belongs to."""
    return _read(CPU_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list") or f"cpu{cpu}"


def _cpu_quota() -> float | None:
    """CPUs' worth of time that the cgroup grants, v2 or v1."""
    quotas: list[float] = []
    for folder in _cgroup_folders("cpu"):
        words = (_read(folder / "cpu.max") or "").split()
        if not words:
            words = [_read(folder / "cpu.cfs_quota_us") or "", _read(folder / "cpu.cfs_period_us") or ""]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _proc_available_bytes() -> int:
    for line in (_read(MEMINFO) or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _memory_limits() -> Iterator[tuple[int, int]]:
    """(limit, usage) of each cgroup around this process. Cache that the kernel would give up is not usage."""
    for folder in _cgroup_folders("memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or ""
        usage = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes") or ""
        if limit.isdigit() and usage.isdigit() and int(limit) < UNLIMITED_BYTES:
            yield int(limit), int(usage) - _reclaimable_bytes(folder)


def _reclaimable_bytes(folder: Path) -> int:
    for line in (_read(folder / "memory.stat") or "").splitlines():
        if line.startswith(("inactive_file ", "total_inactive_file ")):
            return int(line.split()[1])
    return 0


def _cgroup_folders(controller: str) -> Iterator[Path]:
    """Folders of the cgroups around this process: its own, then those above it. In a container the root is its own."""
    for line in (_read(SELF_CGROUP) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            root = CGROUP_ROOT / controller if controllers else CGROUP_ROOT
            relative = Path(path.lstrip("/"))
            for part in (relative, *relative.parents):
                yield root / part


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
