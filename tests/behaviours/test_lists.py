"""No line of the lists is without its test."""

import re
from pathlib import Path

TEST = re.compile(r'^(?:async )?def test_(\d+)_\w+\([^"]*?\) -> None:\n    """(\d+)\. ', re.MULTILINE)
NUM_OLLAMA = 25
NUM_VLLM = 14


def numbers(pattern: str) -> list[int]:
    """Those in the names of the tests, which their docstrings repeat."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob(pattern))]
    found = [(int(name), int(line)) for text in texts for name, line in TEST.findall(text)]
    assert all(name == line for name, line in found)
    assert len(found) == sum(len(re.findall(r"def test_\d", text)) for text in texts), "a test without its line"
    return sorted(name for name, _line in found)


def test_each_of_ollamas_behaviours_has_one_test() -> None:
    assert numbers("test_ollama*.py") == list(range(1, NUM_OLLAMA + 1))


def test_each_of_vllms_behaviours_has_a_test() -> None:
    assert sorted(set(numbers("test_vllm*.py"))) == list(range(1, NUM_VLLM + 1))
