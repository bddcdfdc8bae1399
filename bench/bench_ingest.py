#!/usr/bin/env python3
"""A folder of texts becomes a store: memalloy beside what Python glues together, all from one run: `make bench-ingest`.

    bench_ingest.py [--corpus FOLDER] [--cache FOLDER] [--megabytes N] [--cores 1 2] [--rounds N] [--memalloy PYTHON]

In: texts, those of --corpus or out of the documentation that Debian packages. Each contestant runs in a process of its
own, held to so many cores, and takes turns with the others. What it stored is asked before its figures count: a sentence
out of a text must lead back to it. Out: source KB a second, CPU seconds, peak memory, a verdict for each target,
build/bench-ingest.json.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]

import ann_sentences  # noqa: E402
import bench_embed_token  # noqa: E402

PACKAGES = ("python3.11-doc", "postgresql-doc-15", "debian-reference-en", "linux-doc-6.1")
LETTERS_MIN, LETTERS_MAX = 1200, 60000
QUERIES, FOUND_MIN = 40, 0.7
NAMES = ("memalloy", "onnxruntime", "fastembed")
LABELS = {"memalloy": "memalloy", "onnxruntime": "ONNX Runtime int8 + lancedb", "fastembed": "fastembed int8 + lancedb"}
FASTEST, LEANEST = 2.4, 1 / 3  # targets: times the best rival's rate, of its memory


def text_of(path):
    data = path.read_bytes()
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
    parts = (part.strip() for part in ann_sentences.paragraphs(plain, text))
    return "\n\n".join(part for part in parts if part) + "\n"


def make_corpus(cache, folder, byte_count):
    """Texts of the packages in an order of chance, until they are so many bytes."""
    found = []
    for root in ann_sentences.fetch(cache, PACKAGES):
        found += sorted(path for path in root.rglob("*") if ann_sentences.is_wanted(path))
    random.Random(7).shuffle(found)
    total, count = 0, 0
    for path in found:
        text = text_of(path)
        if not LETTERS_MIN <= len(text) <= LETTERS_MAX:
            continue
        data = text.encode()
        (folder / f"{count:05d}_{path.name.split('.')[0][:40]}.txt").write_bytes(data)
        total, count = total + len(data), count + 1
        if total >= byte_count:
            return
    raise SystemExit(f"bench: the packages {', '.join(PACKAGES)} hold {total >> 10} KiB of texts only; apt could not fetch them all")


def copy_corpus(source, folder, byte_count):
    total = 0
    for path in sorted(source.iterdir()):
        if total < byte_count and path.is_file():
            shutil.copy(path, folder)
            total += path.stat().st_size


def make_queries(folder):
    """(sentence, the file that it is in), files spread over all."""
    paths, found, seen = sorted(folder.iterdir()), [], set()
    step = max(1, len(paths) // (QUERIES * 2))
    for path in paths[::step]:
        sentences = [s for part in path.read_text("utf-8").split("\n\n") for s in ann_sentences.sentences_of(part) if len(s) > 60]
        if sentences and len(found) < QUERIES:
            sentence = max(sentences, key=len)
            if sentence not in seen:
                found.append((sentence, path.name))
                seen.add(sentence)
    if len(found) < 10:
        raise SystemExit("bench: the texts have too few sentences to ask for")
    return found


def make_fastembed(onnx, folder):
    """The folder that it takes for a model: the rivals' int8 one under its own names."""
    shutil.copy(onnx / "int8.onnx", folder / "model.onnx")
    shutil.copy(onnx / "tokenizer.json", folder)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 256, "max_length": 256, "pad_token": "[PAD]"}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "unk_token": "[UNK]"}))


