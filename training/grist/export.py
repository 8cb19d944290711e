"""Writes the artefacts of a checkpoint: `python -m grist.export --run build/grist --out <folder>`.

The Hugging Face form is bf16 safetensors with its configuration and tokenizer; the GGUF form is Q8_0 with the same
tokenizer and chat template inside.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from grist.gguf_writer import write_gguf
from grist.model import LlamaShape
from grist.tokenizer import END, PAD

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MAX_NEW_TOKENS = 128


def token_ids(tokenizer_json: Path) -> dict[str, int]:
    """The ids of the added tokens by their text."""
    document = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    return {added["content"]: added["id"] for added in document["added_tokens"]}


def model_config(shape: LlamaShape, ids: dict[str, int]) -> dict[str, object]:
    """The contents of config.json for `LlamaForCausalLM`."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **shape.to_dict(),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def generation_config(ids: dict[str, int]) -> dict[str, object]:
    """Greedy by default: grist is graded on exact answers."""
    return {
        "do_sample": False,
        "eos_token_id": [ids[END], ids[PAD]],
        "pad_token_id": ids[PAD],
        "max_new_tokens": MAX_NEW_TOKENS,
    }


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The model's state dict from a training checkpoint, float32."""
    weights: dict[str, Tensor] = torch.load(checkpoint, weights_only=True, map_location="cpu")["model"]
    return weights


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def export(run: Path, out: Path) -> None:
    """Write every artefact of the checkpoint in `run` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    shape, weights = LlamaShape(), load_weights(run / "checkpoint.pt")
    for name in TOKENIZER_FILES:
        shutil.copyfile(run / name, out / name)
    ids = token_ids(out / "tokenizer.json")
    _write_json(out / "config.json", model_config(shape, ids))
    _write_json(out / "generation_config.json", generation_config(ids))
    halves = {name: weight.to(torch.bfloat16).contiguous() for name, weight in weights.items()}
    save_file(halves, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # safetensors writes it readable by its owner only
    write_gguf(out, shape, weights, out / "grist-q8_0.gguf")
    shutil.copyfile(Path(__file__).with_name("README.md"), out / "MODEL_CARD.md")


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the training output folder")
    parser.add_argument("--out", type=Path, required=True, help="the artefact folder")
    args = parser.parse_args()
    export(args.run, args.out)


if __name__ == "__main__":
    main()
