"""`pagemill snapshot`: compute the KV of a fixed prefix once, and keep it in a file beside the model.

For build time: a server that starts with the file answers prompts with that prefix as if it had been prefilled.
"""

import argparse
import time
from pathlib import Path

from pagemill.backend_choice import backend_kind, load_generator
from pagemill.bootstrap import make_chat_template, read_chat_template
from pagemill.cli.flags import ENGINE_SETTINGS, add_settings_flags, given_settings
from pagemill.cli.logs import configure_logging
from pagemill.cli.snapshot_prompt import read_prompt
from pagemill.cli.tables import human_size, write_line
from pagemill.settings_layers import load_settings
from pagemill.snapshots import make_snapshot
from pagemill.store.availability import make_available
from pagemill.store.references import resolve

ONE_SEQUENCE = {"max_num_seqs": 1}  # nothing else runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("MODEL", help="name of a model, a .gguf path, or a model folder")
    parser.add_argument(
        "--prompt",
        metavar="FILE",
        type=Path,
        required=True,
        help="the prefix: text as it is, or, in a .json file, a chat request's messages and tools, with which "
        "conversations begin",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        type=Path,
        help="where to put it (default: MODEL.gguf.snapshot beside the file, or prefix.snapshot in the folder)",
    )
    add_settings_flags(parser, ENGINE_SETTINGS)


def execute(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    configure_logging(getattr(arguments, "log_level", "warning"))
    settings = load_settings({**ONE_SEQUENCE, **given_settings(arguments), "model": arguments.MODEL})
    template = read_chat_template(settings)
    prompt = read_prompt(arguments.prompt)
    reference = make_available(resolve(settings.model, backend=settings.backend), settings)
    path: Path = arguments.output or reference.snapshot_path()
    backend = load_generator(reference, settings)
    try:
        token_ids = prompt.token_ids(backend.tokenizer, make_chat_template(backend, template, settings))
        num_bytes = make_snapshot(reference, backend, backend_kind(reference.format, settings), token_ids, path)
    finally:
        backend.close()
    elapsed_s = time.perf_counter() - began
    write_line(f"{path}: {len(token_ids)} tokens, {human_size(num_bytes)}, in {elapsed_s:.1f} s")
    return 0
