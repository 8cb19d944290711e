"""transformers as a peer: a program that does the requests of a job in this process and writes when each token came.

    python -m load_tests.peers.transformers_driver JOB RESULT

`transformers_batches.py` writes the job and reads the result. Three ways to serve a closed loop of clients, each of
which sends its next request when its last is answered:

- serial: `generate` for one request after another; the others wait in line;
- static: `generate` for as many requests as there are clients, padded on the left, until the longest is done;
- continuous: a `ContinuousBatchingManager`, which a request joins when it comes and leaves when it is done.

Greedy, and deaf to end-of-sequence. Runs in a process of its own, for torch's threads and transformers' imports are a
whole process's; only this file imports transformers.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, StoppingCriteria

from load_tests.cpu_time import CPUShare, machine_cpu_seconds

PAD_TOKEN_ID = 0


@dataclass(frozen=True, slots=True)
class Request:
    prompt_token_ids: list[int]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Timed:
    """A request that was answered; all times by `perf_counter`."""

    started_s: float
    token_times_s: list[float]
    ended_s: float  # when its client may send the next one
    token_ids: list[int]


class Clock(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Never stops anything; it is called after each token, and notes the time."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        self.times_s.append(perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)


def main() -> None:
    """Do the job: the warm-up, then what is measured."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD_TOKEN_ID
    way, options = WAYS[job["way"]], job["options"]
    way(model, [Request(**request) for request in job["warm_up"]], job["num_clients"], **options)
    started = perf_counter(), process_time(), machine_cpu_seconds()
    timed = way(model, [Request(**request) for request in job["requests"]], job["num_clients"], **options)
    wall, own, machine = perf_counter() - started[0], process_time() - started[1], machine_cpu_seconds() - started[2]
    share = CPUShare(client=0.0, server=own / wall, others=max(0.0, machine - own) / wall)
    Path(sys.argv[2]).write_text(json.dumps({"requests": [asdict(one) for one in timed], "cores": asdict(share)}))


def serial(model: Any, requests: Sequence[Request], num_clients: int) -> list[Timed]:
    """One after another."""
    return in_batches(model, requests, num_clients, size=1)


def static(model: Any, requests: Sequence[Request], num_clients: int) -> list[Timed]:
    """Batches of all who wait, which are all clients."""
    return in_batches(model, requests, num_clients, size=num_clients)


def in_batches(model: Any, requests: Sequence[Request], num_clients: int, size: int) -> list[Timed]:
    """A request is sent when the one `num_clients` places before it is answered, for answers come in order."""
    began_s = perf_counter()
    done: list[Timed] = []
    for first in range(0, len(requests), size):
        batch = requests[first : first + size]
        rows, times_s = generate(model, batch)
        ended_s = perf_counter()
        for index, (request, row) in enumerate(zip(batch, rows, strict=True), start=first):
            sent_s = began_s if index < num_clients else done[index - num_clients].ended_s
            done.append(Timed(sent_s, times_s[: request.max_tokens], ended_s, row[: request.max_tokens]))
    return done


def generate(model: Any, batch: Sequence[Request]) -> tuple[list[list[int]], list[float]]:
    """New tokens of each row, as many as the longest asks for, and when each step was done."""
    longest = max(len(request.prompt_token_ids) for request in batch)
    input_ids = torch.full((len(batch), longest), PAD_TOKEN_ID)
    attention_mask = torch.zeros_like(input_ids)
    for row, request in enumerate(batch):
        length = len(request.prompt_token_ids)
        input_ids[row, longest - length :] = torch.tensor(request.prompt_token_ids)
        attention_mask[row, longest - length :] = 1
    clock = Clock()
    output = model.generate(
        input_ids,
        attention_mask=attention_mask,
        max_new_tokens=max(request.max_tokens for request in batch),
        do_sample=False,
        stopping_criteria=[clock],
    )
    return output[:, longest:].tolist(), clock.times_s


def continuous(model: Any, requests: Sequence[Request], num_clients: int, **options: Any) -> list[Timed]:
    """`options` are fields of ContinuousBatchingConfig."""
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=PAD_TOKEN_ID)
    batching = ContinuousBatchingConfig(**options)
    with model.continuous_batching_context_manager(generation, continuous_batching_config=batching) as manager:
        return closed_loop(manager, requests, num_clients)


def closed_loop(manager: Any, requests: Sequence[Request], num_clients: int) -> list[Timed]:
    """Each answer sends the next request."""
    waiting = iter(enumerate(requests))
    sent_s: dict[str, float] = {}
    done: dict[str, Timed] = {}

    def send_next() -> None:
        for index, request in waiting:
            sent_s[str(index)] = perf_counter()
            manager.add_request(
                request.prompt_token_ids, str(index), request.max_tokens, record_timestamps=True, eos_token_id=-1
            )
            return

    for _ in range(num_clients):
        send_next()
    while len(done) < len(requests):
        answer = manager.get_result(timeout=1)
        if answer is None:
            if not manager.is_running():
                raise RuntimeError("the manager's thread has ended")
            continue
        if answer.error is not None:
            raise RuntimeError(f"request {answer.request_id}: {answer.error}")
        name, tokens = answer.request_id, list(answer.generated_tokens)
        done[name] = Timed(sent_s[name], list(answer.timestamps), perf_counter(), tokens)
        send_next()
    return [done[str(index)] for index in range(len(requests))]


WAYS: dict[str, Callable[..., list[Timed]]] = {"serial": serial, "static": static, "continuous": continuous}

if __name__ == "__main__":
    main()
