"""One contestant of bench_ingest.py in a process of its own: a folder of texts in, a store that can be searched out.

    ingest_worker.py NAME SETTING.json          NAME: see CONTESTANTS

Out: one JSON line: seconds and CPU seconds of the ingest alone, the process's peak memory, its chunks, and for each
query of the setting the files that its five best hits are of. The rivals are what an expert in Python writes of good
parts: texts split as langchain does it, chunks of one length to a batch, rows added by the thousand.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

SEPARATORS = ("\n\n", "\n", " ", "")
SIZE, OVERLAP = 500, 50
WINDOW = 4096  # chunks that are sorted by length, embedded and added together
BATCH_TOKENS = 4096
TOKENS_MAX = 256


def merged(parts, separator):
    """Neighbours joined up to SIZE letters, the last OVERLAP of one in the next."""
    held, count = [], 0
    for part in parts:
        if held and count + len(separator) + len(part) > SIZE:
            yield separator.join(held).strip()
            while held and (count > OVERLAP or count + len(separator) + len(part) > SIZE):
                count -= len(held[0]) + (len(separator) if len(held) > 1 else 0)
                held.pop(0)
        count += len(part) + (len(separator) if held else 0)
        held.append(part)
    yield separator.join(held).strip()


def split(text, level=0):
    """The recursive splitter by characters that the field's glue uses."""
    while SEPARATORS[level] and SEPARATORS[level] not in text:
        level += 1
    separator = SEPARATORS[level]
    small, out = [], []
    for part in text.split(separator) if separator else text:
        if len(part) < SIZE:
            small.append(part)
            continue
        if small:
            out += merged(small, separator)
            small = []
        out += split(part, level + 1)
    if small:
        out += merged(small, separator)
    return [chunk for chunk in out if chunk]


class Memalloy:
    def __init__(self, setting):
        import memalloy

        self.store = memalloy.open(setting["store"], threads=setting["threads"])

    def ingest(self, folder):
        return self.store.sync(folder).chunks

    def search(self, query):
        return [Path(hit.path).name for hit in self.store.search(query, 5)]


class Glue:
    """What the rivals share: lancedb, and the window."""

    def __init__(self, setting):
        import lancedb
        import numpy
        import pyarrow

        self.numpy, self.pyarrow = numpy, pyarrow
        self.setting = setting
        self.prepare()
        names = ("id", "int64"), ("text", "string"), ("source", "string")
        fields = [pyarrow.field(name, getattr(pyarrow, kind)()) for name, kind in names]
        self.schema = pyarrow.schema([*fields, pyarrow.field("vector", pyarrow.list_(pyarrow.float32(), 384))])
        self.table = lancedb.connect(setting["store"]).create_table("chunks", schema=self.schema)
        self.count = 0

    def add(self, texts, sources):
        vectors = self.embed(texts)
        self.table.add(self.pyarrow.table({
            "id": self.pyarrow.array(range(self.count, self.count + len(texts)), self.pyarrow.int64()),
            "text": texts,
            "source": sources,
            "vector": self.pyarrow.FixedSizeListArray.from_arrays(self.pyarrow.array(vectors.ravel()), 384),
        }, schema=self.schema))
        self.count += len(texts)

    def ingest(self, folder):
        texts, sources = [], []
        for path in sorted(Path(folder).iterdir()):
            chunks = split(path.read_text("utf-8"))
            texts += chunks
            sources += [path.name] * len(chunks)
            if len(texts) >= WINDOW:
                self.add(texts, sources)
                texts, sources = [], []
        if texts:
            self.add(texts, sources)
        return self.count

    def search(self, query):
        return [row["source"] for row in self.table.search(self.embed([query])[0]).limit(5).to_list()]


class OnnxRuntime(Glue):
    """int8, batches of like lengths: the best that we know in Python."""

    def prepare(self):
        import onnxruntime
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(self.setting["onnx"]) / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS_MAX)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.setting["threads"]
        path = str(Path(self.setting["onnx"]) / "int8.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def batches(self, counts):
        """Positions in the order of their lengths, as many at a time as BATCH_TOKENS allow."""
        order, start = self.numpy.argsort(counts, kind="stable"), 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * counts[order[end]] <= BATCH_TOKENS:
                end += 1
            yield order[start:end]
            start = end

    def embed(self, texts):
        numpy = self.numpy
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        out = numpy.empty((len(ids), 384), numpy.float32)
        for batch in self.batches(numpy.array([len(row) for row in ids])):
            width = len(ids[batch[-1]])
            tokens = numpy.zeros((len(batch), width), numpy.int64)
            mask = numpy.zeros_like(tokens)
            for row, i in enumerate(batch):
                tokens[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            states = self.session.run(None, {"input_ids": tokens, "attention_mask": mask})[0]
            means = numpy.einsum("bsd,bs->bd", states, mask.astype(numpy.float32))
            out[batch] = means / numpy.linalg.norm(means, axis=1, keepdims=True)
        return out


class FastEmbed(Glue):
    """The usual glue, handed the same int8 model, which is faster than the one it would fetch."""

    def prepare(self):
        from fastembed import TextEmbedding

        self.model = TextEmbedding(
            "sentence-transformers/all-MiniLM-L6-v2", specific_model_path=self.setting["fastembed"], threads=self.setting["threads"])

    def embed(self, texts):
        return self.numpy.stack(list(self.model.embed(texts, batch_size=16))).astype(self.numpy.float32)


CONTESTANTS = {"memalloy": Memalloy, "onnxruntime": OnnxRuntime, "fastembed": FastEmbed}


def main():
    setting = json.loads(Path(sys.argv[2]).read_text())
    contestant = CONTESTANTS[sys.argv[1]](setting)
    wall, cpu = time.perf_counter(), time.process_time()
    chunks = contestant.ingest(setting["folder"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    hits = [contestant.search(query) for query in setting["queries"]]
    print(json.dumps({"seconds": wall, "cpu_seconds": cpu, "peak_bytes": peak, "chunks": chunks, "hits": hits}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
