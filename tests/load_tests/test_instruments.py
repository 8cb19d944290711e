"""The measuring programs end to end, at the smallest size: they run, and what they compare is comparable."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest
from load_tests.client import encode_request, run_closed_loop
from load_tests.first_token import start_once
from load_tests.memory import mapped_bytes, status_bytes, tensor_bytes
from load_tests.models import Shape, byte_letters, quantize, shapes, text_token_ids, write_model
from load_tests.peers import llama_server, pagemill
from load_tests.runs import run_async, send
from load_tests.scenarios import PlannedRequest
from load_tests.servers import RunningServer, ServerCommand, ServerFailedError
from load_tests.sse import body_frames, read_record

from load_tests import engine_cost

PLANNED = PlannedRequest(tuple(b"Well?"), 12)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_model(path, shapes()["1M"])
    return path


def test_the_bare_app_and_the_raw_server_send_pagemills_own_bytes(tmp_path: Path) -> None:
    ours, recording = pagemill.fake_command(num_slots=4), tmp_path / "recording.json"
    engine_cost.record(ours, PLANNED, recording)
    commands = engine_cost.servers(ours, recording)
    frames = {}
    for name, query in ((engine_cost.BARE, ""), (engine_cost.MERGED, "?merge=5"), ("raw sockets", "")):
        with RunningServer(commands[name]) as server:
            target = replace(server.target, path=server.target.path + query)
            request = encode_request(target, PLANNED)
            [response] = run_async(partial(run_closed_loop, target, [request], 1))
        read_record(response, PLANNED)
        frames[name] = [payload for _, payload in body_frames(response)]
    assert frames[engine_cost.BARE] == frames["raw sockets"] == json.loads(recording.read_text(), object_hook=encoded)
    assert b"".join(frames[engine_cost.MERGED]) == b"".join(frames[engine_cost.BARE])
    assert len(frames[engine_cost.MERGED]) == -(-len(frames[engine_cost.BARE]) // 5)
    assert len(frames[engine_cost.BARE]) >= PLANNED.max_tokens, "the stream has not a message for each token"


def encoded(recording: dict[str, list[str]]) -> list[bytes]:
    return [message.encode() for message in recording["messages"]]


def test_the_engines_cost_is_printed_beside_every_other_server(capsys: pytest.CaptureFixture[str]) -> None:
    engine_cost.main(["--clients", "4", "--tokens", "20", "--rounds", "1", "--repeats", "1", "--no-save"])
    printed = capsys.readouterr().out
    for name in ("pagemill", engine_cost.BARE, engine_cost.MERGED, engine_cost.BURST, "raw sockets"):
        assert f"\n| {name} " in printed


def test_a_model_of_the_same_shape_is_the_same_to_the_byte(tmp_path: Path, tiny_model: Path) -> None:
    write_model(tmp_path / "again.gguf", shapes()["1M"])
    assert (tmp_path / "again.gguf").read_bytes() == tiny_model.read_bytes()


def test_models_have_the_size_they_are_called_by(tiny_model: Path) -> None:
    tensors = gguf.GGUFReader(tiny_model).tensors
    assert sum(int(np.prod(tensor.shape)) for tensor in tensors) == shapes()["1M"].num_parameters
    assert tensor_bytes(tiny_model) < tiny_model.stat().st_size
    assert shapes()["88M"].num_parameters == pytest.approx(88e6, rel=0.01)
    assert shapes()["0.6B"].num_parameters == pytest.approx(0.6e9, rel=0.01)


def test_a_quantized_model_has_its_matrices_in_blocks_of_four_and_six_bits(tmp_path: Path) -> None:
    shape = replace(shapes()["1M"], hidden=256, architecture="qwen3", tied=True)
    write_model(tmp_path / "q8_0.gguf", shape)
    quantize(tmp_path / "q8_0.gguf", tmp_path / "q4_k_m.gguf")
    tensors = gguf.GGUFReader(tmp_path / "q4_k_m.gguf").tensors
    assert sum(int(np.prod(tensor.shape)) for tensor in tensors) == shape.num_parameters
    assert {"Q4_K", "Q6_K"} <= {tensor.tensor_type.name for tensor in tensors}


def test_kv_takes_four_bytes_for_each_key_value_pair_in_f16() -> None:
    shape = Shape(hidden=8, layers=3, heads=2, kv_heads=1, head_dim=4, feed_forward=8, vocab=300)
    assert shape.kv_bytes(10) == 10 * 3 * (4 + 4) * 2


def test_every_byte_has_a_letter_of_its_own() -> None:
    letters = byte_letters()
    assert len(set(letters.values())) == 256
    assert (letters[ord("a")], letters[ord(" ")]) == ("a", "Ġ")


def test_a_random_model_says_a_text_for_every_token(tiny_model: Path) -> None:
    command = pagemill.gguf_command(tiny_model, num_slots=4, max_model_len=256, threads=1)
    token_ids = text_token_ids(shapes()["1M"].vocab)
    planned = [PlannedRequest(tuple(token_ids[index : index + 40]), 20 + index) for index in range(6)]
    with RunningServer(command) as server:
        responses = send(server, planned, 4)
    for response, request in zip(responses, planned, strict=True):
        assert len(read_record(response, request).text_times_s) == request.max_tokens


@pytest.mark.parametrize("command", [pagemill.gguf_command, pagemill.floor_command])
def test_a_cold_start_is_timed_from_the_process_on(tiny_model: Path, command: Callable[..., ServerCommand]) -> None:
    assert 0.05 < start_once(command(tiny_model, num_slots=1, max_model_len=256, threads=1)) < 60


def test_a_server_that_ends_is_an_error_that_shows_its_log() -> None:
    command = ServerCommand("broken", ("/bin/sh", "-c", "echo no such luck; exit 3"), "m", "/")
    with pytest.raises(ServerFailedError, match=r"ended with 3:\nno such luck"), RunningServer(command):
        pass


def test_a_stopped_server_has_ended(tiny_model: Path) -> None:
    with RunningServer(pagemill.fake_command(num_slots=2)) as server:
        run_async(lambda: run_closed_loop(server.target, [encode_request(server.target, PLANNED)], 1))
        pid = server.pid
    assert subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 1


def test_a_stopped_server_takes_its_children_with_it() -> None:
    command = ServerCommand("parent", ("/bin/sh", "-c", "sleep 300 & echo $!; wait"), "m", "/")
    with RunningServer(command, wait_ready_s=0) as server:
        while not server.log_end().endswith("\n"):
            time.sleep(0.01)
        child = server.log_end().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True, check=False).stdout
    assert state[:1] in ("", "Z")


def test_llama_servers_settings_differ_in_nothing_but_the_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_server, "binary", lambda: Path("/bin/llama-server"))
    commands = {
        variant: llama_server.command(tmp_path / "m.gguf", num_slots=4, max_model_len=768, threads=2, variant=variant)
        for variant in llama_server.variants()
    }
    for variant, flags in llama_server.variants().items():
        assert commands[variant].arguments[-len(flags) :] == flags
        assert commands[variant].arguments[: -len(flags)] == commands["streams"].arguments[:-1]
    arguments = commands["streams"].arguments
    assert arguments[arguments.index("--ctx-size") + 1] == str(4 * 768)


def test_memory_is_read_as_the_kernel_writes_it() -> None:
    smaps = (
        "7f00-7f10 r--s 00000000 08:01 42                         /models/a b.gguf\nSize: 64 kB\nRss:   40 kB\n"
        "7f10-7f20 r--s 00010000 08:01 42                         /models/a b.gguf\nRss:   8 kB\n"
        "7f20-7f30 rw-p 00000000 00:00 0 \nRss:   100 kB\n"
        "7f30-7f40 r-xp 00000000 08:01 43                         /lib/x.so\nRss:   16 kB\n"
    )
    assert mapped_bytes(smaps, Path("/models/a b.gguf")) == 48 * 1024
    assert status_bytes("VmPeak:\t  10 kB\nVmHWM:\t  2048 kB\n", "VmHWM") == 2 * 2**20
    with pytest.raises(LookupError, match="no RssAnon"):
        status_bytes("", "RssAnon")
