"""Ratios, tables and result files."""

import json
from pathlib import Path

import pytest
from load_tests.compare import rotated
from load_tests.measures import Distribution, RunSummary, Spread
from load_tests.report import ServerFigures, compare, format_spread, save, table
from load_tests.servers import ServerCommand

from load_tests import report


def run(tokens_per_s: float, ttft_s: float) -> RunSummary:
    flat = Distribution(ttft_s, ttft_s, ttft_s, ttft_s)
    return RunSummary(8, 1.0, 80, 0, 80, tokens_per_s, 2 * tokens_per_s, 8.0, flat, None, None, flat)


def figures(server: str, *runs: tuple[float, float]) -> ServerFigures:
    return ServerFigures.of(server, [run(*one) for one in runs])


def test_figures_are_medians_over_the_repeats() -> None:
    own = figures("pagemill", (100, 0.5), (140, 0.1), (110, 0.2))
    assert own.output_tokens_per_s == Spread(110, 100, 140)
    assert own.median_ttft_s == Spread(0.2, 0.1, 0.5)
    assert own.median_tpot_s is None


def test_each_ratio_is_against_the_peer_that_is_best_at_it() -> None:
    ours = figures("pagemill", (120, 0.2))
    found = compare(ours, [figures("fast", (100, 0.4)), figures("prompt", (60, 0.1)), figures("neither", (50, 0.9))])
    assert found.throughput_ratio == pytest.approx(1.2)
    assert found.ttft_ratio == pytest.approx(0.5)
    assert (found.throughput_peer, found.ttft_peer) == ("fast", "prompt")


def test_the_order_of_servers_turns_from_repeat_to_repeat() -> None:
    assert [rotated(["a", "b", "c"], repeat) for repeat in range(3)] == [list("abc"), list("cba"), list("abc")]


def test_a_table_is_markdown_with_columns_that_line_up() -> None:
    assert table(("server", "tok/s"), [("a", "1"), ("long name", "12345")]).splitlines() == [
        "| server    | tok/s |",
        "| --------- | ----- |",
        "| a         | 1     |",
        "| long name | 12345 |",
    ]


def test_a_spread_is_printed_scaled() -> None:
    assert format_spread(Spread(0.25, 0.1, 0.5), 1000, 0) == "250 (100-500)"
    assert format_spread(None) == "-"


def test_a_result_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    path = save("trial", {"ratio": 1.5})
    assert path.name.endswith("Z-trial.json")
    saved = json.loads(path.read_text())
    assert saved["ratio"] == 1.5
    assert {"cpu", "cores", "commit", "versions", "date", "load_average_1m"} <= saved["environment"].keys()
    assert saved["environment"]["versions"]["llama-cpp-python"]


def test_a_described_command_names_no_folder_of_this_machine() -> None:
    command = ServerCommand("x", ("/somewhere/bin/program", "--model", "/else/m.gguf", "--port", "{port}"), "m", "/")
    assert command.described() == "program --model m.gguf --port {port}"
    assert command.at(80)[-1] == "80"
