"""The paged backend beside vLLM and transformers: what makes the comparison one of like with like."""

from dataclasses import replace
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

import pytest
from load_tests.compare import make_cell
from load_tests.compare_paged import cell_report, http_command, least_disturbed, parse_arguments, run_once, settings
from load_tests.cpu_time import CPUShare
from load_tests.measures import Distribution, RunSummary, Spread
from load_tests.model_folders import write_folder
from load_tests.models import shapes, text_token_ids
from load_tests.paged_cold_start import start_report
from load_tests.peers import transformers_batches, vllm_server
from load_tests.report import ServerFigures
from load_tests.runs import send
from load_tests.scenarios import PlannedRequest, Scenario, scenarios
from load_tests.servers import RunningServer
from load_tests.sse import BadResponseError, read_record

CELL = make_cell(scenarios()["mixed"], 16, None, 2)


@pytest.fixture
def vllm_python(monkeypatch: pytest.MonkeyPatch) -> Path:
    python = Path("/environment/bin/python")
    monkeypatch.setattr(vllm_server, "interpreter", lambda: python)
    return python


def value_of(arguments: tuple[str, ...], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_servers_get_the_same_slots_context_and_cache(vllm_python: Path) -> None:
    ours, theirs = (http_command(server, Path("/models/m"), CELL).arguments for server in ("pagemill", "vllm"))
    for flag, value in {
        "--max-num-seqs": "16",
        "--max-model-len": str(CELL.scenario.max_model_len),
        "--kv-cache-memory-bytes": str(2**30),
        "--dtype": "bfloat16",
    }.items():
        assert value_of(ours, flag) == value_of(theirs, flag) == value
    assert value_of(ours, "--threads") == "2"


def test_vllm_may_use_all_cores_and_intels_openmp(vllm_python: Path) -> None:
    environment = http_command("vllm", Path("/models/m"), CELL).environment
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert environment["LD_PRELOAD"] == "/environment/lib/libiomp5.so"


@pytest.mark.parametrize("server", ["pagemill", "vllm"])
def test_a_server_without_its_prefix_cache_differs_in_nothing_else(server: str, vllm_python: Path) -> None:
    on, off = (http_command(server + suffix, Path("/models/m"), CELL) for suffix in ("", "-no-prefix-cache"))
    assert set(on.arguments) ^ set(off.arguments) == {"--enable-prefix-caching", "--no-enable-prefix-caching"}
    assert on.environment == off.environment


def test_settings_in_a_report_name_no_folder_of_this_machine(vllm_python: Path) -> None:
    assert "/" not in str(settings("vllm", Path("/models/m"), CELL, ())).replace("output", "")


@pytest.mark.parametrize(("num_clients", "at_once"), [(4, 4), (16, 16), (64, 16)])
def test_pages_of_continuous_batching_hold_the_longest_of_all_it_runs(num_clients: int, at_once: int) -> None:
    options = transformers_batches.options("continuous", num_clients, 768)
    assert options["max_requests_per_batch"] == at_once
    assert options["num_blocks"] * options["page_size"] == at_once * 768
    assert transformers_batches.options("static", 16, 768) == {}


def test_a_server_that_there_is_not_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--servers", "pagemill,tgi"])
    assert "no tgi; there are pagemill, " in capsys.readouterr().err


def test_vllm_is_installed_without_extras_and_cuda_builds() -> None:
    required = ["regex", "torch==2.13.0+cpu; platform_machine == 'x86_64'", "torchvision", "torchcodec>=0.14"]
    required += ["mistral_common[image]>=1.11.6", "numba==0.65.0", 'pandas; extra == "bench"']
    assert vllm_server.requirements(required) == ["regex", "mistral_common[image]>=1.11.6", "numba==0.65.0"]


def test_vllm_finds_itself_as_a_cpu_build(tmp_path: Path) -> None:
    vllm_server.write_metadata(tmp_path)
    assert [(one.metadata["Name"], one.version) for one in distributions(path=[str(tmp_path)])] == [
        ("vllm", f"{vllm_server.RELEASE}+cpu")
    ]


def test_the_paged_backend_says_a_text_for_every_token_of_a_random_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "tiny", shapes()["1M"])
    cell = make_cell(Scenario("short", "", (8, 40), (2, 6)), 3, 7, 1)
    planned = cell.scenario.plan(7, text_token_ids(shapes()["1M"].vocab), 0)
    with RunningServer(http_command("pagemill", tmp_path / "tiny", cell)) as server:
        responses = send(server, planned, 3)
    for response, request in zip(responses, planned, strict=True):
        assert len(read_record(response, request).text_times_s) == request.max_tokens


