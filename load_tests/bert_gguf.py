"""A folder of a BERT as a GGUF file, as llama.cpp's own converter writes it. Needs gguf and safetensors.

python -m load_tests.bert_gguf FOLDER FILE.gguf [--type f32|f16|q8_0]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

FILE_TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
HEAD = {"pooler.dense": "cls", "classifier": "cls.output"}  # of a cross-encoder
KEPT_F32 = ("position_embd", "token_types", "norm", "cls")  # small, or read by operations that want it so
PHANTOM_SPACE = "\u2581"


def convert(
    folder: Path, path: Path, file_type: str = "f32", *, names_classes: bool = True, keeps_pooler: bool = True
) -> Path:
    """Write the encoder or cross-encoder in `folder` (WordPiece vocabulary, transformers' names of BERT's tensors) to
    `path`. llama.cpp's converter keeps no pooler, and older ones name no classes.
    """
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "bert")
    tensor_type, whole_type = FILE_TYPES[file_type]
    head = HEAD if config["architectures"] == ["BertForSequenceClassification"] else {}
    if head and names_classes:
        writer.add_classifier_output_labels(["LABEL_0"])
    elif not head:
        writer.add_pooling_type(pooling_type(folder))
    _add_parameters(writer, config, whole_type)
    _add_vocabulary(writer, folder, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, values in load_file(folder / "model.safetensors").items():
        module, _, kind = name.removeprefix("bert.").rpartition(".")
        ours = head.get(module) or names.get_name(module)
        if ours is None or (module == "pooler.dense" and not keeps_pooler):  # embeddings have no use for a pooler
            continue
        ours = f"{ours}.{kind}"
        wide = values.astype(np.float32)
        if wide.ndim == 1 or any(part in ours for part in KEPT_F32):
            writer.add_tensor(ours, wide)
        else:
            writer.add_tensor(ours, gguf.quants.quantize(wide, tensor_type), raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def pooling_type(folder: Path) -> gguf.PoolingType:
    """What the folder's sentence-transformers files say; mean if there are none."""
    path = folder / "1_Pooling" / "config.json"
    pooling = json.loads(path.read_text()) if path.is_file() else {}
    return gguf.PoolingType.CLS if pooling.get("pooling_mode_cls_token") else gguf.PoolingType.MEAN


def _add_parameters(writer: Any, config: dict[str, Any], file_type: Any) -> None:
    writer.add_name(config.get("_name_or_path") or "bert")
    writer.add_file_type(file_type)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)


def _add_vocabulary(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    """llama.cpp marks the beginnings of words where WordPiece marks their continuations."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    by_id = {index: text for text, index in tokenizer["model"]["vocab"].items()}
    by_id |= {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    texts, types = [], []
    for index in range(config["vocab_size"]):
        text = by_id.get(index, f"[PAD{index}]")
        control = index in special or index not in by_id
        texts.append(text if control else text[2:] if text.startswith("##") else PHANTOM_SPACE + text)
        types.append(gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_type_count(config["type_vocab_size"])
    ids = {text: index for index, text in by_id.items()}
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_mask_token_id(ids["[MASK]"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("path", type=Path)
    parser.add_argument("--type", choices=FILE_TYPES, default="f32")
    arguments = parser.parse_args()
    convert(arguments.folder, arguments.path, arguments.type)


if __name__ == "__main__":
    main()
