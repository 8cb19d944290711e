"""The generator keeps the held-out set out of training, and its rendering is the chat template's."""

import random
from pathlib import Path

import pytest

from grist.conversations import TASKS, draw_conversation, draw_long
from grist.dialogue import split_of
from grist.evaluate import load_heldout
from grist.heldout import NUM_PER_FAMILY, SEED, heldout_records
from grist.rendering import CHAT_TEMPLATE_PATH, render

NUM_SAMPLES = 20_000


def _final_question(messages: list[dict[str, object]]) -> str:
    return str(messages[-1]["content"]).lower().rstrip("?.!")


def test_no_training_turn_is_ever_from_a_held_out_split() -> None:
    rng = random.Random(7)
    for _ in range(NUM_SAMPLES):
        assert all(turn.split == "train" for turn in draw_conversation(rng).turns)


def test_no_held_out_prompt_is_ever_asked_in_training() -> None:
    rng = random.Random(8)
    records = [r for r in load_heldout() if r["task"] not in ("memory", "tool call", "tool answer")]
    held_out = {_final_question(record["messages"]) for record in records}
    asked = {
        _final_question(list(turn.messages[:-1]))
        for _ in range(NUM_SAMPLES)
        for turn in draw_conversation(rng).turns
        if turn.task not in ("memory", "tool")
    }
    assert len(asked) > 10_000
    assert not held_out & asked


def test_long_conversations_hold_training_turns_only() -> None:
    rng = random.Random(9)
    assert all(turn.split == "train" for _ in range(20) for turn in draw_long(rng).turns)


def test_held_out_file_is_what_its_seed_gives_and_is_balanced() -> None:
    records = load_heldout()
    assert records == heldout_records(SEED)
    assert len(records) == 300
    families = [record["task"] for record in records]
    assert {families.count(family) for family in families} == {NUM_PER_FAMILY}
    assert {task.name for task in TASKS} < set(families)


def test_the_split_ignores_case_and_is_stable() -> None:
    assert split_of("capital", "France|What") == split_of("capital", "france|what")
    assert split_of("add", "3+4") == "train"
    assert {split_of("add", f"{a}+{b}") for a in range(21) for b in range(21)} == {"train", "dev", "test"}


def test_rendering_is_the_chat_template() -> None:
    chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")
    template = CHAT_TEMPLATE_PATH.read_text(encoding="utf-8").rstrip("\n")
    rng = random.Random(10)
    for _ in range(500):
        conversation = draw_conversation(rng)
        rendered, _ = chat_template_utils.render_jinja_template(
            [conversation.messages], chat_template=template, tools=list(conversation.tools) or None
        )
        assert rendered[0] == "".join(text for text, _ in render(conversation.messages, conversation.tools))


def test_encoding_by_segments_is_encoding_the_whole() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    path = Path(__file__).parents[2] / "core/pagemill/store/demo/grist/tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    rng = random.Random(11)
    for _ in range(500):
        conversation = draw_conversation(rng)
        texts = [text for text, _ in render(conversation.messages, conversation.tools)]
        apart = [token for text in texts for token in tokenizer.encode(text).ids]
        assert apart == tokenizer.encode("".join(texts)).ids
