"""The cold starts' arithmetic, and a whole measurement at the smallest size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from load_tests.cold_start import Case, Figures, case_report, main, prepare, server_commands, summary
from load_tests.floor_parts import FloorParts, evaluation_seconds, import_seconds
from load_tests.measures import Spread
from load_tests.models import find_model, shapes, write_model
from load_tests.peers import llama_cpp_server, llama_server, pagemill
from load_tests.servers import ServerCommand
from load_tests.start_phases import FIRST_CONTENT, median_moments, phases, phases_table, traced_start
from load_tests.start_trace import INTERPRETER, MOMENTS

from load_tests import cold_start, report

MOMENTS_S = {
    INTERPRETER: 0.02,
    "port bound": 0.03,
    "load began": 0.05,
    "load ended": 0.11,
    "app listens": 0.15,
    "engine ready": 0.155,
    "request in": 0.13,
    "first step began": 0.165,
    "first step ended": 0.18,
    FIRST_CONTENT: 0.182,
}
FIGURES = Figures(
    starts={"pagemill": [0.3, 0.2, 0.1], "llama-server": [0.1, 0.1, 0.4]},
    floor=[FloorParts(0.08, 0.01, 0.01), FloorParts(0.12, 0.02, 0.02)],
    bytes_per_s=[2e9, 4e9],
    traces=[MOMENTS_S],
    emptied_by=None,
    left_in_cache={},
)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_model(path, shapes()["1M"])
    return path


def test_the_floors_sum_stands_beside_the_servers() -> None:
    spreads = FIGURES.spreads()
    assert spreads["pagemill"] == Spread(0.2, 0.1, 0.3)
    summed = spreads["floor, summed"]
    assert (summed.low, summed.median, summed.high) == pytest.approx((0.1, 0.13, 0.16))


def test_a_report_says_how_many_times_as_long_as_the_others_ours_took() -> None:
    printed = case_report("88M warm", FIGURES)
    assert "| llama-server  | 100 (100-400) | 2.00" in printed
    assert "floor, summed: imports 100 + reading 15 + evaluation 15, at 3.0 GB/s\n" in printed
    emptied = replace(FIGURES, emptied_by="drop_caches", left_in_cache={"model": 0.0, "libllama.so": 0.25})
    assert "emptied by drop_caches, left in it: 0% of model, 25% of libllama.so" in case_report("88M cold", emptied)


def test_the_summary_has_a_line_for_each_case() -> None:
    lines = summary({"88M warm": FIGURES, "88M cold": FIGURES}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[:4]] == ["ms", "--------", "88M warm", "88M cold"]
    assert lines[2].split("|")[-3].strip() == "2.00"


def test_a_start_is_split_into_what_comes_before_the_load_the_load_and_the_first_step() -> None:
    split = phases(MOMENTS_S)
    assert split == pytest.approx((0.05, 0.06, 0.1, 0.015, 0.015, 0.002))
    late_load = phases(MOMENTS_S | {"load ended": 0.16})
    assert late_load.load_to_request == pytest.approx(0.005)


def test_moments_are_medians_in_order_of_time() -> None:
    later = {name: value + 0.01 for name, value in MOMENTS_S.items()}
    medians = median_moments([MOMENTS_S, later, later])
    assert list(medians)[:3] == [INTERPRETER, "port bound", "load began"]
    assert medians["load began"] == pytest.approx(0.06)
    assert "port bound 40, load began 60" in phases_table({"88M warm": [MOMENTS_S, later, later]})


def test_a_traced_start_notes_every_moment_in_a_possible_order(tiny_model: Path) -> None:
    moments = traced_start(pagemill.gguf_command(tiny_model, num_slots=1, max_model_len=256, threads=1))
    assert set(moments) == {INTERPRETER, FIRST_CONTENT, *(moment.name for moment in MOMENTS)}
    order = (INTERPRETER, "port bound", "load began", "load ended", "engine ready", "first step began", FIRST_CONTENT)
    assert [moments[name] for name in order] == sorted(moments[name] for name in order)
    assert all(value > 0 for value in phases(moments)[:3])


def test_the_floors_parts_are_measured_in_processes_of_their_own(tiny_model: Path) -> None:
    assert 0.01 < import_seconds() < 30
    assert 0 < evaluation_seconds(tiny_model, num_slots=1, max_model_len=256, threads=1) < 10


def test_a_whole_measurement_is_saved_with_all_that_it_was_made_of(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_ours(case: Case) -> dict[str, ServerCommand]:
        return {"pagemill": pagemill.gguf_command(case.path, num_slots=1, max_model_len=256, threads=1)}

    monkeypatch.setattr(cold_start, "server_commands", only_ours)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    main(["--models", str(tiny_model), "--states", "warm", "--repeats", "1", "--traces", "1", "--slots", "1"])
    [path] = tmp_path.glob("*-cold-start.json")
    [figures] = json.loads(path.read_text())["cases"].values()
    assert set(figures) == {
        *("starts", "floor", "bytes_per_s", "traces", "emptied_by", "left_in_cache", "seconds"),
    }
    assert len(figures["starts"]["pagemill"]) == len(figures["floor"]) == len(figures["traces"]) == 1


def test_all_servers_get_the_same_model_threads_and_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_server, "binary", lambda: Path("/bin/llama-server"))
    monkeypatch.setattr(llama_cpp_server, "interpreter", lambda: Path("/bin/python"))
    commands = server_commands(Case("m", tmp_path / "m.gguf", "warm", 4, 512, 3))
    for command in commands.values():
        assert str(tmp_path / "m.gguf") in command.arguments
        assert "3" in command.arguments
        assert {"512", "2048"} & set(command.arguments)


def test_a_model_that_stays_in_the_page_cache_ends_a_cold_measurement(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_start, "drop", lambda paths: "posix_fadvise")
    monkeypatch.setattr(cold_start, "resident_share", lambda path: 0.5)
    monkeypatch.setattr(llama_server, "binary", lambda: tiny_model)
    with pytest.raises(RuntimeError, match=r"50% of .*tiny.gguf is still in the page cache after posix_fadvise"):
        prepare(Case("tiny", tiny_model, "cold", 1, 256, 1))


def test_an_unknown_state_or_quantization_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--states", "warm,lukewarm"])
    assert "not a state of the page cache: lukewarm" in capsys.readouterr().err
    with pytest.raises(ValueError, match="88M:Q2_K: there is no Q2_K here, only Q8_0, Q4_K_M"):
        find_model("88M:Q2_K")
