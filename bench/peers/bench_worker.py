"""One contestant of bench_embed_token.py in a process of its own, on one core.

In: a name and a folder with setting.json; then one JSON request a line. Out: one JSON answer a line;
ids and vectors go to files in the folder. memalloy's part needs nothing but memalloy.
"""
import json
import os
import sys
import time
from pathlib import Path


class Memalloy:
    def __init__(self, texts, chunks, folder, onnx):
        import memalloy

        self.memalloy = memalloy
        self.texts = texts
        self.chunks = texts[:chunks]
        self.folder = folder

    def versions(self):
        return {"versions": {"memalloy": self.memalloy.__version__}}

    def write_ids(self):
        ids = [list(self.memalloy.tokenize(text)) for text in self.texts]
        (self.folder / "memalloy.ids.json").write_text(json.dumps(ids))

    def write_vectors(self, checked):
        vectors = self.memalloy.embed(self.chunks[:checked])
        (self.folder / "memalloy.f32").write_bytes(memoryview(vectors).tobytes())

    def tokenize(self):
        tokenize = self.memalloy.tokenize
        for text in self.texts:
            tokenize(text)

    def embed(self):
        self.memalloy.embed(self.chunks)


def hf_tokenizer(onnx):
    """As tokenizer.json of all-MiniLM-L6-v2 has it, from its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = (Path(onnx) / "vocab.txt").read_text("utf-8").split("\n")[:-1]
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")])
    return tokenizer


class HuggingFace:
    def __init__(self, texts, chunks, folder, onnx):
        self.tokenizer = hf_tokenizer(onnx)
        self.texts = texts
        self.chunks = texts[:chunks]
        self.folder = folder

    def versions(self):
        import tokenizers

        return {"versions": {"tokenizers": tokenizers.__version__}}

    def write_ids(self):
        found = self.tokenizer.encode_batch(self.texts, add_special_tokens=False)
        (self.folder / "hf.ids.json").write_text(json.dumps([one.ids for one in found]))

    def count_embedded(self):
        found = self.tokenizer.encode_batch(self.chunks)
        return {"pieces": sum(min(256, len(one.ids)) for one in found)}

    def encode(self):
        encode = self.tokenizer.encode
        for text in self.texts:
            encode(text, add_special_tokens=False).ids

    def encode_batch_fast(self):
        for one in self.tokenizer.encode_batch_fast(self.texts, add_special_tokens=False):
            one.ids


class OnnxRuntime:
    """As an expert would: sorted by length, little padding, one thread without spinning."""

    def __init__(self, texts, chunks, folder, onnx):
        import numpy
        import onnxruntime

        self.numpy = numpy
        self.onnxruntime = onnxruntime
        self.chunks = texts[:chunks]
        self.folder = folder
        self.onnx = Path(onnx)
        self.tokenizer = hf_tokenizer(onnx)
        self.tokenizer.enable_truncation(256)
        self.int8 = self.session("int8")

    def versions(self):
        versions = {"onnxruntime": self.onnxruntime.__version__, "numpy": self.numpy.__version__}
        return {"versions": versions}

    def session(self, model):
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return self.onnxruntime.InferenceSession(
            str(self.onnx / f"{model}.onnx"), options, providers=["CPUExecutionProvider"])

    def vectors(self, session, texts, batch):
        np = self.numpy
        ids = [one.ids for one in self.tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), 384), np.float32)
        for start in range(0, len(order), batch):
            part = order[start:start + batch]
            width = len(ids[part[-1]])
            padded = np.zeros((len(part), width), np.int64)
            mask = np.zeros((len(part), width), np.int64)
            for row, i in enumerate(part):
                padded[row, :len(ids[i])] = ids[i]
                mask[row, :len(ids[i])] = 1
            states = session.run(None, {"input_ids": padded, "attention_mask": mask})[0]
            sums = np.einsum("btd,bt->bd", states, mask.astype(np.float32))
            out[part] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return out

    def write_vectors(self, model, checked):
        session = self.int8 if model == "int8" else self.session(model)
        self.vectors(session, self.chunks[:checked], 1).tofile(self.folder / f"{model}.f32")

    def embed(self, batch):
        self.vectors(self.int8, self.chunks, batch)


CONTESTANTS = {"memalloy": Memalloy, "hf": HuggingFace, "ort": OnnxRuntime}


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):  # Before any thread is started.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    setting = json.loads((folder / "setting.json").read_text())
    contestant = CONTESTANTS[name](setting["texts"], setting["chunks"], folder, setting["onnx"])
    for line in sys.stdin:
        request = json.loads(line)
        method = getattr(contestant, request.pop("do"))
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        answer = method(**request) or {}
        answer.setdefault("cpu_s", time.process_time() - cpu_s)
        answer.setdefault("wall_s", time.perf_counter() - wall_s)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
