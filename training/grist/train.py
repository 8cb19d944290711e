"""Trains grist from scratch: `python -m grist.train --out build/grist`.

Data-parallel over single-threaded workers, because threads inside one small matrix product wait for each other on a
shared machine. Seeded and counted in steps, so a run is repeatable; `--resume` continues from the last checkpoint in
`--out`. The tasks are mixed in the stages of `curriculum.py`.
"""

import argparse
import logging
import os
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from grist.conversations import OWN_WEIGHTS, draw_conversation, draw_long, draw_plain, draw_with_tools
from grist.curriculum import STAGES, stage_at
from grist.dialogue import Conversation
from grist.model import Llama, LlamaShape
from grist.packing import IGNORED, Rows, RowStream
from grist.probe import dev_conversations, exact_by_task
from grist.rendering import render
from grist.tokenizer import CONTROL_TOKENS, MARKUP_TOKENS, MAX_POSITIONS, save_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)

SEED = 20
STEPS = 2400
WARMUP_STEPS = 100
DECAY_START_STEP, DECAY_STEPS = 1440, 960
MUON_RATE, ADAM_RATE = 4e-3, 3e-3
LONG_EVERY = 40
PLAIN_ROWS, TOOL_ROWS, LONG_ROWS = 8, 2, 2
TOKENIZER_CONVERSATIONS = 20_000
PROBES_PER_TASK = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: its length, its seed and where it writes."""

    steps: int
    seed: int
    out: Path
    probe_every: int
    num_workers: int
    compiled: bool
    resume: bool


def draw_plain_chunk(weights: Mapping[str, float], rng: random.Random) -> list[Conversation]:
    """Enough short conversations for a few hundred rows."""
    return [draw_plain(rng, rng.choice((1, 1, 1, 2, 2, 3)), weights) for _ in range(1500)]


def draw_tool_chunk(rng: random.Random) -> list[Conversation]:
    """Conversations with tools, and short ones to fill their rows."""
    with_tools = [draw_with_tools(rng, rng.choice((1, 2, 2, 3))) for _ in range(400)]
    return with_tools + draw_plain_chunk(OWN_WEIGHTS, rng)[:600]


def draw_long_chunk(rng: random.Random) -> list[Conversation]:
    """Conversations that fill the whole context."""
    return [draw_long(rng) for _ in range(16)]


def build_tokenizer(seed: int) -> Tokenizer:
    """Train the tokenizer on a sample of the training conversations."""
    rng = random.Random(f"{seed}/tokenizer")
    marks = re.compile("|".join(re.escape(token) for token in CONTROL_TOKENS + MARKUP_TOKENS))
    conversations = (draw_conversation(rng) for _ in range(TOKENIZER_CONVERSATIONS))
    texts = (text for each in conversations for text, _ in render(each.messages, each.tools))
    return train_tokenizer(piece for text in texts for piece in marks.split(text) if piece)


def rate_scale(step: int) -> float:
    """Warm up, hold to `DECAY_START_STEP`, then fall linearly to zero over `DECAY_STEPS`."""
    progress = min(1.0, max(0.0, (step - DECAY_START_STEP) / DECAY_STEPS))
    return min((step + 1) / WARMUP_STEPS, 1.0 - progress)


def inner_matrices(model: Llama) -> list[Tensor]:
    """The matrices inside the layers, which Muon updates."""
    return [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]


def make_optimisers(model: Llama, rank: int, num_workers: int) -> list[torch.optim.Optimizer]:
    """Muon for this worker's share of the inner matrices, AdamW for the embedding and the norms."""
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            inner_matrices(model)[rank::num_workers],
            lr=MUON_RATE,
            weight_decay=0.05,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.97), weight_decay=0.01),
    ]


