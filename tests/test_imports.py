"""What an import must not load: start-up time, and tiers that work without each other's dependencies, hang on it."""

import subprocess
import sys

import pytest

SHOW_LOADED = "import sys; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"


def loaded_by(statement: str) -> set[str]:
    """The top-level modules of a fresh interpreter after the statement."""
    command = [sys.executable, "-c", f"{statement}\n{SHOW_LOADED}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        pytest.param(
            "import pagemill", {"llama_cpp", "torch", "numpy", "starlette", "pydantic", "asyncio"}, id="the package"
        ),
        pytest.param(
            "import pagemill.backends.gguf.backend, llama_cpp",
            {"torch", "transformers", "safetensors", "tokenizers"},
            id="the GGUF path",
        ),
        pytest.param(
            "import pagemill.backends.paged.backend, pagemill.backends.paged.decoder_loading",
            {"llama_cpp", "transformers", "triton", "starlette", "pydantic"},
            id="the paged path",
        ),
        pytest.param(
            "import pagemill.bootstrap, pagemill.pool, pagemill.backends.gguf.backend, pagemill.backends.fake",
            {"llama_cpp", "torch", "transformers", "numpy", "starlette", "uvicorn", "httpx", "rich", "jinja2", "boto3"},
            id="everything before a model is loaded",
        ),
        pytest.param(
            "from pagemill.store.references import resolve; resolve('s3://bucket/key.gguf')",
            {"boto3", "botocore", "urllib3", "asyncio", "llama_cpp"},
            id="the name of a model in S3",
        ),
        pytest.param(
            "import pagemill.engine.engine, pagemill.engine.step_loop, pagemill.engine.scheduler",
            {"llama_cpp", "torch", "numpy", "starlette", "httpx", "pydantic"},
            id="the engine",
        ),
        pytest.param(
            "import pagemill.cli.main",
            {"pydantic", "asyncio", "torch", "rich", "httpx", "prompt_toolkit", "starlette"},
            id="the command before its verb is known",
        ),
        pytest.param(
            "import pagemill.cli.serve, pagemill.cli.http_server, pagemill.api.app",
            {
                "llama_cpp",
                "torch",
                "numpy",
                "rich",
                "prompt_toolkit",
                "httpx",
                "prometheus_client",
                "jinja2",
                "pydantic",
                "click",
                "multiprocessing",
            },
            id="the server before its first request",
        ),
        pytest.param(
            "import pagemill.api.openai.endpoints, pagemill.api.openai.chat, pagemill.api.openai.completion, "
            "pagemill.api.openai.chat_request, pagemill.api.ollama.requests, pagemill.api.operations.tokenization, "
            "pagemill.api.anthropic.endpoints, pagemill.api.openai.responses.endpoint",
            {"pydantic", "numpy", "jinja2", "prometheus_client"},
            id="the bodies of requests",
        ),
        pytest.param(
            "import pagemill.cli.list, pagemill.cli.ps, pagemill.cli.stop, pagemill.cli.version, pagemill.cli.pull, "
            "pagemill.cli.cp, pagemill.cli.rm",
            {"pydantic", "starlette", "rich", "httpx", "prompt_toolkit"},
            id="the client verbs before they connect",
        ),
        pytest.param("import pagemill_handlers", {"pagemill", "starlette", "torch"}, id="the handlers"),
    ],
)
def test_import_loads_only_what_it_needs(statement: str, forbidden: set[str]) -> None:
    loaded = loaded_by(statement)
    assert loaded & forbidden == set()
    assert loaded & {"pagemill", "pagemill_handlers"}, "the statement imported nothing of ours"


def modules_loaded_by(statement: str) -> list[str]:
    """The full names of a fresh interpreter's modules after the statement."""
    command = [sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_of_packages_that_cost_much_to_import_only_the_modules_that_are_used_are() -> None:
    loaded = modules_loaded_by(
        "import pagemill.settings, pagemill.cli.http_server, pagemill.backends.gguf.library as l; l.load_library()"
    )
    assert {"llama_cpp.llama_cpp", "pydantic_core._pydantic_core", "uvicorn.server"} <= set(loaded)
    assert [name for name in loaded if name in ("llama_cpp", "llama_cpp.llama", "pydantic_core", "uvicorn")] == []
    assert "pydantic_core.core_schema" not in loaded


def test_a_dialect_is_imported_at_its_first_request() -> None:
    loaded = [name for name in modules_loaded_by("import pagemill.api.app") if name.startswith("pagemill.api.")]
    dialects = {"pagemill.api.anthropic", "pagemill.api.openai", "pagemill.api.ollama"}
    assert {*dialects, "pagemill.api.operations.probes"} <= set(loaded)
    assert [
        name for name in loaded if name.rpartition(".")[2] in ("endpoints", "requests", "fields", "tokenization")
    ] == []


@pytest.mark.parametrize(("vocab_size", "imports_numpy"), [(2**15, False), (2**15 + 1, True)])
def test_numpy_is_imported_by_a_load_only_if_the_vocabulary_is_large(vocab_size: int, imports_numpy: bool) -> None:
    statement = f"from pagemill.backends.gguf import sampler; sampler.import_what_greedy_needs({vocab_size})"
    assert ("numpy" in loaded_by(statement)) is imports_numpy


def test_a_start_without_a_prefix_snapshot_imports_nothing_of_them() -> None:
    loaded = modules_loaded_by(
        "import asyncio; from pagemill.bootstrap import load_model; from pagemill.settings import Settings; "
        "from pagemill.store.references import resolve; settings = Settings(model='fake'); "
        "asyncio.run(load_model(resolve('fake'), settings))"
    )
    assert "pagemill.engine.engine" in loaded
    assert [name for name in loaded if "snapshot" in name or name == "pagemill.engine.prefix"] == []


@pytest.mark.parametrize(("wanted", "imported"), [("", False), (', "format": "json"', True)])
def test_formats_are_imported_when_a_request_has_one_and_what_compiles_them_later(wanted: str, imported: bool) -> None:
    body = f'{{"messages": [{{"role": "user", "content": "hi"}}]{wanted}}}'
    loaded = modules_loaded_by(
        "import pagemill.api.openai.chat, pagemill.api.ollama.prompt, pagemill.api.ollama.requests as requests; "
        f"requests.ChatRequest.from_json({body!r}.encode()).output_format()"
    )
    assert ("pagemill.prompts.structured_output.formats" in loaded) is imported
    assert "llguidance" not in loaded


def test_a_plain_chat_loads_no_parser_of_tools_no_grammar_and_no_store_on_the_network() -> None:
    loaded = modules_loaded_by(
        "import pagemill.cli.serve, pagemill.bootstrap, pagemill.pool, pagemill.cli.http_server, pagemill.api.app, "
        "pagemill.engine.engine, pagemill.prompts.jinja_environment, pagemill.api.openai.endpoints, "
        "pagemill.api.openai.chat"
    )
    rare = (
        "pagemill.prompts.tools.",
        "pagemill.prompts.structured_output",
        "pagemill.api.tracing",
        "pagemill.store.s3",
    )
    assert [name for name in loaded if name.startswith((*rare, "llguidance", "boto", "opentelemetry"))] == []
