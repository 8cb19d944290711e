"""The KV of a fixed prefix: computing it as an engine would, and putting it back into another engine's cache.

Owns no state. Both run on the thread that owns the backend.
"""

from pagemill.backends.base import Backend
from pagemill.engine.kv_cache import KVCache
from pagemill.engine.scheduler import Scheduler, SchedulerConfig
from pagemill.engine.sequence import Sequence
from pagemill.errors import ModelLoadError
from pagemill.generation import SamplingParams

SEQUENCE_ID = -1  # of the prefix while it is computed or restored: no request's


def compute_prefix(backend: Backend, token_ids: tuple[int, ...]) -> memoryview:
    """Run the tokens as a prompt, in the chunks that an engine would cut it into, and return their KV.

    Raises:
        BackendError: a step failed.
    """
    config = SchedulerConfig(
        max_num_seqs=backend.max_num_seqs,
        max_num_batched_tokens=backend.max_num_batched_tokens,
        eos_token_ids=backend.tokenizer.eos_token_ids,
    )
    scheduler = Scheduler(backend.new_kv_cache(enable_prefix_caching=False), config)
    scheduler.add(Sequence(SEQUENCE_ID, "snapshot", token_ids, SamplingParams(temperature=0.0), max_tokens=0))
    saved = memoryview(b"")
    while scheduler.has_work:
        plan = scheduler.schedule()
        result = backend.execute(plan)
        for chunk in plan.chunks:
            if chunk.sample:  # all is computed, and nothing is freed yet
                saved = backend.save_kv(chunk.placement, len(token_ids))
        scheduler.commit(plan, result)
    return saved


def restore_prefix(backend: Backend, kv_cache: KVCache, token_ids: tuple[int, ...], data: memoryview) -> None:
    """Put the KV of the prefix into the cache, where prompts that begin so find it. Between steps only.

    Raises:
        ModelLoadError: the prefix is too long, or there is no room for it; gives the numbers.
        BackendError: the backend can't take the data.
    """
    if len(token_ids) >= backend.max_model_len:
        raise ModelLoadError(
            f"its {len(token_ids)} tokens leave no room for a prompt: max_model_len is {backend.max_model_len}"
        )
    if not kv_cache.restore(SEQUENCE_ID, token_ids):
        stats = kv_cache.stats()
        raise ModelLoadError(
            f"there is no room for its {len(token_ids)} tokens: of {stats.total_tokens} tokens of KV cache "
            f"{stats.cached_tokens} hold other prefixes, and a sequence has at most {backend.max_model_len}"
        )
    try:
        backend.load_kv(kv_cache.placement(SEQUENCE_ID), len(token_ids), data)
    except BaseException:
        kv_cache.release(SEQUENCE_ID, forget=True)
        raise
    kv_cache.commit(SEQUENCE_ID, len(token_ids))
    kv_cache.release(SEQUENCE_ID)
