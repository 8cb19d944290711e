"""Every setting of a Pagemill process, frozen. `settings_layers` reads them once.

Owns no state. Each field is at once a command-line flag (`--max-model-len`), an environment variable
(`PAGEMILL_MAX_MODEL_LEN`) and a key of the TOML file (`max_model_len`); its description is the flag's help. Names are
vLLM's where vLLM has the thing.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pagemill.parser_names import ReasoningParser, ToolCallParser
from pagemill.settings_checks import check_settings
from pagemill.validated import Validated, field

SECRETS = frozenset({"api_key", "registry_tokens", "ssl_keyfile_password"})  # no message or log shows their values
# For an app whose callers someone else has let in, whatever the environment says of a server: no keys, no limits.
UNGUARDED: Mapping[str, Any] = {
    "api_key": (),
    "api_key_file": None,
    "max_requests_per_minute": 0,
    "max_concurrent_requests": 0,
}


class Settings(Validated):
    """The settings of one server or in-process engine. Units are in the names or descriptions."""

    # What is served
    model: str = field(
        "grist",
        description="what to serve: grist (the demo model that ships inside), a .gguf path, a Hugging Face folder, or "
        "either in S3: s3://bucket/key.gguf, s3://bucket/prefix/",
    )
    further_models: tuple[str, ...] = field((), description="more of them, loaded when they are asked for")
    models_dir: str | None = field(
        None,
        description="folder whose GGUF files and model folders are served by their names, loaded when they are asked "
        "for; without MODEL, these alone",
    )
    served_model_name: tuple[str, ...] = field(
        (), description="names that clients may call MODEL; the first is the one reported (default: from MODEL)"
    )
    backend: Literal["auto", "gguf", "paged", "fake"] = field(
        "auto",
        description="what runs the model: gguf is llama.cpp, paged is PyTorch, fake a scripted one for load tests; "
        "auto chooses by the model's files",
    )
    runner: Literal["auto", "generate", "pooling"] = field(
        "auto",
        description="what the model is run for: generate is text, pooling embeddings or scores; auto: as its files say",
    )
    chat_template: str | None = field(None, description="file with a Jinja chat template, instead of the model's own")
    tool_call_parser: ToolCallParser = field(
        "auto", description="how the model writes tool calls; auto: as its chat template shows"
    )
    reasoning_parser: ReasoningParser = field(
        "auto", description="how the model marks its reasoning; auto: as its chat template shows"
    )
    keep_alive: str = field(
        "-1", description='how long an idle model stays loaded: seconds, or "5m"; negative: for ever; 0: not at all'
    )
    memory_budget_bytes: int | None = field(
        None,
        ge=1,
        description="most memory that this process may take with the models it has loaded: idle ones make room for "
        "others (default: with several models nine tenths of what is free at the start; on a GPU by "
        "gpu_memory_utilization)",
    )
    max_loaded_models: int | None = field(
        None, ge=1, description="most models that are loaded at once (default: as many as the memory holds)"
    )

    # How the model gets here
    download_dir: str | None = field(
        None,
        description="folder for models fetched from S3, which later starts use again; memory: they are only kept there "
        "(default: ~/.cache/pagemill/models, memory if that can't be written)",
    )
    download_concurrency: int = field(16, ge=1, le=256, description="connections of a fetch")
    download_part_bytes: int | None = field(
        None, ge=2**16, description="bytes that one request asks for (default: 8 to 64 MiB, by the size of the file)"
    )
    download_timeout_s: float = field(20, gt=0, description="longest time that a connection may bring nothing")
    download_retries: int = field(8, ge=0, description="how often a request is tried again that brought nothing")
    model_sha256: str | None = field(
        None, description="SHA-256 that the GGUF file must have, in hex (default: what is fetched must be as S3 says)"
    )
    prefault: bool = field(
        False, description="read the model's files ahead by several threads while they are mapped; for slow disks"
    )
    registries: tuple[str, ...] = field(
        ("registry.ollama.ai", "hf.co", "huggingface.co"),
        description="hosts that models may be pulled from into models_dir; * is any",
    )
    quantization_buffer_bytes: int = field(
        2**28, ge=2**20, description="memory for the rows of tensors that a quantization works on at once"
    )
    registry_tokens: tuple[str, ...] = field(
        (),
        description="HOST=TOKEN: what a registry is shown, for private and gated models (default: HF_TOKEN, if that is "
        "set, for Hugging Face)",
    )

    # Where it listens
    host: str = field("127.0.0.1", description="address to bind")
    port: int = field(11434, ge=0, le=65535, description="port to bind; 0 takes a free one and logs it")
    uds: str | None = field(None, description="Unix socket to bind instead of host and port")
    health_port: int | None = field(
        None,
        ge=0,
        le=65535,
        description="further port, on host, for the probes and nothing else (default: none; port answers them)",
    )
    root_path: str = field("", description="path prefix, when behind a proxy that strips one")
    ping_loading_status: int = field(
        503, ge=200, le=599, description="status of /ping while the model loads; where RunPod is recognised, 204"
    )
    ui: bool = field(True, description="a chat page for browsers at /ui")
    log_level: Literal["debug", "info", "warning", "error"] = field("info", description="least level that is logged")
    otlp_traces_endpoint: str | None = field(
        None,
        description="collector of OpenTelemetry traces, as http://localhost:4318/v1/traces (default: none)",
    )
    ssl_certfile: str | None = field(None, description="certificate chain in PEM: HTTPS instead of HTTP")
    ssl_keyfile: str | None = field(None, description="its private key (default: in ssl_certfile)")
    ssl_keyfile_password: str | None = field(None, description="password of the private key")
    ssl_ca_certs: str | None = field(None, description="authorities in PEM whose certificates clients may show")
    ssl_cert_reqs: Literal["none", "optional", "required"] = field(
        "none", description="whether clients must show a certificate"
    )

    # Who may ask
    api_key: tuple[str, ...] = field((), description="keys of which every request but probes must carry one")
    api_key_file: str | None = field(None, description="file with further keys, one a line; read again when it changes")
    manage_models: bool | None = field(
        None,
        description="whether clients may pull, create, copy and delete models in models_dir (default: if they need an "
        "API key, or if the server listens on this machine alone)",
    )
    allowed_origins: tuple[str, ...] = field(
        (), description="origins whose web pages may ask (CORS), as https://chat.example.com, http://localhost:*, *"
    )
    allowed_hosts: tuple[str, ...] = field(
        (),
        description="names in the Host header that are served (default: on a loopback address this machine's, else "
        "all); * is any",
    )
    forwarded_allow_ips: tuple[str, ...] = field(
        ("127.0.0.1",), description="proxies whose X-Forwarded-For and -Proto are believed; * is any"
    )
    max_requests_per_minute: int = field(
        0, ge=0, description="most requests of one key, or without keys of one address, in a minute; 0: no limit"
    )
    max_concurrent_requests: int = field(
        0, ge=0, description="most requests of one key, or without keys of one address, at once; 0: no limit"
    )

    # The engine
    max_model_len: int | None = field(
        None,
        ge=1,
        description="longest sequence, prompt and output, in tokens (default: the model's; at most 8192 on gguf, which "
        "reserves it for each sequence)",
    )
    max_num_seqs: int | None = field(
        None,
        ge=1,
        le=4096,
        description="most sequences that run at once (default: 16, fewer if memory is short; paged: 64, on a GPU 256)",
    )
    max_num_batched_tokens: int | None = field(
        None, ge=1, description="most tokens in one step; prompts are cut into chunks (default: 512, on a GPU 2048)"
    )
    max_num_queued_reqs: int = field(512, ge=0, description="most requests that wait; further ones are answered 503")
    enable_prefix_caching: bool = field(True, description="reuse the KV of prompts that begin alike")
    context_shift: bool = field(
        False,
        description="let answers to Ollama requests that say nothing of `shift` go on when their context is full: its "
        "older half is dropped",
    )
    max_shifted_contexts: int = field(
        10, ge=1, description="longest answer that goes on when its context is full, in lengths of that context"
    )
    prefix_snapshot: tuple[str, ...] = field(
        ("auto",),
        description="files of `pagemill snapshot` to start with; auto: the one beside the model, if there is one that "
        "fits; off: none",
    )
    threads: int | None = field(
        None, ge=1, description="CPU threads for inference (default: the cores of this machine)"
    )
    kv_cache_dtype: Literal["auto", "f16", "q8_0", "q4_0", "fp8"] = field(
        "auto", description="type of cached keys and values; fp8 is for paged on a GPU, the other names are gguf's"
    )
    kv_cache_memory_bytes: int | None = field(
        None,
        ge=1,
        description="most memory for the KV cache (default: 4 GiB, at most half of what is free; on a GPU by "
        "gpu_memory_utilization)",
    )

    # The gguf backend
    flash_attn: Literal["auto", "on", "off"] = field("auto", description="flash attention")
    mmap: bool = field(True, description="map the model file into memory instead of reading it")
    mlock: bool = field(False, description="keep the model from being swapped out")

    # The paged backend
    device: Literal["auto", "cpu", "cuda"] = field(
        "auto", description="where to compute; auto: on a GPU if there is one"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = field(
        "auto", description="type of weights and activations; auto: the checkpoint's"
    )
    block_size: int = field(
        16, ge=8, le=256, multiple_of=8, description="tokens in a page of the KV cache, a multiple of 8"
    )
    gpu_memory_utilization: float = field(
        0.9,
        gt=0,
        le=1,
        description="part of the GPU's memory that this server may take: weights, KV cache and all else",
    )
    enforce_eager: bool = field(False, description="never use CUDA graphs")
    async_scheduling: bool | None = field(
        None, description="prepare a step while the one before it runs (default: on a GPU)"
    )
    attention_backend: Literal["auto", "torch", "cpu", "triton", "varlen"] = field(
        "auto", description="kernels for attention: cpu and triton are our own; torch runs everywhere"
    )
    model_impl: Literal["auto", "pagemill", "transformers"] = field(
        "auto", description="model definition; auto: our own, for other architectures that of transformers"
    )

    # Limits on requests
    max_header_bytes: int = field(
        64 * 2**10, ge=1024, description="largest address and headers of a request; larger ones are answered 431"
    )
    max_body_bytes: int = field(16 * 2**20, ge=1, description="largest request body; larger ones are answered 413")
    max_blob_bytes: int = field(
        0, ge=0, description="largest model file that may be sent to /api/blobs; 0: no limit but the disk"
    )
    max_n: int = field(128, ge=1, description="most completions of one prompt (n)")
    max_prompts: int = field(128, ge=1, description="most prompts in one request")
    max_embedding_inputs: int = field(
        2048, ge=1, description="most texts in one request for embeddings, scores or a ranking"
    )
    max_messages: int = field(4096, ge=1, description="most messages in one chat request")
    max_tools: int = field(512, ge=1, description="most tools in one chat request")
    max_stop: int = field(32, ge=0, description="most stop strings or stop tokens in one request")
    max_logprobs: int = field(20, ge=0, description="most alternatives for a token's logprobs")
    max_logit_bias: int = field(1024, ge=0, description="most entries in logit_bias, allowed_token_ids or bad_words")
    max_grammar_bytes: int = field(
        128 * 2**10, ge=1, description="largest JSON schema, pattern, list of choices or grammar of a request"
    )
    max_grammar_items: int = field(
        5000, ge=10, description="most work of a format's parser for one token, in items: ambiguous grammars take many"
    )
    max_grammar_fuel: int = field(
        200_000, ge=1000, description="most work of a format's lexer for one token, in expressions that it makes"
    )
    max_grammar_states: int = field(
        50_000, ge=100, description="most states of a format's lexer along one output, a kilobyte or two each"
    )
    max_grammar_ms: float = field(
        5.0, gt=0, description="longest CPU time that a format may take a token, averaged over the output"
    )
    grammar_cache_size: int = field(64, ge=0, description="compiled formats that are kept for each model")
    request_timeout_s: float = field(0, ge=0, description="longest time a request may take; 0: no limit")
    drain_timeout_s: float = field(30, ge=0, description="time that running requests get to end at shutdown")
    retry_after_s: int = field(1, ge=1, description="the Retry-After that a 503 carries")

    @property
    def names_model(self) -> bool:
        """Whether there is a MODEL: one that was named, or the default."""
        return "model" in self.given_fields or self.models_dir is None

    @property
    def needs_key(self) -> bool:
        """Whether clients must send an API key."""
        return bool(self.api_key) or self.api_key_file is not None

    @property
    def has_several_models(self) -> bool:
        return bool(self.further_models) or self.models_dir is not None

    def check_together(self) -> None:
        check_settings(self)