def run(name, cores, setting, pythons, scratch):
    """One ingest into an empty store; its figures, or a text that says why there are none."""
    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    setting = {**setting, "store": str(store), "threads": cores}
    (scratch / "setting.json").write_text(json.dumps(setting))
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    command = [pythons[name], str(HERE / "peers" / "ingest_worker.py"), name, str(scratch / "setting.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=scratch,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "true" if cores > 1 else "false", "HF_HUB_OFFLINE": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, allowed))
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["no reason"])[-1]
    figures = json.loads(done.stdout.splitlines()[-1])
    right = sum(name in hits for hits, name in zip(figures["hits"], setting["answers"]))
    if right < FOUND_MIN * len(setting["answers"]):
        return f"found {right} of {len(setting['answers'])} sentences again"
    return {**figures, "found": right}


def best_of(rounds):
    """The fastest round by wall; the least memory and CPU time of any."""
    return {
        "kb_s": max(r["kb_s"] for r in rounds), "cpu_seconds": min(r["cpu_seconds"] for r in rounds),
        "peak_mb": min(r["peak_bytes"] for r in rounds) / 1e6, "chunks": rounds[0]["chunks"], "found": min(r["found"] for r in rounds)}


def compare(cores, found, queries):
    print(f"\n{cores} core{'s' if cores > 1 else ''}{'':24}KB/s   CPU s/MB   peak MB    chunks   found again")
    for name, best in found.items():
        print(f"  {LABELS[name]:<28}{best['kb_s']:>6.1f}{best['cpu_mb']:>11.2f}{best['peak_mb']:>10.0f}{best['chunks']:>10}"
              f"{best['found']:>8} of {queries}")
    rivals = [best for name, best in found.items() if name != "memalloy"]
    if "memalloy" not in found or not rivals:
        print("  no comparison: a contestant is missing")
        return False
    rate = found["memalloy"]["kb_s"] / max(rival["kb_s"] for rival in rivals)
    memory = found["memalloy"]["peak_mb"] / min(rival["peak_mb"] for rival in rivals)
    print(f"  {'met   ' if rate >= FASTEST else 'missed'} {rate:.2f} times the best rival's rate ({FASTEST})")
    print(f"  {'met   ' if memory <= LEANEST else 'missed'} {memory:.2f} of the leanest rival's memory ({LEANEST:.2f})")
    return rate >= FASTEST and memory <= LEANEST


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, help="a folder of texts")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "memalloy" / "bench-ann" / "packages")
    parser.add_argument("--megabytes", type=float, default=2.0, help="of texts")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--source", help="the wheel or snapshot folder of the float32 model")
    parser.add_argument("--memalloy", default=str(ROOT / ".venv" / "bin" / "python"), help="a Python that has memalloy")
    return parser.parse_args()


def prepare(options, scratch):
    onnx, folder, model = ROOT / "models" / "onnx", scratch / "texts", scratch / "fastembed"
    folder.mkdir()
    model.mkdir()
    if options.corpus:
        copy_corpus(options.corpus, folder, options.megabytes * 1e6)
    else:
        make_corpus(options.cache, folder, options.megabytes * 1e6)
    if not (onnx / "int8.onnx").exists():
        source = bench_embed_token.find_source(options.source)
        subprocess.run([sys.executable, str(HERE / "peers" / "make_onnx.py"), str(source), str(onnx)], check=True)
    if not (onnx / "tokenizer.json").exists():
        from bench_worker import hf_tokenizer

        hf_tokenizer(onnx).save(str(onnx / "tokenizer.json"))
    make_fastembed(onnx, model)
    queries = make_queries(folder)
    return {"folder": str(folder), "onnx": str(onnx), "fastembed": str(model),
            "queries": [query for query, _ in queries], "answers": [name for _, name in queries]}


def measure(options, setting, scratch, cores):
    """name -> its best; who cannot run is said and left out."""
    pythons = {name: sys.executable for name in NAMES} | {"memalloy": options.memalloy}
    byte_count = sum(path.stat().st_size for path in Path(setting["folder"]).iterdir())
    rounds, out = {name: [] for name in NAMES}, set()
    for _ in range(options.rounds):
        for name in NAMES:
            figures = "left out" if name in out else run(name, cores, setting, pythons, scratch)
            if isinstance(figures, str):
                if name not in out:
                    print(f"  {LABELS[name]} is left out: {figures}")
                out.add(name)
                continue
            rounds[name].append({**figures, "kb_s": byte_count / figures["seconds"] / 1e3})
    found = {name: best_of(figures) for name, figures in rounds.items() if figures and name not in out}
    for best in found.values():
        best["cpu_mb"] = best["cpu_seconds"] / byte_count * 1e6
    return found


def main():
    options = arguments()
    results, all_met = {}, True
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as place:
        scratch = Path(place)
        setting = prepare(options, scratch)
        paths = list(Path(setting["folder"]).iterdir())
        print(f"{len(paths)} texts, {sum(path.stat().st_size for path in paths) / 1e6:.2f} MB, {options.rounds} rounds, "
              f"load {os.getloadavg()[0]:.1f}")
        for cores in options.cores:
            if cores > len(os.sched_getaffinity(0)):
                print(f"no {cores} cores here")
                continue
            results[cores] = measure(options, setting, scratch, cores)
            all_met &= compare(cores, results[cores], len(setting["queries"]))
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "bench-ingest.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main())
