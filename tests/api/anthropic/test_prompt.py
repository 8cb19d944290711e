"""What becomes of a request's messages, system prompt and tools in the prompt."""

from typing import Any

import anthropic
import pytest

from pagemill.backends.base import decode
from pagemill.backends.fake import EOS, FakeBackend, FakeTokenizer
from support.api_server import Serve
from support.chat_scripts import THINKING_TEMPLATE, TOOL_TEMPLATE

TOOL = {"name": "f", "description": "Does f", "input_schema": {"type": "object", "properties": {}}}
CALL = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def prompts_of(serve: Serve, template: str, *bodies: dict[str, Any]) -> list[str]:
    """The prompts that the requests become; each must be as long as the dialect counts it."""
    prompts: list[str] = []

    def seen(prompt: tuple[int, ...]) -> list[int]:
        prompts.append(decode(FakeTokenizer(), prompt))
        counted.append(len(prompt))
        return [*b"</think>x", EOS]

    counted: list[int] = []
    server = serve(FakeBackend(reply=seen, chat_template=template))
    for body in bodies:
        response = server.post("/v1/messages", {"model": "fake", "max_tokens": 2000, **body})
        assert response.status_code == 200, response.text
        count = server.post("/v1/messages/count_tokens", {"model": "fake", **body})
        assert count.json() == {"input_tokens": counted[-1]}
        usage = response.json()["usage"]
        assert usage["input_tokens"] + usage["cache_read_input_tokens"] == counted[-1]
    return prompts


def test_a_conversation_with_tools_becomes_the_templates_messages(serve: Serve) -> None:
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "3", **CACHED}]}
    failed = {"type": "tool_result", "tool_use_id": "c2", "content": "no such city", "is_error": True, **CACHED}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "One", **CACHED}, {"type": "text", "text": "Two"}]},
        {"role": "user", "content": "Three"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "Let me."},
                CALL,
                {**CALL, "id": "c2", "name": "g"},
            ],
        },
        {"role": "user", "content": [result, failed, {"type": "text", "text": "Well?"}]},
    ]
    system = [{"type": "text", "text": "Be kind.", **CACHED}, {"type": "text", "text": "Be brief."}]
    (prompt,) = prompts_of(serve, TOOL_TEMPLATE, {"system": system, "messages": messages, "tools": [TOOL], **CACHED})
    assert '"function": {"name": "f", "description": "Does f", "parameters": {"type": "object"' in prompt
    assert "<|im_start|>system\nBe kind.\nBe brief.<|im_end|>" in prompt
    assert "<|im_start|>user\nOne\nTwo\nThree<|im_end|>" in prompt
    assert 'Let me.THOUGHT Hm.CALL c1 f {"a": 1}CALL c2 g {"a": 1}<|im_end|>' in prompt
    assert "<|im_start|>tool\n3OF c1 f<|im_end|>" in prompt
    assert "<|im_start|>tool\nError: no such cityOF c2 g<|im_end|>" in prompt
    assert prompt.endswith("<|im_start|>user\nWell?<|im_end|>\n<|im_start|>assistant\n")


def test_thinking_effort_and_budget_reach_the_template(serve: Serve) -> None:
    template = THINKING_TEMPLATE.replace(
        "{# {{ reasoning_effort }} #}", "EFFORT {{ reasoning_effort }} BUDGET {{ thinking_budget }}"
    )
    body = {"messages": [{"role": "user", "content": "x"}], "output_config": {"effort": "high"}}
    budget = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    off = {"thinking": {"type": "disabled"}}
    told, untold, without = prompts_of(serve, template, {**body, **budget}, body, {**body, **off})
    assert told.endswith("EFFORT high BUDGET 1024")
    assert untold.endswith("EFFORT high BUDGET ")
    assert without.endswith("<think>\n\n</think>\n\n")


def test_tokens_are_counted_of_what_is_too_long_to_be_answered(serve: Serve) -> None:
    server = serve(FakeBackend(max_model_len=64))
    with anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "x" * 100}]
        count = client.messages.count_tokens(model="fake", messages=messages).input_tokens
        assert count > 100
        with pytest.raises(anthropic.BadRequestError, match=f"prompt is too long: {count} tokens > 63 maximum"):
            client.messages.create(model="fake", max_tokens=1, messages=messages)


def test_a_system_message_may_come_later(serve: Serve) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "system", "content": "New rules."}]
    (prompt,) = prompts_of(serve, TOOL_TEMPLATE, {"messages": [*messages, {"role": "user", "content": "y"}]})
    assert "x<|im_end|>\n<|im_start|>system\nNew rules.<|im_end|>\n<|im_start|>user\ny<|im_end|>" in prompt
