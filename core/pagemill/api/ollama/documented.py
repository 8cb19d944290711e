"""What the OpenAPI document says of the Ollama dialect. Owns no state."""

from pagemill.api.documentation import (
    ANY_REQUEST,
    BOOLEAN,
    INTEGER,
    NDJSON,
    NUMBER,
    OBJECT,
    PLAIN,
    PROBE,
    TEXT,
    TIME,
    Answer,
    Dialect,
    Operation,
    answered,
    any_of,
    list_of,
    nullable,
    one_of,
    record,
    ref,
)
from pagemill.api.ollama.documented_store import STORE, STORE_SCHEMAS
from pagemill.api.ollama.embed import EmbeddingsRequest, EmbedRequest
from pagemill.api.ollama.requests import ChatRequest, GenerateRequest, ShowRequest

MODEL = "grist"
TOKEN = {"token": TEXT, "logprob": NUMBER, "bytes": list_of(INTEGER)}
LINE = {"model": TEXT, "created_at": TIME, "done": BOOLEAN}
LAST = {
    "logprobs": list_of(ref("ollama.TokenLogprob")),
    "done_reason": one_of("stop", "length", "load", "unload"),
    "total_duration": INTEGER,
    "load_duration": INTEGER,
    "prompt_eval_count": INTEGER,
    "prompt_eval_duration": INTEGER,
    "eval_count": INTEGER,
    "eval_duration": INTEGER,
}

OLLAMA = Dialect(
    "ollama",
    "What Ollama's clients speak. Durations are in nanoseconds.",
    {
        "GET /": Operation(
            "That this is Pagemill",
            {200: Answer("It says so.", {PLAIN: TEXT})},
            errors=[status for status in PROBE if status != 503],
            is_open=True,
        ),
        "GET /api/version": Operation("The version of the server", answered("ollama.Version"), errors=ANY_REQUEST),
        "GET /api/tags": Operation("The models that there are", answered("ollama.Tags"), errors=ANY_REQUEST),
        "GET /api/ps": Operation("The models that are loaded", answered("ollama.Processes"), errors=ANY_REQUEST),
        "POST /api/show": Operation(
            "What is known of a model", answered("ollama.Shown"), body=ShowRequest, example={"model": MODEL}
        ),
        "POST /api/generate": Operation(
            "Continue a text",
            answered("ollama.Generated", {NDJSON: any_of(ref("ollama.Generated"), ref("ollama.Error"))}),
            body=GenerateRequest,
            example={"model": MODEL, "prompt": "Once upon a time", "options": {"num_predict": 50}},
        ),
        "POST /api/chat": Operation(
            "Answer a conversation",
            answered("ollama.ChatAnswer", {NDJSON: any_of(ref("ollama.ChatAnswer"), ref("ollama.Error"))}),
            body=ChatRequest,
            example={"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]},
        ),
        "POST /api/embed": Operation(
            "Vectors of texts",
            answered("ollama.Embeddings"),
            body=EmbedRequest,
            example={"model": MODEL, "input": ["a pond", "a lake"]},
        ),
        "POST /api/embeddings": Operation(
            "The vector of a text",
            answered("ollama.Embedding"),
            body=EmbeddingsRequest,
            example={"model": MODEL, "prompt": "a pond"},
        ),
        **STORE,
    },
    {
        **STORE_SCHEMAS,
        "Error": record({"error": TEXT}),
        "Version": record({"version": TEXT}),
        "Details": record(
            {
                "parent_model": TEXT,
                "format": TEXT,
                "family": TEXT,
                "families": nullable(list_of(TEXT)),
                "parameter_size": TEXT,
                "quantization_level": TEXT,
            }
        ),
        "Tags": record(
            {
                "models": list_of(
                    record(
                        {"name": TEXT, "model": TEXT, "details": ref("ollama.Details")},
                        {"modified_at": TIME, "size": INTEGER, "digest": TEXT},
                    )
                )
            }
        ),
        "Processes": record(
            {
                "models": list_of(
                    record(
                        {
                            "name": TEXT,
                            "model": TEXT,
                            "size": INTEGER,
                            "digest": TEXT,
                            "details": ref("ollama.Details"),
                            "expires_at": TIME,
                            "size_vram": INTEGER,
                            "context_length": INTEGER,
                        }
                    )
                )
            }
        ),
        "Shown": record(
            {
                "modelfile": TEXT,
                "parameters": TEXT,
                "template": TEXT,
                "details": ref("ollama.Details"),
                "model_info": OBJECT,
                "capabilities": list_of(one_of("completion", "tools", "insert", "thinking", "embedding")),
                "modified_at": TIME,
            },
            {"license": TEXT, "system": TEXT, "messages": list_of(ref("ollama.ModelMessage"))},
        ),
        "ModelMessage": record({"role": one_of("system", "user", "assistant"), "content": TEXT}),
        "TokenLogprob": record(TOKEN, {"top_logprobs": list_of(record(TOKEN))}),
        "ToolCall": record({"id": TEXT, "function": record({"index": INTEGER, "name": TEXT, "arguments": OBJECT})}),
        "Generated": record({**LINE, "response": TEXT}, {**LAST, "thinking": TEXT, "context": list_of(INTEGER)}),
        "ChatAnswer": record(
            {
                **LINE,
                "message": record(
                    {"role": one_of("assistant"), "content": TEXT},
                    {"thinking": TEXT, "tool_calls": list_of(ref("ollama.ToolCall"))},
                ),
            },
            LAST,
        ),
        "Embeddings": record(
            {
                "model": TEXT,
                "embeddings": list_of(list_of(NUMBER)),
                "total_duration": INTEGER,
                "load_duration": INTEGER,
                "prompt_eval_count": INTEGER,
            }
        ),
        "Embedding": record({"embedding": list_of(NUMBER)}),
    },
)
