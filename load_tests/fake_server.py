"""Pagemill's own server on a fake backend that talks for as long as it is asked to.

`pagemill serve fake --backend fake` says one short sentence; long streams need more text. Everything else is what
`pagemill serve` runs: the same app, pool, engine and uvicorn. State: none but the server's.
"""

import argparse
from datetime import UTC, datetime

from pagemill.api.app import create_app
from pagemill.backend_choice import DEFAULT_MAX_NUM_BATCHED_TOKENS
from pagemill.backends.fake import DEFAULT_REPLY, FakeBackend
from pagemill.cli.http_server import serve
from pagemill.cli.listening import bind, release
from pagemill.cli.logs import configure_logging
from pagemill.engine.engine import Engine
from pagemill.memory_need import MemoryNeed
from pagemill.pool import LoadedModel, ModelPool
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings
from pagemill.store.catalog import Catalog
from pagemill.store.references import ModelReference, Reference, resolve


def make_pool(settings: Settings) -> ModelPool:
    """A pool of one fake model whose reply fills the context."""
    max_model_len = settings.max_model_len or 4096
    sentence = (*DEFAULT_REPLY[:-1], ord(" "))
    text = (sentence * (max_model_len // len(sentence) + 1))[:max_model_len]

    async def load(reference: Reference, need: MemoryNeed | None) -> LoadedModel:
        assert isinstance(reference, ModelReference)
        backend = FakeBackend(
            reply=lambda prompt: text,
            max_model_len=max_model_len,
            max_num_seqs=settings.max_num_seqs or 16,
            max_num_batched_tokens=settings.max_num_batched_tokens or DEFAULT_MAX_NUM_BATCHED_TOKENS,
            check_plans=False,  # stands for a model that costs nothing
        )
        engine = Engine(backend)
        engine.start()
        return LoadedModel(reference, engine, None, datetime.now(UTC), 0.0)

    return ModelPool(Catalog([resolve(settings.model)]), load, keep_alive_s=-1)


def main() -> None:
    """Serve on --port with --max-num-seqs."""
    parser = argparse.ArgumentParser(description="serve a fake model that never stops by itself")
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1")
    parser.add_argument("--max-num-seqs", type=int, default=64, help="sequences at once (%(default)s)")
    options = parser.parse_args()
    settings = load_settings({"model": "fake", "backend": "fake", "log_level": "warning", **vars(options)}, {})
    configure_logging(settings.log_level)
    pool = make_pool(settings)
    listeners = [bind(settings)]
    try:
        serve(create_app(pool, settings), pool, settings, listeners, [f"http://{settings.host}:{settings.port}"])
    finally:
        release(listeners, settings)


if __name__ == "__main__":
    main()
