"""What the images do: `make images-test` builds them and runs these. Each runs as an engine would run it, as its own
user on a read-only root; see `support.running_image`.
"""

import json
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from images.workshop import Image

from pagemill.backends.gguf.library import BEST_CPUS
from pagemill.store.references import DEMO_FOLDER
from support.image_shelf import Shelf
from support.lambda_emulator import INVOKE, emulator
from support.lambda_runtime import KINDS, event
from support.running_image import TOOLS, RunningImage, output_of, running, stream_lines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="images are built and run on Linux"),
    pytest.mark.timeout(3600),  # the first test that asks for an image builds it
]

MAX_MB_BEYOND_BASE = 250  # of CPU images
CPU_IMAGES = ("cpu", "lambda-cpu")
SERVERS = ("cpu", "gpu")
GGUF_IMAGES = ("cpu", "lambda-cpu", "ray")
ASKED = {"role": "user", "content": "What is 7 + 5?"}
QUESTION = {"model": "grist", "temperature": 0, "messages": [ASKED]}
ANSWER = "7 + 5 = 12"
RAY_APPLICATION = "pagemill_handlers.ray_serve:build_app"
KERNELS = (
    "from pagemill.backends.gguf.library import load_library; load_library();"
    "print({line.split('/')[-1].strip() for line in open('/proc/self/maps') if 'libggml-cpu' in line})"
)

Built = Callable[[str], Image]


@contextmanager
def serving(image: Image, folder: Path) -> Iterator[tuple[RunningImage, httpx.Client]]:
    """The image as it comes, but on the loopback and a free port, with a client once it is ready."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with (
        running(image, log_file=folder / "log", variables=loopback(port)) as container,
        httpx.Client(base_url=address, trust_env=False, timeout=60) as client,
    ):
        container.wait_ready(address)
        yield container, client


def loopback(port: int) -> dict[str, str]:
    return {"PORT": str(port), "PAGEMILL_HOST": "127.0.0.1"}


def tools_of(folder: Path, **programs: Path) -> Path:
    """A folder with the programs by these names, that the image's user can read; pytest's own can't be."""
    tools = folder / "tools"
    tools.mkdir()
    tools.chmod(0o755)
    for name, program in programs.items():
        shutil.copy(program, tools / name)
    return tools


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("name", CPU_IMAGES)
def test_a_cpu_image_adds_little_to_its_base(name: str, built: Built, shelf: Shelf) -> None:
    built(name)
    assert shelf.sizes_mb()[name]["beyond base"] <= MAX_MB_BEYOND_BASE


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_answers_whole_and_streamed(name: str, built: Built, tmp_path: Path) -> None:
    image = built(name)
    assert image.environment["PAGEMILL_HOST"] == "0.0.0.0"
    assert image.environment["PORT"] == "8080"
    with serving(image, tmp_path) as (_, client):
        whole = client.post("/v1/chat/completions", json=QUESTION).json()
        with client.stream("POST", "/v1/chat/completions", json={**QUESTION, "stream": True}) as response:
            text = "".join(message["choices"][0]["delta"].get("content") or "" for message in stream_lines(response))
        assert client.get("/ping").status_code == 200
    assert whole["choices"][0]["message"]["content"] == text == ANSWER


@pytest.mark.parametrize("name", SERVERS)
def test_sigterm_during_a_stream_lets_it_end(name: str, built: Built, tmp_path: Path) -> None:
    num_tokens = 1500
    request = {**QUESTION, "stream": True, "max_tokens": num_tokens, "ignore_eos": True}
    request["stream_options"] = {"include_usage": True}
    with serving(built(name), tmp_path) as (container, client):
        with client.stream("POST", "/v1/chat/completions", json=request) as response:
            messages = stream_lines(response)
            before = [next(messages) for _ in range(5)]
            container.signal(signal.SIGTERM)
            after = list(messages)
        assert container.process.wait(30) == 0, container.log
    assert after[-1]["usage"]["completion_tokens"] == num_tokens
    assert len(after) > 10 * len(before), "the stream had ended when the signal came"
    assert container.log.count("Traceback") == 0


@pytest.mark.parametrize("name", SERVERS)
def test_sagemakers_argument_is_understood(name: str, built: Built, tmp_path: Path) -> None:
    image, port = built(name), free_port()
    with running(image, "serve", log_file=tmp_path / "log", variables=loopback(port)) as container:
        container.wait_ready(f"http://127.0.0.1:{port}")


@contextmanager
def invoked(image: Image, folder: Path, mode: str) -> Iterator[tuple[RunningImage, Callable[[Any], httpx.Response]]]:
    """The image under AWS's emulator, and what sends it an event."""
    tools = tools_of(folder, rie=emulator())
    port, api_port = free_port(), free_port()
    addresses = {"--runtime-interface-emulator-address": port, "--runtime-api-address": api_port}
    options = [part for name, own in addresses.items() for part in (name, f"127.0.0.1:{own}")]
    command = [f"{TOOLS}/rie", *options, *image.config["Entrypoint"]]
    variables = {"PAGEMILL_LAMBDA_MODE": mode}
    with (
        running(image, log_file=folder / "log", entrypoint=command, tools=tools, variables=variables) as container,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client,
    ):
        wait_listening(container, port)
        yield container, lambda event: client.post(INVOKE, json=event)


