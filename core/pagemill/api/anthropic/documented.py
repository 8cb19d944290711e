"""What the OpenAPI document says of the Anthropic dialect. Owns no state. The routes that it shares are OpenAI's."""

from pagemill.api.anthropic.message import SIGNATURE
from pagemill.api.anthropic.requests import CountTokensRequest, MessagesRequest
from pagemill.api.documentation import (
    BOOLEAN,
    INTEGER,
    NULL,
    OBJECT,
    SSE,
    TEXT,
    TIME,
    Dialect,
    Operation,
    answered,
    any_of,
    event,
    list_of,
    nullable,
    one_of,
    record,
    ref,
)
from pagemill.api.errors import ANTHROPIC_TYPES

EXAMPLE = {"model": "grist", "messages": [{"role": "user", "content": "Hello!"}]}

ANTHROPIC = Dialect(
    "anthropic",
    "What Anthropic's clients speak.",
    {
        "POST /v1/messages": Operation(
            "Answer a conversation",
            answered("anthropic.Answer", {SSE: ref("anthropic.AnswerEvent")}),
            body=MessagesRequest,
            example={**EXAMPLE, "max_tokens": 50},
        ),
        "POST /v1/messages/count_tokens": Operation(
            "How many tokens a conversation's prompt has",
            answered("anthropic.TokenCount"),
            body=CountTokensRequest,
            example=EXAMPLE,
        ),
    },
    {
        "Error": record(
            {
                "type": one_of("error"),
                "error": record(
                    {
                        "type": one_of(*ANTHROPIC_TYPES.values(), "api_error", "invalid_request_error"),
                        "message": TEXT,
                    },
                    {"details": record({"error_code": TEXT})},
                ),
                "request_id": TEXT,
            }
        ),
        "TokenCount": record({"input_tokens": INTEGER}),
        "Usage": record(
            {
                "input_tokens": INTEGER,
                "cache_creation_input_tokens": INTEGER,
                "cache_read_input_tokens": INTEGER,
                "output_tokens": INTEGER,
                "output_tokens_details": record({"thinking_tokens": INTEGER}),
            },
            {"service_tier": one_of("standard")},
        ),
        "TextBlock": record({"type": one_of("text"), "text": TEXT}),
        "ThinkingBlock": record(
            {"type": one_of("thinking"), "thinking": TEXT, "signature": one_of(SIGNATURE, "")},
        ),
        "ToolUseBlock": record({"type": one_of("tool_use"), "id": TEXT, "name": TEXT, "input": OBJECT}),
        "Block": any_of(ref("anthropic.TextBlock"), ref("anthropic.ThinkingBlock"), ref("anthropic.ToolUseBlock")),
        "Stop": record(
            {
                "stop_reason": any_of(
                    one_of("end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"), NULL
                ),
                "stop_sequence": nullable(TEXT),
            }
        ),
        "Answer": record(
            {
                "id": TEXT,
                "type": one_of("message"),
                "role": one_of("assistant"),
                "model": TEXT,
                "content": list_of(ref("anthropic.Block")),
                "stop_reason": nullable(TEXT),
                "stop_sequence": nullable(TEXT),
                "usage": ref("anthropic.Usage"),
            }
        ),
        "Delta": any_of(
            record({"type": one_of("text_delta"), "text": TEXT}),
            record({"type": one_of("thinking_delta"), "thinking": TEXT}),
            record({"type": one_of("signature_delta"), "signature": TEXT}),
            record({"type": one_of("input_json_delta"), "partial_json": TEXT}),
        ),
        "AnswerEvent": any_of(
            record({"type": one_of("message_start"), "message": ref("anthropic.Answer")}),
            event("ping", "message_stop"),
            record({"type": one_of("content_block_start"), "index": INTEGER, "content_block": ref("anthropic.Block")}),
            record({"type": one_of("content_block_delta"), "index": INTEGER, "delta": ref("anthropic.Delta")}),
            record({"type": one_of("content_block_stop"), "index": INTEGER}),
            record({"type": one_of("message_delta"), "delta": ref("anthropic.Stop"), "usage": ref("anthropic.Usage")}),
            ref("anthropic.Error"),
        ),
        "Model": record(
            {
                "type": one_of("model"),
                "id": TEXT,
                "display_name": TEXT,
                "created_at": TIME,
                "lifecycle": one_of("active"),
                "max_input_tokens": nullable(INTEGER),
                "max_tokens": nullable(INTEGER),
            }
        ),
        "Models": record(
            {
                "data": list_of(ref("anthropic.Model")),
                "has_more": BOOLEAN,
                "first_id": nullable(TEXT),
                "last_id": nullable(TEXT),
            }
        ),
    },
)