class Trainer:
    """Owns one worker's replica of the model and the optimisers, and its own data streams."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, rank: int) -> None:
        self.plan = plan
        self.rank = rank
        self.tokenizer = tokenizer
        self.model = Llama(LlamaShape())
        self.model.initialise(torch.Generator().manual_seed(plan.seed))
        self.body = torch.compile(self.model.model, dynamic=False) if plan.compiled else self.model.model
        self.optimisers = make_optimisers(self.model, rank, plan.num_workers)
        self.rates = [optimiser.param_groups[0]["lr"] for optimiser in self.optimisers]
        self.streams = {
            **{
                stage.name: RowStream(
                    f"{stage.name}/{rank}", plan.seed, tokenizer, 256, partial(draw_plain_chunk, stage.weights)
                )
                for stage in STAGES
            },
            "tools": RowStream(f"tools/{rank}", plan.seed, tokenizer, 384, draw_tool_chunk),
            "long": RowStream(f"long/{rank}", plan.seed, tokenizer, MAX_POSITIONS, draw_long_chunk),
        }
        self.step = 0
        self.num_tokens = 0

    def train_step(self) -> float:
        """One optimiser step; returns the mean loss over the tokens the model had to say."""
        share = self.plan.num_workers
        batches: list[tuple[Rows, Any]]
        if self.step % LONG_EVERY == LONG_EVERY - 1:
            batches = [(self.streams["long"].next_rows(LONG_ROWS // share), self.model.model)]
        else:
            batches = [
                (self.streams[stage_at(self.step).name].next_rows(PLAIN_ROWS // share), self.body),
                (self.streams["tools"].next_rows(TOOL_ROWS // share), self.body),
            ]
        num_said = sum(int((rows.targets != IGNORED).sum()) for rows, _ in batches)
        total = 0.0
        for rows, forward in batches:
            loss = summed_loss(forward, self.model.model.embed_tokens.weight, rows) / num_said
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            self.num_tokens += rows.ids.numel() * share
        self._update()
        return total

    def _average_gradients(self) -> None:
        """Replace each worker's gradients by their mean over the workers."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.plan.num_workers
        for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def _update(self) -> None:
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        scale = rate_scale(self.step)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * scale
            optimiser.step()
        self._share_matrices()
        self.model.zero_grad(set_to_none=True)
        self.step += 1

    def _share_matrices(self) -> None:
        """Give every worker the matrices the others have updated."""
        matrices = [matrix.data for matrix in inner_matrices(self.model)]
        for owner in range(self.plan.num_workers):
            owned = matrices[owner :: self.plan.num_workers]
            flat = torch.cat([matrix.flatten() for matrix in owned])
            dist.broadcast(flat, src=owner)
            if owner != self.rank:
                for matrix, fresh in zip(owned, torch.split(flat, [m.numel() for m in owned]), strict=True):
                    matrix.copy_(fresh.view_as(matrix))

    def save(self) -> None:
        """Write the checkpoint atomically; every worker must call it, the first one writes."""
        workers: list[Any] = [None] * self.plan.num_workers
        dist.all_gather_object(
            workers,
            {
                "streams": {name: stream.state() for name, stream in self.streams.items()},
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            },
        )
        if self.rank != 0:
            return
        state = {
            "step": self.step,
            "num_tokens": self.num_tokens,
            "model": self.model.state_dict(),
            "workers": workers,
        }
        partial = self.plan.out / "checkpoint.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.plan.out / "checkpoint.pt")

    def load(self) -> None:
        """Continue from the checkpoint in the output folder. Raises FileNotFoundError where there is none."""
        state: dict[str, Any] = torch.load(self.plan.out / "checkpoint.pt", weights_only=True)
        own = state["workers"][self.rank]
        self.step, self.num_tokens = state["step"], state["num_tokens"]
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, own["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for name, stream in self.streams.items():
            if name in own["streams"]:
                stream.restore(own["streams"][name])


def summed_loss(forward: Any, embedding: Tensor, rows: Rows) -> Tensor:
    """The cross-entropy summed over the tokens the model had to say."""
    select = (rows.targets.flatten() != IGNORED).nonzero().flatten()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = forward(rows.ids, rows.mask(torch.bfloat16)).flatten(0, 1)[select]
        logits = functional.linear(hidden, embedding)
    return functional.cross_entropy(logits.float(), rows.targets.flatten()[select], reduction="sum")


def run(trainer: Trainer) -> None:
    """Train to the end of the plan, probing and checkpointing on the way; only the first worker reports."""
    plan, started = trainer.plan, time.monotonic()
    first_tokens, losses = trainer.num_tokens, []
    probes = dev_conversations(PROBES_PER_TASK)
    while trainer.step < plan.steps:
        losses.append(trainer.train_step())
        due = trainer.step % plan.probe_every == 0 or trainer.step == plan.steps
        if due and trainer.rank == 0:
            elapsed = time.monotonic() - started
            scores = exact_by_task(trainer.model, trainer.tokenizer, probes)
            logger.info(
                "step %d loss %.4f %.0f tokens/s %.0f s | %s | mean %.3f",
                trainer.step,
                sum(losses) / len(losses),
                (trainer.num_tokens - first_tokens) / elapsed,
                elapsed,
                " ".join(f"{task} {score:.2f}" for task, score in scores.items()),
                sum(scores.values()) / len(scores),
            )
        if due:
            losses.clear()
            trainer.save()


def work(rank: int, plan: Plan) -> None:
    """The body of one worker process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    store = f"file://{(plan.out / 'rendezvous').resolve()}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=plan.num_workers)
    tokenizer = Tokenizer.from_file(str(plan.out / "tokenizer.json"))
    trainer = Trainer(plan, tokenizer, rank)
    if plan.resume:
        trainer.load()
    run(trainer)
    dist.destroy_process_group()


def main() -> None:
    """Parse the command line, train the tokenizer, start the workers and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=2, choices=(1, 2))
    parser.add_argument("--probe-every", type=int, default=200)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--compile", action="store_true", help="compile the forward pass; needs a C++ compiler")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rendezvous").unlink(missing_ok=True)
    save_tokenizer(build_tokenizer(args.seed), args.out)
    plan = Plan(args.steps, args.seed, args.out, args.probe_every, args.workers, args.compile, args.resume)
    spawn(work, args=(plan,), nprocs=args.workers)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