def test_lambda_answers_the_four_kinds_of_events_under_awss_emulator(built: Built, tmp_path: Path) -> None:
    with invoked(built("lambda-cpu"), tmp_path, "buffered") as (container, invoke):
        for kind in KINDS:
            answer = invoke(event(kind, QUESTION)).json()
            assert json.loads(answer["body"])["choices"][0]["message"]["content"] == ANSWER, container.log
        container.signal(signal.SIGTERM)
        container.process.wait(20)
    assert "shutting down; 0 requests" in container.log


def test_lambda_streams_under_awss_emulator(built: Built, tmp_path: Path) -> None:
    with invoked(built("lambda-cpu"), tmp_path, "streamed") as (_, invoke):
        content = invoke(event("function_url", {**QUESTION, "stream": True})).content
    prelude, _, stream = content.partition(bytes(8))
    assert json.loads(prelude)["statusCode"] == 200
    assert stream.endswith(b"data: [DONE]\n\n")


def test_lambda_needs_no_certain_user(built: Built) -> None:
    # Lambda runs an image as a user of its own.
    command = ("python", "-m", "pagemill", "run", "grist", "What is 7 + 5?")
    assert output_of(built("lambda-cpu"), *command, user="993:990").strip() == ANSWER


@pytest.mark.parametrize("name", GGUF_IMAGES)
def test_the_kernels_for_this_cpu_are_chosen_as_llama_cpp_would_choose(name: str, built: Built) -> None:
    image = built(name)
    libraries = set(image.root.glob("opt/pagemill/lib/python3*/site-packages/llama_cpp/lib/libggml-cpu-*.so"))
    assert {f"libggml-cpu-{kind}.so" for kind in BEST_CPUS} < {path.name for path in libraries}
    ours = output_of(image, "python", "-c", KERNELS)
    theirs = output_of(image, "python", "-c", "import pagemill.backends.gguf.library as l; l.BEST_CPUS = ();" + KERNELS)
    assert ours == theirs
    assert ours.count("libggml-cpu") == 1


@pytest.mark.parametrize("name", GGUF_IMAGES)
def test_it_runs_on_a_cpu_with_avx2_and_no_more(name: str, built: Built, tmp_path: Path) -> None:
    """QEMU emulates no AVX-512 at all: an instruction of it would be a SIGILL, as on such a CPU."""
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None:
        pytest.skip("no qemu-x86_64-static on the PATH (Debian: qemu-user-static)")
    image, tools = built(name), tools_of(tmp_path, qemu=Path(qemu))
    emulated = (f"{TOOLS}/qemu", "-cpu", "Haswell", "/opt/pagemill/bin/python")
    assert "{'libggml-cpu-haswell.so'}" in output_of(image, *emulated, "-c", KERNELS, tools=tools)
    told = output_of(image, *emulated, "-m", "pagemill", "run", "grist", "What is 7 + 5?", tools=tools)
    assert told.strip() == ANSWER


def test_a_model_and_the_kv_of_its_prefix_can_be_baked_in(built: Built, shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(DEMO_FOLDER / "grist/grist-q8_0.gguf", folder / "model.gguf")
    system = {"role": "system", "content": "Answer in as few words as you can. " * 20}
    (folder / "prompt.json").write_text(json.dumps({"messages": [system]}))
    request = {**QUESTION, "model": "model", "messages": [system, ASKED]}
    with shelf.baked(built("cpu"), folder, "model.gguf") as image, serving(image, tmp_path) as (_, client):
        answer = client.post("/v1/chat/completions", json=request).json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 100, "the first request found no prefix"


@pytest.mark.parametrize("name", ["gpu"])
def test_pytorch_has_its_kernels_without_a_compiler(name: str, built: Built, tmp_path: Path) -> None:
    image = built(name)
    find = "from pagemill.backends.paged.native.library import load_kernels; print(load_kernels()._name)"
    assert "/prebuilt/" in output_of(image, "python", "-c", find)
    assert list(image.root.glob("opt/pagemill/lib/**/prebuilt/triton/*/cuda_utils*.so"))
    with serving(image, tmp_path) as (container, client):
        client.post("/v1/chat/completions", json=QUESTION).raise_for_status()
    assert "compiler" not in container.log


def test_a_ray_node_serves(built: Built, tmp_path: Path) -> None:
    image, port = built("ray"), free_port()
    assert image.environment["RAY_SERVE_DEFAULT_HTTP_HOST"] == "0.0.0.0"
    assert image.config["Cmd"] == [RAY_APPLICATION]
    config = tmp_path / "serve.yaml"
    listening = {"host": "127.0.0.1", "port": port}
    applications = [{"name": "pagemill", "route_prefix": "/", "import_path": RAY_APPLICATION}]
    config.write_text(json.dumps({"http_options": listening, "applications": applications}))  # JSON is YAML
    tools, address = tools_of(tmp_path, config=config), f"http://127.0.0.1:{port}"
    with running(image, f"{TOOLS}/config", log_file=tmp_path / "log", tools=tools) as container:
        container.wait_ready(address)
        answer = httpx.post(f"{address}/v1/chat/completions", json=QUESTION, trust_env=False, timeout=60).json()
        container.signal(signal.SIGINT)
        assert container.process.wait(60) == 0, container.log
    assert answer["choices"][0]["message"]["content"] == ANSWER


def test_a_ray_node_has_what_kuberay_asks_of_it(built: Built) -> None:
    image = built("ray")
    assert "ray, version" in output_of(
        image, "bash", "-lc", "--", "ray --version"
    )  # a login shell has a PATH of its own
    assert "GNU Wget" in output_of(image, "wget", "--version")


def wait_listening(container: RunningImage, port: int) -> None:
    for _ in range(400):
        assert container.process.poll() is None, container.log
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens: {container.log}")
