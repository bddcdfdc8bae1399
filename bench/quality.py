#!/usr/bin/env python3
"""How close the vectors are to float32, and what that is worth on judged collections: `make bench-quality SHARED=dir`.

    quality.py --shared DIR [--memalloy PYTHON] [--model FILE ...] [--source WHEEL] [--only SET ...] [--rivals]

DIR/data/ir/SET holds corpus.jsonl (id, title, text), queries.jsonl (id, text) and qrels.tsv (query, document, relevance).
Each text goes through memalloy.embed of each model, documents and queries of one engine are searched exactly, nDCG@10 is
averaged over all queries of all sets. Float32 is ONNX Runtime's, computed once and kept in the system's folder for
temporary files. None of these texts is in the calibration text. Prints a verdict for each target; exit code 1 where one
is missed.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]

ENGLISH = ("adi", "cranfield", "medline", "scifact_train", "xquad_en")
TOP = 10
PIECES_MAX = 256
BATCH = 16
# quantisation -> passages' mean and least cosine, queries' mean and least cosine, loss of nDCG@10 at most
TARGETS = {
    "int8": (0.9993, 0.997, 0.999, 0.996, 0.003),
    "bf16": (0.99995, None, 0.99995, None, 0.003),
    "f32": (0.999999, None, 0.999999, None, 0.0005),
}
# Runs in a Python that has memalloy, which need not have numpy: lines of JSON texts in, float32 out.
EMBED = """
import json, sys, memalloy
texts = [json.loads(line) for line in sys.stdin]
vectors = memalloy.embed(texts, model=sys.argv[1], kind=sys.argv[3])
with open(sys.argv[2], "wb") as file:
    file.write(memoryview(vectors).tobytes())
