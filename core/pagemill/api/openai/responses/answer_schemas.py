"""JSON schemas of what `/v1/responses` answers. Owns no state."""

from collections.abc import Mapping

from pagemill.api.documentation import (
    ANYTHING,
    BOOLEAN,
    INTEGER,
    NULL,
    NUMBER,
    OBJECT,
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

ITEM = {"id": TEXT, "status": one_of("in_progress", "completed", "incomplete")}
EVENT = {"output_index": INTEGER, "sequence_number": INTEGER}
PART_EVENT = {**EVENT, "item_id": TEXT, "content_index": INTEGER}
SUMMARY_EVENT = {**EVENT, "item_id": TEXT, "summary_index": INTEGER}
LOGPROBS = list_of(ref("openai.TokenLogprob"))
SUMMARY = record({"type": one_of("summary_text"), "text": TEXT})
THOUGHT = record({"type": one_of("reasoning_text"), "text": TEXT})

SCHEMAS: Mapping[str, Schema] = {
    "OutputText": record(
        {"type": one_of("output_text"), "annotations": list_of(ANYTHING), "logprobs": LOGPROBS, "text": TEXT}
    ),
    "OutputItem": any_of(
        record(
            {
                **ITEM,
                "type": one_of("message"),
                "role": one_of("assistant"),
                "content": list_of(ref("openai.OutputText")),
            }
        ),
        record(
            {**ITEM, "type": one_of("reasoning"), "summary": list_of(SUMMARY)},
            {"content": list_of(THOUGHT), "encrypted_content": TEXT},
        ),
        record({**ITEM, "type": one_of("function_call"), "call_id": TEXT, "name": TEXT, "arguments": TEXT}),
    ),
    "ResponseUsage": record(
        {
            "input_tokens": INTEGER,
            "input_tokens_details": record({"cached_tokens": INTEGER, "cache_write_tokens": INTEGER}),
            "output_tokens": INTEGER,
            "output_tokens_details": record({"reasoning_tokens": INTEGER}),
            "total_tokens": INTEGER,
        }
    ),
    "Response": record(
        {
            "id": TEXT,
            "object": one_of("response"),
            "created_at": INTEGER,
            "model": TEXT,
            "status": one_of("in_progress", "completed", "incomplete", "failed"),
            "error": nullable(record({"code": TEXT, "message": TEXT})),
            "incomplete_details": nullable(record({"reason": one_of("max_output_tokens")})),
            "output": list_of(ref("openai.OutputItem")),
            "usage": nullable(ref("openai.ResponseUsage")),
            "instructions": nullable(TEXT),
            "max_output_tokens": nullable(INTEGER),
            "temperature": NUMBER,
            "top_p": NUMBER,
            "top_logprobs": INTEGER,
            "tools": list_of(
                record(
                    {
                        "type": one_of("function"),
                        "name": TEXT,
                        "description": nullable(TEXT),
                        "parameters": nullable(OBJECT),
                        "strict": BOOLEAN,
                    }
                )
            ),
            "tool_choice": any_of(TEXT, OBJECT),
            "parallel_tool_calls": BOOLEAN,
            "text": record({"format": OBJECT, "verbosity": one_of("medium")}),
            "reasoning": record({"effort": nullable(TEXT), "summary": nullable(TEXT)}),
            "truncation": one_of("auto", "disabled"),
            "metadata": mapping(TEXT),
            "user": nullable(TEXT),
            "safety_identifier": nullable(TEXT),
            "prompt_cache_key": nullable(TEXT),
            "service_tier": one_of("default"),
            "store": {"const": False},
            "background": {"const": False},
            "previous_response_id": NULL,
            "max_tool_calls": NULL,
        },
        {"completed_at": INTEGER},
    ),
    "ResponseEvent": any_of(
        record(
            {
                "type": one_of(
                    "response.created",
                    "response.in_progress",
                    "response.completed",
                    "response.incomplete",
                    "response.failed",
                ),
                "sequence_number": INTEGER,
                "response": ref("openai.Response"),
            }
        ),
        record(
            {
                **EVENT,
                "type": one_of("response.output_item.added", "response.output_item.done"),
                "item": ref("openai.OutputItem"),
            }
        ),
        record(
            {
                **PART_EVENT,
                "type": one_of("response.content_part.added", "response.content_part.done"),
                "part": any_of(ref("openai.OutputText"), THOUGHT),
            }
        ),
        record(
            {**PART_EVENT, "type": one_of("response.output_text.delta"), "delta": TEXT, "logprobs": LOGPROBS},
        ),
        record({**PART_EVENT, "type": one_of("response.output_text.done"), "text": TEXT, "logprobs": LOGPROBS}),
        record({**PART_EVENT, "type": one_of("response.reasoning_text.delta"), "delta": TEXT}),
        record({**PART_EVENT, "type": one_of("response.reasoning_text.done"), "text": TEXT}),
        record(
            {
                **SUMMARY_EVENT,
                "type": one_of("response.reasoning_summary_part.added", "response.reasoning_summary_part.done"),
                "part": SUMMARY,
            }
        ),
        record({**SUMMARY_EVENT, "type": one_of("response.reasoning_summary_text.delta"), "delta": TEXT}),
        record({**SUMMARY_EVENT, "type": one_of("response.reasoning_summary_text.done"), "text": TEXT}),
        record(
            {**EVENT, "item_id": TEXT, "type": one_of("response.function_call_arguments.delta"), "delta": TEXT},
        ),
        record(
            {
                **EVENT,
                "item_id": TEXT,
                "type": one_of("response.function_call_arguments.done"),
                "name": TEXT,
                "arguments": TEXT,
            }
        ),
        record(
            {
                "type": one_of("error"),
                "code": TEXT,
                "message": TEXT,
                "param": nullable(TEXT),
                "sequence_number": INTEGER,
            }
        ),
    ),
}
