"""A tiny random RoBERTa cross-encoder with all of its head, in a folder and as llama.cpp's converter writes it."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from support.encoder_folders import BERT, POSITIONS, save

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("a", "n")]
HEAD = {"classifier.dense": "cls", "classifier.out_proj": "cls.output"}
OFFSET = 2  # of positions: RoBERTa's begin behind its padding token, llama.cpp's at 0


def save_roberta(folder: Path) -> tuple[Any, Any]:
    """The model and the tokenizer, which are in the folder too."""
    vocabulary = _vocabulary()
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": POSITIONS + OFFSET, "type_vocab_size": 1}
    config = {**BERT, **sizes, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    model = save("Roberta", config, folder, "ForSequenceClassification", num_labels=1)
    tokenizer = Tokenizer(models.BPE({text: index for index, text in enumerate(vocabulary)}, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **names)
    fast.save_pretrained(folder)
    return model, fast


def roberta_gguf(folder: Path, path: Path) -> Path:
    """Write what `save_roberta` saved to `path`."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("roberta")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(BERT["hidden_size"])
    writer.add_feed_forward_length(BERT["intermediate_size"])
    writer.add_block_count(BERT["num_hidden_layers"])
    writer.add_head_count(BERT["num_attention_heads"])
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_classifier_output_labels(["LABEL_0"])
    _add_vocabulary(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, BERT["num_hidden_layers"])
    for name, values in load_file(folder / "model.safetensors").items():
        module, _, kind = name.removeprefix("roberta.").rpartition(".")
        ours = HEAD.get(module) or names.get_name(module)
        writer.add_tensor(f"{ours}.{kind}", (values[OFFSET:] if ours == "position_embd" else values).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary() -> list[str]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*SPECIAL, *letters, *(left + right for left, right in MERGES)]


def _add_vocabulary(writer: Any) -> None:
    texts = _vocabulary()
    types = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(texts) - len(SPECIAL))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("roberta-bpe")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_type_count(1)
    writer.add_token_merges([f"{left} {right}" for left, right in MERGES])
    for add, text in (
        (writer.add_bos_token_id, "<s>"),
        (writer.add_eos_token_id, "</s>"),
        (writer.add_pad_token_id, "<pad>"),
    ):
        add(texts.index(text))
    writer.add_sep_token_id(texts.index("</s>"))
    writer.add_unk_token_id(texts.index("<unk>"))
    writer.add_add_bos_token(True)  # as gguf's SpecialVocab reads it from RobertaProcessing
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(True)
