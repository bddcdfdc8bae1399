"""A published encoder with random weights, as Hugging Face lays one out: one layer, 64 numbers, 100 pieces."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.,:;!?-", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
HIDDEN, INNER, POSITIONS = 64, 128, 64


def tokenizer() -> dict[str, object]:
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": PIECES[i], "lstrip": False, "rstrip": False, "normalized": False, "special": True,
                          "single_word": False} for i in range(5)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": {piece: i for i, piece in enumerate(PIECES)}},
    }


def tensors() -> dict[str, list[int]]:
    shapes = {
        "embeddings.word_embeddings.weight": [len(PIECES), HIDDEN],
        "embeddings.position_embeddings.weight": [POSITIONS, HIDDEN],
        "embeddings.token_type_embeddings.weight": [2, HIDDEN],
        "embeddings.LayerNorm.weight": [HIDDEN], "embeddings.LayerNorm.bias": [HIDDEN],
    }
    layer = "encoder.layer.0."
    for name, out, inside in [("attention.self.query", HIDDEN, HIDDEN), ("attention.self.key", HIDDEN, HIDDEN),
                              ("attention.self.value", HIDDEN, HIDDEN), ("attention.output.dense", HIDDEN, HIDDEN),
                              ("intermediate.dense", INNER, HIDDEN), ("output.dense", HIDDEN, INNER)]:
        shapes[f"{layer}{name}.weight"], shapes[f"{layer}{name}.bias"] = [out, inside], [out]
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes[f"{layer}{name}.weight"], shapes[f"{layer}{name}.bias"] = [HIDDEN], [HIDDEN]
    return shapes


def write_snapshot(folder: Path, prompts: dict[str, str] | None = None, seed: int = 1) -> Path:
    numbers = random.Random(seed)
    (folder / "1_Pooling").mkdir(parents=True)
    header, body = {}, bytearray()
    for name, shape in tensors().items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        is_norm = name.endswith("LayerNorm.weight")
        values = [numbers.gauss(1 if is_norm else 0, 0.05 if is_norm or len(shape) == 1 else 0.1) for _ in range(count)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + 4 * count]}
        body += struct.pack(f"<{count}f", *values)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + body)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": 1,
        "num_attention_heads": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS,
        "vocab_size": len(PIECES), "type_vocab_size": 2, "position_embedding_type": "absolute"}))
    (folder / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]))
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False,
                                                              "pooling_mode_mean_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}))
    if prompts is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return folder
