"""What vLLM's own tests assert of its server from outside: lines 1 to 8 of the list. Each docstring is its line, or the
part of it that the test is about.
"""

from typing import Any

import pytest

from pagemill.backends.fake import BOS, EOS, FakeBackend
from support.api_server import RunningServer, Serve
from support.model_server import ModelServer
from support.openai_requests import HELLO, choices_of, chunks, joined, refusal

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of Norway?"}]}
ASKED = pytest.mark.parametrize(
    ("path", "body"), [(CHAT, QUESTION), (TEXT, {"prompt": "The capital of"})], ids=["chat", "text"]
)
GREEDY = {"temperature": 0, "max_tokens": 40}


def text_of(choice: dict[str, Any]) -> str:
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    assert isinstance(text, str)
    return text


@ASKED
def test_1_a_stream_says_what_the_whole_answer_says(grist: ModelServer, path: str, body: dict[str, Any]) -> None:
    """1. Streaming: joined deltas equal the unstreamed text at temperature 0; exactly one finish_reason per choice;
    role only once.
    """
    whole = grist.post(path, {**body, **GREEDY, "n": 2}).json()["choices"]
    parts = chunks(grist.post(path, {**body, **GREEDY, "n": 2, "stream": True}))
    for index in (0, 1):
        assert joined(parts, index) == text_of(whole[index]) != ""
        mine = choices_of(parts, index)
        assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == [
            whole[index]["finish_reason"]
        ]
        if path == CHAT:
            assert [choice["delta"]["role"] for choice in mine if "role" in choice["delta"]] == ["assistant"]


@ASKED
def test_2_usage_is_streamed_as_asked_for(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    """2. stream_options.include_usage: every chunk has usage null, then one final chunk with `choices == []` and usage.
    continuous_usage_stats: usage on every chunk, monotonic. stream_options with stream=false -> 400.
    """
    asked = {**body, **GREEDY, "n": 2, "stream": True}
    usage = server.post(path, {**asked, "stream": False}).json()["usage"]
    assert all("usage" not in part for part in chunks(server.post(path, asked)))
    *parts, last = chunks(server.post(path, {**asked, "stream_options": {"include_usage": True}}))
    assert all(part["usage"] is None and part["choices"] for part in parts)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], usage["completion_tokens"])
    alone = chunks(server.post(path, {**asked, "stream_options": {"continuous_usage_stats": True}}))
    assert all("usage" not in part for part in alone), "continuous or not, usage has to be asked for"
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [part["usage"] for part in chunks(server.post(path, {**asked, "stream_options": options}))]
    assert all(count["total_tokens"] == count["prompt_tokens"] + count["completion_tokens"] for count in counts)
    assert [count["completion_tokens"] for count in counts] == sorted(count["completion_tokens"] for count in counts)
    assert {count["prompt_tokens"] for count in counts} == {usage["prompt_tokens"]}
    assert counts[-1]["completion_tokens"] == usage["completion_tokens"]
    for options in ({"include_usage": True}, {"continuous_usage_stats": True}, {}):
        error = refusal(server.post(path, {**body, "stream": False, "stream_options": options}))
        assert error["param"] == "stream_options"


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("bb", ["<bb>"]),
        ([BOS, *b"bb"], ["<bb>"]),
        (["a", "bb", "ccc"], ["<a>", "<bb>", "<ccc>"]),
        ([[BOS, *b"a"], [BOS, *b"bb"], [BOS, *b"ccc"]], ["<a>", "<bb>", "<ccc>"]),
    ],
    ids=["text", "token ids", "texts", "lists of token ids"],
)
def test_3_usage_is_exact_and_the_index_counts_prompts_by_n(serve: Serve, prompt: Any, texts: list[str]) -> None:
    """3. Usage arithmetic is exact; prompt as string, token list, or batches of either; index is in prompt x n
    order.
    """
    backend = FakeBackend(reply=lambda prompt: [*b"<", *(token for token in prompt if token < 256), *b">", EOS])
    server = serve(backend)
    answer = server.post(TEXT, {"prompt": prompt, "n": 2, **GREEDY}).json()
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(texts)))
    assert [choice["text"] for choice in answer["choices"]] == [text for text in texts for _ in range(2)]
    num_prompt, num_output = sum(len(text) - 1 for text in texts), 2 * sum(len(text) + 1 for text in texts)
    usage = {name: answer["usage"][f"{name}_tokens"] for name in ("prompt", "completion", "total")}
    assert usage == {"prompt": num_prompt, "completion": num_output, "total": num_prompt + num_output}


def test_4_seeded_choices_are_indexed_distinct_and_finish_separately(grist: ModelServer) -> None:
    """4. n: n=3 with a seed gives distinct, indexed choices that finish separately; streams interleave by index."""
    body = {"prompt": "The mill", "n": 3, "seed": 1, "temperature": 1.0, "max_tokens": 60}
    first, again = (grist.post(TEXT, body).json()["choices"] for _ in range(2))
    assert [choice["index"] for choice in first] == [0, 1, 2]
    assert len({choice["text"] for choice in first}) == 3
    assert first == again
    parts = chunks(grist.post(TEXT, {**body, "stream": True}))
    assert [joined(parts, index) for index in range(3)] == [choice["text"] for choice in first]
    order = [(choice["index"], choice["finish_reason"]) for part in parts for choice in part["choices"]]
    ends = [at for at, (_index, reason) in enumerate(order) if reason]
    assert sorted(order[at][0] for at in ends) == [0, 1, 2]
    assert {index for index, _reason in order[: ends[0]]} == {0, 1, 2}, "no choice waits for another"
    assert ends[0] < ends[1] - 1 or ends[1] < ends[2] - 1, "each ends when it ends"


