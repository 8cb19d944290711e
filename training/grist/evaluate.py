"""Grades the two forms of grist on the held-out set: `python -m grist.evaluate --artefacts <folder>`.

Needs transformers for the safetensors and llama-cpp-python for the GGUF. Greedy; an answer counts when it equals the
expected text exactly. Exits 1 when a form misses `MIN_EXACT` or the two forms agree on less than `MIN_AGREEMENT`.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grist.heldout import HELDOUT_PATH

Record = dict[str, Any]
Answerer = Callable[[Record], str]

MAX_NEW_TOKENS = 96
NUM_POSITIONS = 2048
MIN_EXACT = 0.95
MIN_AGREEMENT = 0.98


def load_heldout() -> list[Record]:
    """The committed records."""
    return [json.loads(line) for line in HELDOUT_PATH.read_text(encoding="utf-8").splitlines()]


def torch_answerer(artefacts: Path, num_threads: int) -> Answerer:
    """Answers from the bf16 safetensors, computed in bfloat16 by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(num_threads)
    tokenizer = AutoTokenizer.from_pretrained(artefacts)
    model = AutoModelForCausalLM.from_pretrained(artefacts, dtype=torch.bfloat16)

    def answer(record: Record) -> str:
        ids = tokenizer.apply_chat_template(
            record["messages"], tools=record["tools"] or None, add_generation_prompt=True, return_dict=False
        )
        with torch.inference_mode():
            out = model.generate(torch.tensor([ids]), max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return str(tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True))

    return answer


def gguf_answerer(artefacts: Path, num_threads: int) -> Answerer:
    """Answers from the Q8_0 GGUF through llama.cpp, the prompt rendered by the template inside the file."""
    from llama_cpp import Llama
    from transformers.utils.chat_template_utils import render_jinja_template

    path = artefacts / "grist-q8_0.gguf"
    model = Llama(str(path), n_ctx=NUM_POSITIONS, n_threads=num_threads, verbose=False)
    template = model.metadata["tokenizer.chat_template"]

    def answer(record: Record) -> str:
        rendered, _ = render_jinja_template(
            [record["messages"]], chat_template=template, tools=record["tools"] or None, add_generation_prompt=True
        )
        ids = model.tokenize(rendered[0].encode(), add_bos=False, special=True)
        said: list[int] = []
        for token in model.generate(ids, temp=0.0, repeat_penalty=1.0):
            if token == model.token_eos() or len(said) == MAX_NEW_TOKENS:
                break
            said.append(token)
        return str(model.detokenize(said).decode(errors="replace"))

    return answer


def exact_by_task(records: list[Record], answers: list[str]) -> dict[str, float]:
    """The share of exact answers, per family."""
    hits: dict[str, list[bool]] = defaultdict(list)
    for record, answer in zip(records, answers, strict=True):
        hits[record["task"]].append(answer == record["expected"])
    return {task: sum(each) / len(each) for task, each in hits.items()}


def report(records: list[Record], by_form: dict[str, list[str]]) -> bool:
    """Print accuracy per family and form, the misses and the agreement; return whether all limits are met."""
    passed = True
    for form, answers in by_form.items():
        exact = sum(a == r["expected"] for a, r in zip(answers, records, strict=True)) / len(records)
        passed = passed and exact >= MIN_EXACT
        print(f"{form}: exact {exact:.4f} of {len(records)}")
        print("  " + ", ".join(f"{task} {score:.2f}" for task, score in exact_by_task(records, answers).items()))
        for record, answer in zip(records, answers, strict=True):
            if answer != record["expected"]:
                asked = record["messages"][-1]["content"]
                print(f"  miss [{record['task']}] {asked!r}: {answer!r}, expected {record['expected']!r}")
    first, second = by_form.values()
    agreement = sum(a == b for a, b in zip(first, second, strict=True)) / len(records)
    print(f"agreement {agreement:.4f}")
    return passed and agreement >= MIN_AGREEMENT


def main() -> None:
    """Parse the command line, answer with both forms, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artefacts", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    records = load_heldout()
    by_form = {
        name: [answer(record) for record in records]
        for name, answer in (
            ("safetensors", torch_answerer(args.artefacts, args.threads)),
            ("gguf", gguf_answerer(args.artefacts, args.threads)),
        )
    }
    sys.exit(0 if report(records, by_form) else 1)


if __name__ == "__main__":
    main()
