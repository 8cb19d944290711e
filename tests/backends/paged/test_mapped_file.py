"""Pages of a mapped file that are given back, and memory of others that is left alone."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pagemill.backends.paged.mapped_file import MAPS, MappedFile
from pagemill.backends.paged.safetensors_file import SafetensorsFile

MIB = 2**20

pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what is mapped where")


def resident_bytes(path: Path) -> int:
    """Of the mappings of the file."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith(f" {path}")
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def test_a_tensors_pages_are_given_back_and_read_again_when_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    values = torch.arange(2 * MIB, dtype=torch.float32)
    save_file({"a": values, "b": values + 1}, path)
    file = SafetensorsFile.open(path)
    first, second = file.load("a"), file.load("b")
    assert float(first.sum() + second.sum()) > 0
    assert resident_bytes(path) >= 15 * MIB
    file.release("a")
    assert resident_bytes(path) < 9 * MIB
    assert torch.equal(first, values)
    file.close()


def test_memory_that_is_no_mapping_of_the_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(bytes(MIB))
    tensor = torch.ones(MIB)
    MappedFile(path).release(tensor.data_ptr(), tensor.nbytes)
    assert bool((tensor == 1).all())