def test_5_chat_logprobs_are_as_many_as_asked_for(grist: ModelServer) -> None:
    """5. Chat logprobs: absent -> null; true with top_logprobs 0 -> empty lists; k -> exactly k; > 20 -> 400, and the
    server stays usable; values >= -9999.
    """
    asked = {**QUESTION, **GREEDY}
    assert grist.post(CHAT, asked).json()["choices"][0]["logprobs"] is None
    refused = grist.post(CHAT, {**asked, "logprobs": True, "top_logprobs": 21})
    assert refusal(refused)["param"] == "top_logprobs"
    for count in (0, 1, 5, 20):
        answer = grist.post(CHAT, {**asked, "logprobs": True, "top_logprobs": count}).json()
        entries = answer["choices"][0]["logprobs"]["content"]
        assert len(entries) == answer["usage"]["completion_tokens"]
        for entry in entries:
            values = [top["logprob"] for top in entry["top_logprobs"]]
            assert len(values) == count
            assert values == sorted(values, reverse=True)
            assert all(-9999 <= value <= 0 for value in [*values, entry["logprob"]])


def test_6_text_logprobs_have_the_sampled_token_and_the_prompts(grist: ModelServer) -> None:
    """6. Completion logprobs: 0 -> the sampled token; 5 -> 5 or 6. echo+logprobs: the first token_logprob is null;
    text_offset present.
    """
    asked = {"prompt": "The capital of", "temperature": 1.5, "seed": 4, "max_tokens": 12}
    assert grist.post(TEXT, asked).json()["choices"][0]["logprobs"] is None
    for count, sizes in ((0, {1}), (5, {5, 6})):
        found = grist.post(TEXT, {**asked, "logprobs": count}).json()["choices"][0]["logprobs"]
        assert {len(top) for top in found["top_logprobs"]} <= sizes
        for token, value, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
            assert top[token] == value <= 0
    choice = grist.post(TEXT, {**asked, "echo": True, "logprobs": 1}).json()["choices"][0]
    assert choice["text"].startswith("The capital of")
    logprobs = choice["logprobs"]
    assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
    assert all(value <= 0 for value in logprobs["token_logprobs"][1:])
    assert logprobs["text_offset"][0] == 0
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    shown = [token for token, value in zip(logprobs["tokens"], logprobs["text_offset"], strict=True) if value < 14]
    assert "".join(shown).endswith("The capital of")


@ASKED
def test_7_prompt_logprobs_are_0_or_more(grist: ModelServer, path: str, body: dict[str, Any]) -> None:
    """7. prompt_logprobs 0/1/2 ok, -1 -> 400."""
    asked = {**body, "max_tokens": 1}
    for count in (0, 1, 2):
        answer = grist.post(path, {**asked, "prompt_logprobs": count}).json()
        entries = (answer if path == CHAT else answer["choices"][0])["prompt_logprobs"]
        assert entries[0] is None
        assert len(entries) == answer["usage"]["prompt_tokens"]
        assert all(max(count, 1) <= len(entry) <= count + 1 for entry in entries[1:])
    assert refusal(grist.post(path, {**asked, "prompt_logprobs": -1}))["param"] == "prompt_logprobs"


SCHEMA_OF_NOTHING = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "g"}}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (TEXT, {"prompt": ""}, "prompt"),
        (TEXT, {"prompt": []}, "prompt"),
        (TEXT, {"prompt": [1, 10**6]}, "prompt"),
        (TEXT, {"prompt": [-1]}, "prompt"),
        (CHAT, {"seed": 2**63}, "seed"),
        (CHAT, {"seed": -(2**63) - 1}, "seed"),
        (CHAT, {"response_format": SCHEMA_OF_NOTHING}, "response_format.json_schema.schema"),
        (CHAT, {"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        (CHAT, {"structured_outputs": {"regex": "(("}}, "structured_outputs.regex"),
        (CHAT, {"structured_outputs": {"grammar": "root ::= ("}}, "structured_outputs.grammar"),
        (CHAT, {"tool_choice": "auto"}, "tool_choice"),
        (CHAT, {"tool_choice": "required"}, "tool_choice"),
        (CHAT, {"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
        (CHAT, {"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        (TEXT, {"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        (TEXT, {"stop": ""}, "stop"),
        (TEXT, {"stop": ["a", ""]}, "stop"),
        (TEXT, {"logprobs": -1}, "logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        (TEXT, {"logit_bias": {"a": 1}}, "logit_bias"),
        (TEXT, {"logit_bias": {"1.5": 1}}, "logit_bias"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_8_what_is_wrong_is_a_400_that_names_it(grist: ModelServer, path: str, fields: Any, param: str) -> None:
    """8. 400 for: empty prompt; token id out of vocabulary; seed beyond int64; bad JSON schema, regex or grammar;
    tool_choice inconsistent with tools; min_tokens > max_tokens; empty stop string; negative logprobs; non-integer
    logit_bias keys.
    """
    body = {"messages": HELLO} if path == CHAT else {"prompt": "hi"}
    error = refusal(grist.post(path, {**body, **fields}))
    assert error["param"] == param
    assert param.split(".")[-1] in error["message"]
