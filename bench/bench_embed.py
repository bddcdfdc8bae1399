#!/usr/bin/env python3
"""The embedding engine beside its rivals and under the roof of the hardware, all from one run: `make bench-embed`.

    bench_embed.py [--quick] [--source WHEEL] [--memalloy PYTHON] [--build FOLDER] [--torch PYTHON] [--only NAME ...]

docs/BENCH.md says what is measured and how. In: the model files, the rivals of .venv-bench. Out: tables, a verdict for
each target, build/bench-embed.json. Answers are compared with float32 before anything is timed; what is not there is
left out and named.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]

import embed_report  # noqa: E402
import embed_run  # noqa: E402
import embed_texts  # noqa: E402
import published  # noqa: E402

BATCHES = (1, 8, 32)
CHECKED = {16: 64, 64: 64, 128: 48, 256: 24}
# Mean and least cosine to float32 below which the vectors are not those of the model, and nothing is timed.
COSINES = {
    "int8": (0.998, 0.99),
    "avx2": (0.998, 0.99),
    "bf16": (0.9999, 0.999),
    "f32": (0.99999, 0.9999),
    "ort_int8": (0.97, 0.9),
    "ort_avx2": (0.97, 0.9),
    "openvino_int8": (0.97, 0.9),
    "ort_fp32": (0.99999, 0.9999),
    "torch_fp32": (0.99999, 0.9999),
    "torch_bf16": (0.999, 0.99),
}
LABELS = {
    "int8": "memalloy int8",
    "avx2": "memalloy int8, AVX2 set",
    "bf16": "memalloy bf16",
    "f32": "memalloy f32",
    "ort_int8": "ONNX Runtime int8",
    "ort_avx2": "ONNX Runtime int8 held to AVX2",
    "ort_fp32": "ONNX Runtime fp32",
    "openvino_int8": "OpenVINO int8",
    "torch_fp32": "torch fp32",
    "torch_bf16": "torch bf16",
}
QUERIES = 48


BEGUN = time.monotonic()


def say(text=""):
    print(f"{text} [{time.monotonic() - BEGUN:.0f} s]" if text.startswith("bench:") else text, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about two minutes: 16 and 128 pieces, few rounds")
    parser.add_argument("--source", help="the wheel or snapshot folder of the float32 model")
    parser.add_argument("--memalloy", default=str(ROOT / ".venv" / "bin" / "python"), help="a Python that has memalloy")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="the meson folder")
    parser.add_argument("--torch", help="a Python that has torch, if another than this one")
    parser.add_argument("--only", nargs="+", choices=LABELS, help="these engines only (int8 and ort_fp32 always)")
    parser.add_argument("--lengths", nargs="+", type=int, choices=embed_texts.LENGTHS, help="word pieces of a text")
    parser.add_argument("--rounds", type=int, help="rounds, instead of 5 (quick: 2)")
    parser.add_argument("--minutes", type=float, help="no round is begun after so many, instead of 11 (quick: 1.5)")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.minutes = options.minutes or (1.5 if options.quick else 11.0)
    options.pass_s = 0.12 if options.quick else 0.25
    options.lengths = options.lengths or ((16, 128) if options.quick else embed_texts.LENGTHS)
    return options


def prepare_models(options, folder):
    """models/onnx with all that the rivals read; the setting that the workers read."""
    from bench_embed_token import find_source
    from bench_worker import hf_tokenizer

    source, onnx = find_source(options.source), ROOT / "models" / "onnx"
    if not (onnx / "int8.onnx").exists():
        say("bench: making the rivals' models in models/onnx")
        command = [sys.executable, str(HERE / "peers" / "make_onnx.py"), str(source), str(onnx)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    tokenizer = hf_tokenizer(onnx)
    tokenizer.save(str(onnx / "tokenizer.json"))
    texts, calibration = embed_texts.make(tokenizer)
    ids = {}
    for length, parts in texts.items():
        every = [part[1] for part in parts]
        ids[str(length)] = every
        ids[f"{length}.check"] = every[: CHECKED[length]]
    for name, sequences in ids.items():
        embed_texts.write_ids(folder / f"{name}.ids", sequences)
    model = ROOT / "models" / "all-minilm-l6-v2.safetensors"
    setting = {"ids": ids, "onnx": str(onnx), "source": str(source), "models": str(onnx), "model": str(model)}
    (folder / "setting.json").write_text(json.dumps(setting))
    mixed = [part[0] for parts in texts.values() for part in parts[::4]]
    start = {**{k: setting[k] for k in ("onnx", "model")}, "query": texts[16][1][0], "texts": mixed, "threads": 2}
    (folder / "start.json").write_text(json.dumps(start))
    return setting, texts, calibration


def prepare_openvino(setting, calibration, folder):
    """Why there is no OpenVINO, or None."""
    from importlib.util import find_spec

    missing = [name for name in ("openvino", "nncf") if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (tools/setup.sh bench tries)"
    out = Path(setting["onnx"]) / "openvino_int8.xml"
    if not out.exists():
        say("bench: calibrating OpenVINO's int8 model")
        calibration_path = folder / "calibration.json"
        calibration_path.write_text(json.dumps(calibration))
        fp32 = str(Path(setting["onnx"]) / "fp32.onnx")
        part = out.with_name("part.xml")
        command = [sys.executable, str(HERE / "peers" / "make_openvino.py"), fp32, str(calibration_path), str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return "nncf.quantize failed: " + (done.stderr.strip().splitlines() or ["no reason"])[-1]
        part.with_suffix(".bin").rename(out.with_suffix(".bin"))
        part.rename(out)
    return None


def can_import(python, name):
    command = [python, "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, check=False, cwd=tempfile.gettempdir()).returncode == 0


def make_precision(options, source, precision):
    """The model of that precision in models/bench, made by our own command; (path, why not)."""
    folder = ROOT / "models" / "bench"
    name = f"all-minilm-l6-v2-{precision}"
    path = folder / f"{name}.safetensors"
    program = [str(options.build / "cli" / "memalloy"), "model"]
    # An older memalloy may have made it.
    if path.exists() and subprocess.run([*program, "verify", str(path)], capture_output=True, check=False).returncode == 0:
        return path, None
    if not source.is_dir():
        source = published.unpack(source, folder / "published")
    folder.mkdir(parents=True, exist_ok=True)
    command = [*program, "add", "--quiet", "--no-quality", "--force", "--precision", precision, "--name", name, str(source)]
    env = {**os.environ, "MEMALLOY_MODELS": str(folder)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not path.exists():
        return None, (done.stderr.strip().splitlines() or ["memalloy model add failed"])[-1]
    return path, None


def native_engines(options, source, say_missing):
    """key -> (model file, kernel set), of what is there."""
    int8 = str(ROOT / "models" / "all-minilm-l6-v2.safetensors")
    found = {"int8": (int8, None), "avx2": (int8, "avx2")}
    for precision in ("bf16", "f32"):
        path, why = make_precision(options, Path(source), precision)
        if path is not None:
            found[precision] = (str(path), None)
        else:
            say_missing(precision, why)
    return found


def peer_engines(options, setting, calibration, folder, say_missing):
    """key -> (kind of worker, python, environment)."""
    import onnxruntime

    import hold_to_avx2

    found = {key: (key, sys.executable, None) for key in ("ort_int8", "ort_fp32")}
    try:
        package = Path(onnxruntime.__file__).parent
        held = hold_to_avx2.make(package, options.build / "bench-avx2")
        found["ort_avx2"] = ("ort_avx2", sys.executable, held)
    except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
        say_missing("ort_avx2", str(error))
    why = prepare_openvino(setting, calibration, folder)
    if why is None:
        found["openvino_int8"] = ("openvino_int8", sys.executable, None)
    else:
        say_missing("openvino_int8", why)
    python = options.torch or sys.executable
    if can_import(python, "torch"):
        found["torch_fp32"] = ("torch_fp32", python, None)
        found["torch_bf16"] = ("torch_bf16", python, None)
    else:
        say_missing("torch_fp32", "torch is not installed (TORCH=1 or --torch PYTHON)")
    return found


def start_engines(options, setting, calibration, folder):
    """key -> {"workers": {threads: worker}, ...}; and what is missing, with the reason."""
    missing, engines = {}, {}

    def say_missing(key, why):
        missing[key] = why
        say(f"bench: without {LABELS[key]}: {why}")

    def is_wanted(key):
        return not options.only or key in options.only or key in ("int8", "ort_fp32")

    program = str(options.build / "tests" / "unit" / "embed" / "bench_embed")
    cores = len(os.sched_getaffinity(0))
    counts = [threads for threads in (1, 2) if threads <= cores]
    makers = {}
    for key, (model, kernels) in native_engines(options, setting["source"], say_missing).items():
        makers[key] = lambda threads, m=model, k=kernels, n=key: embed_run.Native(n, program, m, threads, k)
    for key, (kind, python, env) in peer_engines(options, setting, calibration, folder, say_missing).items():
        makers[key] = lambda threads, a=(kind, python), e=env, n=key: embed_run.Peer(n, *a, threads, folder, e)
    for key in LABELS:
        if key not in makers or not is_wanted(key):
            continue
        own = counts[:1] if "avx2" in key else counts
        try:
            engines[key] = {"key": key, "folder": folder, "workers": {n: makers[key](n) for n in own}}
        except embed_run.WorkerError as error:
            say_missing(key, str(error))
    return engines, missing


def check_answers(engines, lengths, folder):
    """key -> length -> (mean, least) cosine to ONNX Runtime in float32; ends the run where they are wrong."""
    import numpy as np

    wanted, found = {}, {}
    for key in sorted(engines, key=lambda one: one != "ort_fp32"):
        for length in lengths:
            out = folder / f"{key}.{length}.f32"
            engines[key]["workers"][1].write(folder, length, out)
            vectors = np.fromfile(out, "<f4").reshape(CHECKED[length], -1).astype(np.float64)
            wanted.setdefault(length, vectors)
            cosines = (vectors * wanted[length]).sum(axis=1)
            found.setdefault(key, {})[length] = (float(cosines.mean()), float(cosines.min()))
        mean = min(pair[0] for pair in found[key].values())
        least = min(pair[1] for pair in found[key].values())
        if mean < COSINES[key][0] or least < COSINES[key][1]:
            raise SystemExit(f"bench: the vectors of {LABELS[key]} are not those of the model: cosine {mean}, {least}")
    return found


def measure_roof(options, roof):
    """Keeps the highest rates seen: threads -> kind -> G products per CPU second."""
    program = str(options.build / "tests" / "unit" / "embed" / "roofline")
    for threads in (1, 2):
        done = subprocess.run([program, str(threads), "8"], capture_output=True, text=True, check=True)
        for kind, rate in json.loads(done.stdout)["giga_products_per_cpu_s"].items():
            kept = roof.setdefault(threads, {})
            kept[kind] = max(kept.get(kind, 0.0), rate)


def start_queries(options, engines, folder):
    """key -> [(worker, way)]: one query from text to vector, with one thread and with two."""
    jobs = {"memalloy": []}
    for threads in (1, 2):
        worker = embed_run.Peer("memalloy", "memalloy", options.memalloy, threads, folder)
        jobs["memalloy"].append((worker, threads, "together"))
    for key, engine in engines.items():
        if isinstance(engine["workers"][1], embed_run.Peer) and key != "ort_avx2":
            jobs[key] = [(engine["workers"][1], 1, "together")]
            if 2 in engine["workers"]:
                ways = engine["workers"][2].ask("ways")["ways"]
                jobs[key] += [(engine["workers"][2], 2, way) for way in ways if way != "apart"]
    return jobs


def query_round(jobs, texts, latency):
    """Keeps each way's best median: key -> way -> (wall, CPU) in seconds."""
    for key, ways in jobs.items():
        for worker, threads, way in ways:
            worker.ask("query", texts=texts[:8], way=way)
            took = worker.ask("query", texts=texts, way=way)
            medians = [sorted(took[clock])[len(texts) // 2] for clock in ("wall", "cpu")]
            kept = latency.setdefault(key, {}).setdefault(f"{threads} {way}", medians)
            latency[key][f"{threads} {way}"] = [min(pair) for pair in zip(kept, medians, strict=True)]


def measure_start(options, keys, folder, repeats):
    """Fresh processes in turns: seconds from starting one to its first vector, all of them; memory once each."""
    first, memory = {key: [] for key in keys}, {}
    script = str(HERE / "peers" / "embed_start.py")
    for _ in range(repeats):
        for key in keys:
            python = options.memalloy if key == "memalloy" else sys.executable
            start = time.perf_counter()
            done = subprocess.Popen([python, script, "first", key, str(folder)], stdout=subprocess.PIPE, text=True)
            line = done.stdout.readline()
            first[key].append(time.perf_counter() - start)
            if done.wait() != 0 or not line:
                raise SystemExit(f"bench: a fresh process of {key} failed")
    for key in keys:
        python = options.memalloy if key == "memalloy" else sys.executable
        done = subprocess.run([python, script, "memory", key, str(folder)], capture_output=True, text=True, check=True)
        memory[key] = json.loads(done.stdout.splitlines()[-1])
    return {key: sorted(times) for key, times in first.items()}, memory


def run_rounds(options, cells, jobs, queries, roof, begun):
    latency = {}
    say(f"bench: {len(cells)} cells, each setting once, then {options.rounds} rounds")
    late = False
    for cell in cells:
        if not late and time.monotonic() - begun > options.minutes * 60 * 0.6:
            late = True
            say("bench: slow going; of the remaining settings only those with batches of 8 are tried")
        cell.qualify(late)
    done = 0
    say("bench: settings are chosen")
    for _ in range(options.rounds):
        if done and time.monotonic() - begun > options.minutes * 60:
            say(f"bench: {done} rounds in {options.minutes:g} minutes; no more")
            break
        measure_roof(options, roof)
        query_round(jobs, queries, latency)
        for cell in cells:
            cell.round()
        done += 1
    return latency, done


def machine():
    fields = {}
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if ":" in line:
                key, value = line.split(":", 1)
                fields[key.strip()] = value.strip()
    flags = fields.get("flags", "").split()
    return {
        "processor": fields.get("model name", platform.processor() or platform.machine()),
        "family": f"{fields.get('cpu family', '?')}/{fields.get('model', '?')}",
        "features": [flag for flag in ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16") if flag in flags],
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
    }


def main():
    options = arguments()
    begun = time.monotonic()
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="memalloy-bench-") as scratch:
        folder = Path(scratch)
        setting, texts, calibration = prepare_models(options, folder)
        engines, missing = start_engines(options, setting, calibration, folder)
        cosines = check_answers(engines, options.lengths, folder)
        say("bench: all vectors are those of the model; timing begins")
        begun = time.monotonic()
        roof, cells = {}, []
        for length in options.lengths:
            for threads in (1, 2):
                for engine in engines.values():
                    if threads in engine["workers"]:
                        count = len(setting["ids"][str(length)])
                        cells.append(embed_run.Cell(engine, threads, length, count, BATCHES, options.pass_s))
        jobs = start_queries(options, engines, folder)
        queries = [text for text, _ in texts[16][:QUERIES]]
        latency, rounds = run_rounds(options, cells, jobs, queries, roof, begun)
        keys = ["memalloy"] + [key for key in ("ort_int8", "openvino_int8", "ort_fp32") if key in engines]
        first, memory = measure_start(options, keys, folder, 5 if options.quick else 11)
        versions = {}
        for worker in [way[0] for ways in jobs.values() for way in ways]:
            versions.update(worker.versions)
        facts["load_after"] = os.getloadavg()[0]
        for worker in {id(w): w for e in engines.values() for w in e["workers"].values()}.values():
            worker.close()
    result = embed_report.collect(cells, cosines, roof, latency, first, memory, engines)
    result.update(machine=facts, versions=versions, missing=missing, rounds=rounds, minutes=(time.monotonic() - begun) / 60)
    result["quick"] = options.quick
    embed_report.show(result, LABELS)
    options.build.mkdir(exist_ok=True)
    (options.build / "bench-embed.json").write_text(json.dumps(result, indent=1) + "\n")
    say(f"\nall figures: {options.build / 'bench-embed.json'}")


if __name__ == "__main__":
    main()
