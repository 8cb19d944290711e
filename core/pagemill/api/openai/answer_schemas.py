"""JSON schemas of what the OpenAI dialect answers, all but `/v1/responses`. Owns no state."""

from collections.abc import Mapping

from pagemill.api.documentation import (
    INTEGER,
    NULL,
    NUMBER,
    TEXT,
    Schema,
    any_of,
    list_of,
    mapping,
    nullable,
    one_of,
    record,
    ref,
)

STOP_REASON = any_of(TEXT, INTEGER, NULL)  # the string or the token that ended it
ENVELOPE = {"id": TEXT, "created": INTEGER, "model": TEXT, "system_fingerprint": TEXT}
TOKEN: Mapping[str, Schema] = {"token": TEXT, "logprob": NUMBER, "bytes": list_of(INTEGER)}
TOKEN_IDS = list_of(INTEGER)
REASONING: Mapping[str, Schema] = {"reasoning": TEXT, "reasoning_content": TEXT}
CHAT_FINISH, TEXT_FINISH = one_of("stop", "length", "tool_calls"), one_of("stop", "length")

SCHEMAS: Mapping[str, Schema] = {
    "Error": record(
        {"error": record({"message": TEXT, "type": TEXT, "param": nullable(TEXT), "code": TEXT})},
    ),
    "Usage": record(
        {
            "prompt_tokens": INTEGER,
            "completion_tokens": INTEGER,
            "total_tokens": INTEGER,
            "prompt_tokens_details": record({"cached_tokens": INTEGER}),
            "completion_tokens_details": record({"reasoning_tokens": INTEGER}),
        }
    ),
    "TokenLogprob": record({**TOKEN, "top_logprobs": list_of(record(TOKEN))}),
    "ChatLogprobs": record({"content": list_of(ref("openai.TokenLogprob")), "refusal": NULL}),
    "TextLogprobs": record(
        {
            "text_offset": list_of(INTEGER),
            "token_logprobs": list_of(nullable(NUMBER)),
            "tokens": list_of(TEXT),
            "top_logprobs": list_of(nullable(mapping(NUMBER))),
        }
    ),
    "PromptLogprobs": list_of(
        nullable(mapping(record({"logprob": NUMBER, "rank": nullable(INTEGER), "decoded_token": TEXT})))
    ),
    "ToolCall": record(
        {"id": TEXT, "type": one_of("function"), "function": record({"name": TEXT, "arguments": TEXT})},
    ),
    "ToolCallDelta": record(
        {"index": INTEGER, "function": record({"arguments": TEXT}, {"name": TEXT})},
        {"id": TEXT, "type": one_of("function")},
    ),
    "ChatCompletion": record(
        {
            **ENVELOPE,
            "object": one_of("chat.completion"),
            "choices": list_of(
                record(
                    {
                        "index": INTEGER,
                        "message": record(
                            {"role": one_of("assistant"), "content": nullable(TEXT), "refusal": NULL},
                            {**REASONING, "tool_calls": list_of(ref("openai.ToolCall"))},
                        ),
                        "logprobs": nullable(ref("openai.ChatLogprobs")),
                        "finish_reason": CHAT_FINISH,
                        "stop_reason": STOP_REASON,
                    },
                    {"token_ids": TOKEN_IDS},
                )
            ),
            "usage": ref("openai.Usage"),
        },
        {"prompt_logprobs": ref("openai.PromptLogprobs"), "prompt_token_ids": TOKEN_IDS},
    ),
    "ChatCompletionChunk": any_of(
        record(
            {
                **ENVELOPE,
                "object": one_of("chat.completion.chunk"),
                "choices": list_of(
                    record(
                        {
                            "index": INTEGER,
                            "delta": record(
                                {},
                                {
                                    "role": one_of("assistant"),
                                    "content": TEXT,
                                    **REASONING,
                                    "tool_calls": list_of(ref("openai.ToolCallDelta")),
                                },
                            ),
                            "logprobs": nullable(ref("openai.ChatLogprobs")),
                            "finish_reason": nullable(CHAT_FINISH),
                        },
                        {"stop_reason": STOP_REASON, "token_ids": TOKEN_IDS},
                    )
                ),
            },
            {"usage": nullable(ref("openai.Usage")), "prompt_token_ids": TOKEN_IDS},
        ),
        ref("openai.Error"),
    ),
    "Completion": record(
        {
            **ENVELOPE,
            "object": one_of("text_completion"),
            "choices": list_of(
                record(
                    {
                        "index": INTEGER,
                        "text": TEXT,
                        "logprobs": nullable(ref("openai.TextLogprobs")),
                        "finish_reason": TEXT_FINISH,
                        "stop_reason": STOP_REASON,
                    },
                    {
                        "prompt_logprobs": ref("openai.PromptLogprobs"),
                        "prompt_token_ids": TOKEN_IDS,
                        "token_ids": TOKEN_IDS,
                    },
                )
            ),
            "usage": ref("openai.Usage"),
        }
    ),
    "CompletionChunk": any_of(
        record(
            {
                **ENVELOPE,
                "object": one_of("text_completion"),
                "choices": list_of(
                    record(
                        {
                            "index": INTEGER,
                            "text": TEXT,
                            "logprobs": nullable(ref("openai.TextLogprobs")),
                            "finish_reason": nullable(TEXT_FINISH),
                        },
                        {"stop_reason": STOP_REASON, "prompt_token_ids": TOKEN_IDS, "token_ids": TOKEN_IDS},
                    )
                ),
            },
            {"usage": nullable(ref("openai.Usage"))},
        ),
        ref("openai.Error"),
    ),
    "Model": record(
        {
            "id": TEXT,
            "object": one_of("model"),
            "created": INTEGER,
            "owned_by": TEXT,
            "root": TEXT,
            "parent": NULL,
            "max_model_len": nullable(INTEGER),
        }
    ),
    "Models": record({"object": one_of("list"), "data": list_of(ref("openai.Model"))}),
}
