"""Command-line flags made from the fields of `Settings`, so that no setting lacks a flag and no flag its description.

Owns no state. Values stay text: `load_settings` checks them, so a flag, a variable and a file are judged alike. A flag
that was not given leaves no trace in the namespace, and so does not hide the environment.
"""

import argparse
from collections.abc import Collection
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pagemill.settings import Settings
from pagemill.settings_layers import ENVIRONMENT_PREFIX, flag_of, is_list
from pagemill.validated import Field, fields

# The first setting of each group in `--help`; those that follow it in Settings belong to it too.
GROUP_STARTS = {
    "model": "what is served",
    "download_dir": "how the model gets here",
    "host": "where it listens",
    "api_key": "who may ask",
    "max_model_len": "the engine",
    "flash_attn": "the gguf backend",
    "device": "the paged backend",
    "max_header_bytes": "limits on requests",
}
# The settings that shape an engine in this process; the others are about serving clients.
ENGINE_SETTINGS = (
    "models_dir",
    "backend",
    "chat_template",
    "download_dir",
    "download_concurrency",
    "download_part_bytes",
    "download_timeout_s",
    "download_retries",
    "model_sha256",
    "prefault",
    "log_level",
    "max_model_len",
    "max_num_batched_tokens",
    "threads",
    "kv_cache_dtype",
    "kv_cache_memory_bytes",
    "flash_attn",
    "mmap",
    "mlock",
    "device",
    "dtype",
    "block_size",
    "gpu_memory_utilization",
    "enforce_eager",
    "async_scheduling",
    "attention_backend",
    "model_impl",
)
METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}


def add_settings_flags(parser: argparse.ArgumentParser, names: Collection[str] = tuple(fields(Settings))) -> None:
    """A flag for each of the settings, grouped as in `Settings`, and `--config`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"TOML file with settings; flags and variables go before it [{ENVIRONMENT_PREFIX}CONFIG]",
    )
    group: argparse._ArgumentGroup | None = None
    title = ""
    for name, field in fields(Settings).items():
        if name in GROUP_STARTS:
            title, group = GROUP_STARTS[name], None
        if name in names:
            group = group or parser.add_argument_group(title)
            _add_flag(group, name, field)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those settings (and `config`) that were given as flags, for `load_settings`."""
    names = ("config", *fields(Settings))
    return {name: value for name, value in vars(arguments).items() if name in names}


def _add_flag(group: argparse._ArgumentGroup, name: str, field: Field) -> None:
    options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": _help(name, field)}
    if field.annotation in (bool, bool | None):
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["metavar"] = metavar(field.annotation)
        if is_list(name):
            options["action"] = "append"
    group.add_argument(flag_of(name), **options)


def _help(name: str, field: Field) -> str:
    notes = [ENVIRONMENT_PREFIX + name.upper()]
    if is_list(name):
        notes.insert(0, "repeatable")
    elif field.default is not None and field.default != "":
        notes.insert(0, f"default: {field.default}")
    return f"{field.description} [{'; '.join(notes)}]".replace("%", "%%")


def metavar(annotation: Any) -> str:
    """How a value of that type is shown in help: its choices, or the kind of its value."""
    if get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, get_args(annotation))) + "}"
    if get_origin(annotation) in (Union, UnionType, tuple):
        return metavar(get_args(annotation)[0])
    return METAVARS[annotation]