"""
INFO = "import memalloy, sys; print(memalloy.Model(sys.argv[1]).info()['quantisation'])"


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Judged:
    """One set: texts of documents and queries, and which document answers which query."""

    def __init__(self, folder):
        self.name = folder.name
        documents = read_lines(folder / "corpus.jsonl")
        self.document_ids = [document["id"] for document in documents]
        self.passages = [f"{d.get('title') or ''} {d['text']}".strip() or "-" for d in documents]
        self.relevant = {}
        for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines():
            query, document, grade = line.split("\t")[:3]
            if float(grade) > 0:
                self.relevant.setdefault(query, {})[document] = float(grade)
        queries = [query for query in read_lines(folder / "queries.jsonl") if query["id"] in self.relevant]
        self.query_ids = [query["id"] for query in queries]
        self.queries = [query["text"] for query in queries]

    def gains(self, passages, queries):
        """nDCG@10 of each query; equal scores in the order of the documents."""
        found = []
        for start in range(0, len(queries), 256):
            scores = queries[start : start + 256] @ passages.T
            best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
            for row, query in zip(best, self.query_ids[start : start + 256], strict=True):
                grades = self.relevant[query]
                gained = sum(grades.get(self.document_ids[d], 0.0) / math.log2(k + 2) for k, d in enumerate(row))
                ideal = sorted(grades.values(), reverse=True)[:TOP]
                found.append(gained / sum(grade / math.log2(k + 2) for k, grade in enumerate(ideal)))
        return found


def by_onnx(texts, path, tokenizer):
    """Float32 by ONNX Runtime (or its int8), sorted by length, little padding."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    every = [one.ids for one in tokenizer.encode_batch_fast(texts)]
    order = sorted(range(len(every)), key=lambda i: len(every[i]))
    out = np.empty((len(every), 384), np.float32)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        ids = np.zeros((len(part), len(every[part[-1]])), np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(part):
            ids[row, : len(every[i])] = every[i]
            mask[row, : len(every[i])] = 1
        states = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        sums = np.einsum("btd,bt->bd", states, mask.astype(np.float32))
        out[part] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return out


class OnnxVectors:
    """Computed once: kept by the model's and the texts' hash."""

    def __init__(self, onnx, file):
        from bench_worker import hf_tokenizer

        self.path = onnx / file
        self.tokenizer = hf_tokenizer(onnx)
        self.tokenizer.enable_truncation(PIECES_MAX)
        self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.folder = Path(tempfile.gettempdir()) / "memalloy-quality"
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def vectors(self, texts, kind):
        name = hashlib.sha256(json.dumps([self.digest, texts]).encode()).hexdigest()[:32]
        kept = self.folder / f"{name}.npy"
        if not kept.exists():
            part = kept.with_suffix(".part.npy")
            np.save(part, by_onnx(texts, self.path, self.tokenizer))
            part.rename(kept)
        return np.load(kept)


class Memalloy:
    def __init__(self, python, model):
        self.python, self.model = python, str(model.resolve())

    def vectors(self, texts, kind):
        with tempfile.NamedTemporaryFile(prefix="memalloy-quality-") as out:
            command = [self.python, "-c", EMBED, self.model, out.name, kind]
            lines = "".join(json.dumps(text) + "\n" for text in texts)
            subprocess.run(command, input=lines, text=True, check=True, cwd=tempfile.gettempdir())
            return np.fromfile(out.name, np.float32).reshape(len(texts), -1)


def cosines(found, wanted):
    return (found.astype(np.float64) * wanted).sum(axis=1)


def measure(sets, engine, reference):
    """set -> what was found there, for one engine; reference is None for the reference itself."""
    found = {}
    for judged in sets:
        passages = engine.vectors(judged.passages, "passage")
        queries = engine.vectors(judged.queries, "query")
        row = {"gains": judged.gains(passages, queries), "vectors": (passages, queries)}
        if reference is not None:
            wanted = reference[judged.name]["vectors"]
            row["passages"], row["queries"] = cosines(passages, wanted[0]), cosines(queries, wanted[1])
        found[judged.name] = row
    return found


def pooled(found, what, names):
    return np.concatenate([np.asarray(found[name][what]) for name in names if name in found])


def show(name, found, reference):
    print(f"\n{name}")
    print(f"  {'set':16}{'passages: mean, least':>24}{'queries: mean, least':>24}{'nDCG@10':>10}{'fp32':>8}")
    english = [one for one in found if one in ENGLISH]
    for label, names in [(one, [one]) for one in found] + [("English", english), ("all", list(found))]:
        if not names:
            continue
        p, q = pooled(found, "passages", names), pooled(found, "queries", names)
        gain, wanted = pooled(found, "gains", names).mean(), pooled(reference, "gains", names).mean()
        print(
            f"  {label:16}{p.mean():15.6f} {p.min():.6f}{q.mean():15.6f} {q.min():.6f}{gain:10.4f}{wanted:8.4f}"
            f"   {len(p)} passages, {len(q)} queries"
        )


def judge(name, kind, found, reference):
    """The targets of one model; whether all were met."""
    mean_p, least_p, mean_q, least_q, loss = TARGETS[kind]
    english = [one for one in found if one in ENGLISH] or list(found)
    p, q = pooled(found, "passages", english), pooled(found, "queries", english)
    lost = pooled(reference, "gains", list(found)).mean() - pooled(found, "gains", list(found)).mean()
    rows = [("passages, mean cosine", p.mean(), mean_p), ("passages, least cosine", p.min(), least_p)]
    rows += [("queries, mean cosine", q.mean(), mean_q), ("queries, least cosine", q.min(), least_q)]
    good = True
    for what, value, target in rows:
        if target is not None:
            good = good and value >= target
            print(f"  {'met' if value >= target else 'MISSED':8}{name}: {what:26}{value:.6f} >= {target}")
    good = good and lost <= loss
    print(f"  {'met' if lost <= loss else 'MISSED':8}{name}: {'nDCG@10 below fp32, all sets':26}{lost:.4f} <= {loss}")
    return good


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", default="", help="the folder with data/ir")
    parser.add_argument("--memalloy", default=str(ROOT / ".venv" / "bin" / "python"), help="a Python that has memalloy")
    parser.add_argument("--model", nargs="+", type=Path, help="model files; default: those in models/")
    parser.add_argument("--source", help="the wheel or snapshot folder of the float32 model")
    parser.add_argument("--only", nargs="+", help="these sets only")
    parser.add_argument("--rivals", action="store_true", help="ONNX Runtime int8 too")
    options = parser.parse_args()
    options.sets = Path(options.shared or ".").expanduser() / "data" / "ir"
    if not options.shared or not options.sets.is_dir():
        parser.error("the judged sets are no part of the project: make bench-quality SHARED=dir with dir/data/ir/SET")
    if not options.model:
        name = "all-minilm-l6-v2{}.safetensors"
        made = [ROOT / "models" / "bench" / name.format(end) for end in ("-bf16", "-f32")]
        options.model = [ROOT / "models" / name.format(""), *made]
    return options


def main():
    options = arguments()
    from bench_embed_token import find_source

    onnx = ROOT / "models" / "onnx"
    if not (onnx / "int8.onnx").exists():
        command = [sys.executable, str(HERE / "peers" / "make_onnx.py"), str(find_source(options.source)), str(onnx)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    folders = sorted(path.parent for path in options.sets.glob("*/corpus.jsonl"))
    sets = [Judged(folder) for folder in folders if not options.only or folder.name in options.only]
    print(f"{len(sets)} sets, {sum(len(s.passages) for s in sets)} passages, {sum(len(s.queries) for s in sets)} queries")
    reference = measure(sets, OnnxVectors(onnx, "fp32.onnx"), None)
    found = {}
    for model in options.model:
        if not model.exists():
            print(f"without {model.name}: it is not there (make bench-embed makes bf16 and f32)")
            continue
        kind = subprocess.check_output([options.memalloy, "-c", INFO, str(model)], text=True).strip()
        found[model.name] = (kind, measure(sets, Memalloy(options.memalloy, model), reference))
        show(f"{model.name} ({kind})", found[model.name][1], reference)
    if options.rivals:
        show("ONNX Runtime int8 (dynamic, per channel)", measure(sets, OnnxVectors(onnx, "int8.onnx"), reference), reference)
    print("\ntargets (cosines over the English sets, nDCG@10 over all sets)")
    good = [judge(name, kind, rows, reference) for name, (kind, rows) in found.items()]
    return 0 if good and all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
