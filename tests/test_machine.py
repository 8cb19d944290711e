"""Cores and memory, read from made-up /sys and /proc files."""

import os
from pathlib import Path

import pytest

from pagemill import machine


@pytest.fixture
def fake_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 4 cores with 2 threads each, 1000 MB of memory available, and one cgroup without limits."""
    for cpu in range(8):
        write(tmp_path / f"cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    write(tmp_path / "meminfo", "MemTotal: 2000 kB\nMemAvailable: 1000000 kB\n")
    write(tmp_path / "self_cgroup", "0::/service/app\n")
    monkeypatch.setattr(machine, "CPU_TOPOLOGY", tmp_path / "cpu")
    monkeypatch.setattr(machine, "CGROUP_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "SELF_CGROUP", tmp_path / "self_cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_hyperthreads_count_once(fake_machine: Path) -> None:
    assert machine.num_usable_cores() == 4


def test_only_cpus_of_the_process_count(fake_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 5, 2})
    assert machine.num_usable_cores() == 2


def test_cpus_of_unknown_topology_count_each(fake_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPU_TOPOLOGY", fake_machine / "nowhere")
    assert machine.num_usable_cores() == 8


@pytest.mark.parametrize(("quota", "cores"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 4)])
def test_a_cgroup_quota_of_the_process_or_above_it_binds(fake_machine: Path, quota: str, cores: int) -> None:
    write(fake_machine / "cgroup/service/cpu.max", quota)
    assert machine.num_usable_cores() == cores


def test_a_version_1_quota_binds(fake_machine: Path) -> None:
    write(fake_machine / "self_cgroup", "4:cpu,cpuacct:/app\n")
    write(fake_machine / "cgroup/cpu/app/cpu.cfs_quota_us", "300000\n")
    write(fake_machine / "cgroup/cpu/app/cpu.cfs_period_us", "100000\n")
    assert machine.num_usable_cores() == 3


def test_free_memory_is_what_the_kernel_says(fake_machine: Path) -> None:
    assert machine.available_memory_bytes() == 1_024_000_000


def test_a_cgroup_memory_limit_binds_less_what_is_used(fake_machine: Path) -> None:
    write(fake_machine / "cgroup/memory.max", "800000000\n")  # as inside a container
    write(fake_machine / "cgroup/memory.current", "300000000\n")
    write(fake_machine / "cgroup/memory.stat", "anon 1\ninactive_file 100000000\n")
    assert machine.available_memory_bytes() == 600_000_000


def test_a_version_1_memory_limit_binds(fake_machine: Path) -> None:
    write(fake_machine / "self_cgroup", "5:memory:/app\n")
    write(fake_machine / "cgroup/memory/app/memory.limit_in_bytes", "500000000\n")
    write(fake_machine / "cgroup/memory/app/memory.usage_in_bytes", "100000000\n")
    assert machine.available_memory_bytes() == 400_000_000


def test_an_unlimited_version_1_group_does_not_bind(fake_machine: Path) -> None:
    write(fake_machine / "self_cgroup", "5:memory:/app\n")
    write(fake_machine / "cgroup/memory/app/memory.limit_in_bytes", "9223372036854771712\n")
    write(fake_machine / "cgroup/memory/app/memory.usage_in_bytes", "100000000\n")
    assert machine.available_memory_bytes() == 1_024_000_000


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= machine.num_usable_cores() <= (os.cpu_count() or 1)
    assert machine.available_memory_bytes() > 0
