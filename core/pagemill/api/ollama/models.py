"""What Ollama's clients are told of models: tags (those that can be served), ps (those loaded), show (one, in full).

Owns no state: the pool knows the models. What reads a model's file runs in a thread.
"""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pagemill.api.ollama import timestamp
from pagemill.api.ollama.model_info import model_info
from pagemill.api.ollama.modelfile import modelfile, printed
from pagemill.store.references import ModelReference, Reference, with_tag

FOREVER_AGO = datetime.fromtimestamp(0, UTC)

if TYPE_CHECKING:
    from pagemill.backends.base import ModelInfo
    from pagemill.pool import LoadedModel, LoadedModelStatus, ModelPool


async def tags(pool: "ModelPool") -> dict[str, object]:
    """GET /api/tags: newest first. Of a model that is not fetched yet, only what is known."""
    references = sorted(pool.references(), key=lambda reference: reference.modified_at or FOREVER_AGO, reverse=True)
    return {"models": [await _tag(reference, pool.info(reference.name)) for reference in references]}


async def _tag(reference: Reference, info: "ModelInfo | None") -> dict[str, object]:
    known: dict[str, object] = {}
    if isinstance(reference, ModelReference):
        known = {
            "modified_at": timestamp.of(reference.modified_at),
            "size": reference.size_bytes,
            "digest": await _digest(reference),
        }
    return {
        "name": with_tag(reference.name),
        "model": with_tag(reference.name),
        **known,
        "details": _details(reference, info),
    }


async def processes(pool: "ModelPool") -> dict[str, object]:
    """GET /api/ps."""
    return {"models": [await _process(status) for status in pool.loaded()]}


async def _process(status: "LoadedModelStatus") -> dict[str, object]:
    model = status.model
    return {
        "name": with_tag(model.name),
        "model": with_tag(model.name),
        "size": status.num_bytes,
        "digest": await _digest(model.reference),
        "details": _details(model.reference, model.info),
        "expires_at": timestamp.of(_expiry(status)),
        "size_vram": status.num_bytes if model.info.on_gpu else 0,
        "context_length": model.engine.max_model_len,
    }


def _expiry(status: "LoadedModelStatus") -> datetime:
    return status.expires_at or status.model.loaded_at + timestamp.FOREVER


async def show(model: "LoadedModel", *, verbose: bool) -> dict[str, object]:
    """POST /api/show."""
    reference, info, defaults = model.reference, model.info, model.reference.defaults
    template = model.chat_template.source if model.chat_template is not None else ""
    metadata = await asyncio.to_thread(model_info, info, verbose=verbose)
    licenses = [] if defaults is None else await asyncio.to_thread(defaults.license_texts)
    in_file = info.metadata.get("general.license.text") or info.metadata.get("general.license")
    further = {
        "license": "\n".join(licenses) or (in_file if isinstance(in_file, str) else ""),
        "system": "" if defaults is None else defaults.system,
        "messages": [] if defaults is None else list(defaults.messages),
    }
    return {
        "modelfile": modelfile(with_tag(reference.name), template, defaults, licenses),
        "parameters": printed((None if defaults is None else defaults.parameters) or _ends(model)),
        "template": template,
        "details": _details(reference, info),
        "model_info": metadata,
        "capabilities": _capabilities(model),
        "modified_at": timestamp.of(reference.modified_at),
        **{name: value for name, value in further.items() if value},
    }


def _capabilities(model: "LoadedModel") -> list[str]:
    if model.embeds:
        return ["embedding"]
    written = None if model.chat_template is None else model.chat_template.message_format
    has = {
        "completion": True,
        "tools": written is not None and written.tools is not None,
        "insert": model.tokenizer.infill_tokens is not None,
        "thinking": written is not None and written.reasoning is not None,
    }
    return [name for name, known in has.items() if known]


def _ends(model: "LoadedModel") -> dict[str, object]:
    """What ends an answer: the only parameters that a GGUF file sets."""
    tokenizer = model.tokenizer
    names = [tokenizer.token_bytes(token_id).decode("utf-8", "replace") for token_id in sorted(tokenizer.eos_token_ids)]
    return {"stop": names}


def _details(reference: Reference, info: "ModelInfo | None") -> dict[str, object]:
    family = info.architecture if info is not None else ""
    return {
        "parent_model": "" if reference.defaults is None else reference.defaults.parent,
        "format": info.format if info is not None else reference.format or "",
        "family": family,
        "families": [family] if family else None,
        "parameter_size": human_number(info.num_parameters) if info is not None else "",
        "quantization_level": info.quantization if info is not None else "",
    }


async def _digest(reference: ModelReference) -> str:
    return (await asyncio.to_thread(reference.identity)).removeprefix("sha256:")


def human_number(count: int) -> str:
    """A number of parameters as Ollama writes it (`format.HumanNumber`): 5.24M, 8B, 1.5B, 700K."""
    for unit, name, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            number = count / unit
            return f"{number:.{0 if number.is_integer() else digits}f}{name}"
    return str(count)