def figures(server: str, tokens_per_s: float) -> ServerFigures:
    flat = Distribution(0.1, 0.1, 0.1, 0.1)
    return ServerFigures.of(server, [RunSummary(8, 1.0, 80, 0, 80, tokens_per_s, 0, 8.0, flat, None, None, flat)])


def test_a_cell_shows_how_many_times_as_much_as_each_peer_we_make() -> None:
    report = cell_report(CELL, {name: figures(name, rate) for name, rate in (("pagemill", 300), ("vllm", 200))})
    assert [line.split("|")[3].strip() for line in report.splitlines()[-2:]] == ["", "1.50"]
    peers_alone = cell_report(CELL, {"vllm": figures("vllm", 200)})
    assert peers_alone.splitlines()[-1].split("|")[3].strip() == ""


def test_a_cold_start_shows_how_many_times_as_long_as_ours_each_took() -> None:
    report = start_report("88M", {"pagemill": Spread(2, 2, 2), "vllm": Spread(50, 40, 60)})
    assert "| vllm     | 50.00 (40.00-60.00) | 25.0 " in report


def timed(num_tokens: int, num_times: int) -> dict[str, object]:
    times = [float(index) for index in range(num_times)]
    return {"started_s": 0.0, "token_times_s": times, "ended_s": 9.0, "token_ids": [300] * num_tokens}


@pytest.mark.parametrize(("num_tokens", "num_times"), [(3, 4), (5, 4), (4, 3)])
def test_an_answer_of_transformers_must_have_the_tokens_asked_for(num_tokens: int, num_times: int) -> None:
    planned = PlannedRequest((1, 2), 4)
    assert transformers_batches.record(timed(4, 4), planned).output_tokens == 4
    with pytest.raises(BadResponseError, match="asked for 4 tokens"):
        transformers_batches.record(timed(num_tokens, num_times), planned)


def test_of_disturbed_runs_the_least_disturbed_counts_and_an_undisturbed_one_ends_the_search() -> None:
    flat = Distribution(0.1, 0.1, 0.1, 0.1)
    summary = RunSummary(8, 1.0, 80, 0, 80, 100.0, 0, 8.0, flat, None, None, flat)
    disturbed = [(replace(summary, num_requests=n), CPUShare(0, 1, others)) for n, others in enumerate((0.5, 0.3, 0.9))]
    undisturbed = (replace(summary, num_requests=9), CPUShare(0, 1, 0.05))
    assert least_disturbed(partial(next, iter(disturbed)), 0.1, 3)[0].num_requests == 1
    assert least_disturbed(partial(next, iter([disturbed[0], undisturbed])), 0.1, 3)[0].num_requests == 9


@pytest.mark.slow
@pytest.mark.parametrize("way", transformers_batches.WAYS)
def test_transformers_does_what_the_servers_do_in_every_way(way: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "tiny", shapes()["1M"])
    cell = make_cell(Scenario("short", "", (8, 40), (2, 6)), 3, 7, 1)
    token_ids = text_token_ids(shapes()["1M"].vocab)
    summary, share = run_once(f"transformers-{way}", tmp_path / "tiny", cell, token_ids, 0, ())
    planned = cell.scenario.plan(7, token_ids, 0)
    assert summary.output_tokens == sum(request.max_tokens for request in planned)
    assert summary.prompt_tokens == sum(len(request.prompt_token_ids) for request in planned)
    assert 0 < summary.ttft_s.p50 <= summary.e2el_s.p50 < summary.duration_s
    assert share.server > 0
    assert share.others >= 0
