"""One rival of bench_embed.py in a process of its own: ids in, unit vectors out, as an expert would run it.

    embed_worker.py NAME THREADS FOLDER          NAME: see RIVALS; FOLDER: setting.json, ids and models

One JSON request a line on stdin, one JSON answer a line on stdout. A setting is a batch and a way of using two threads:
`together`, both work on one batch; `spinning`, the same with threads that wait by spinning; `apart`, one batch on each.
Sequences of a batch have one length, so that no rival computes padding.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def unit_means(numpy, states):
    """Mean over the pieces, unit length; every piece is real."""
    means = states.mean(axis=1, dtype=numpy.float32)
    return means / numpy.linalg.norm(means, axis=1, keepdims=True)


class Rival:
    """What the rivals share: texts of equal length in batches, one query from text to vector."""

    ways_of_two = ("together",)

    def __init__(self, threads, folder):
        import numpy

        self.numpy = numpy
        self.threads = threads
        self.folder = Path(folder)
        self.setting = json.loads((self.folder / "setting.json").read_text())
        self.models = Path(self.setting["models"])
        self.ids = None
        self.tokenizer = None
        self.pool = ThreadPoolExecutor(2)
        self.prepare()

    def ways(self):
        return {"ways": self.ways_of_two if self.threads > 1 else ("together",)}

    def load(self, length):
        self.ids = self.numpy.array(self.setting["ids"][str(length)], self.numpy.int64)
        return {"sequences": len(self.ids)}

    def run(self, count, batch, way="together", first=0):
        self.vectors(self.ids[first : first + count], batch, way)

    def write(self, path, batch):
        self.vectors(self.ids, batch, "together").astype("<f4").tofile(path)

    def vectors(self, ids, batch, way):
        parts = [ids[start : start + batch] for start in range(0, len(ids), batch)]
        if way != "apart":
            return self.numpy.concatenate([self.encode(part, way) for part in parts])
        halves = [self.pool.submit(lambda own: [self.encode(part, "apart") for part in own], parts[k::2]) for k in (0, 1)]
        first, second = (half.result() for half in halves)
        out = [None] * len(parts)
        out[0::2], out[1::2] = first, second
        return self.numpy.concatenate(out)

    def query(self, texts, way="together"):
        """Text to vector, one after the other; how long each took."""
        if self.tokenizer is None:
            from tokenizers import Tokenizer

            self.tokenizer = Tokenizer.from_file(str(self.models / "tokenizer.json"))
        took, used = [], []
        for text in texts:
            wall, cpu = time.perf_counter(), time.process_time()
            ids = self.numpy.array([self.tokenizer.encode(text).ids], self.numpy.int64)
            self.encode(ids, way)
            took.append(time.perf_counter() - wall)
            used.append(time.process_time() - cpu)
        return {"wall": took, "cpu": used}


class OnnxRuntime(Rival):
    ways_of_two = ("together", "spinning", "apart")
    file = "int8.onnx"

    def prepare(self):
        import onnxruntime

        self.library = onnxruntime
        self.sessions = {}

    def versions(self):
        return {"onnxruntime": self.library.__version__, "numpy": self.numpy.__version__}

    def session(self, way):
        if way not in self.sessions:
            options = self.library.SessionOptions()
            options.intra_op_num_threads = 1 if way == "apart" else self.threads
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "1" if way == "spinning" else "0")
            path = str(Path(self.setting["onnx"]) / self.file)
            self.sessions[way] = self.library.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return self.sessions[way]

    def encode(self, ids, way):
        inputs = {"input_ids": ids, "attention_mask": self.numpy.ones_like(ids)}
        return unit_means(self.numpy, self.session(way).run(None, inputs)[0])


class OnnxRuntimeFloat(OnnxRuntime):
    file = "fp32.onnx"


class OpenVino(Rival):
    """Compiled for each shape, which was faster than one model for all shapes by 4 to 9 %."""

    ways_of_two = ("together", "apart")

    def prepare(self):
        sys.modules["openvino_telemetry"] = None  # A benchmark sends nothing.
        import openvino

        self.library = openvino
        self.core = openvino.Core()
        self.requests = {}

    def versions(self):
        return {"openvino": self.library.__version__.split("-")[0]}

    def request(self, shape, way):
        import threading

        # A request serves one thread at a time.
        key = (shape, way, threading.get_ident() if way == "apart" else 0)
        if key not in self.requests:
            settings = {
                "INFERENCE_NUM_THREADS": 1 if way == "apart" else self.threads,
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,
            }
            model = self.core.read_model(str(Path(self.setting["onnx"]) / "openvino_int8.xml"))
            model.reshape({"input_ids": shape, "attention_mask": shape})
            self.requests[key] = self.core.compile_model(model, "CPU", settings).create_infer_request()
        return self.requests[key]

    def encode(self, ids, way):
        request = self.request(tuple(ids.shape), way)
        request.infer({"input_ids": ids, "attention_mask": self.numpy.ones_like(ids)})
        return unit_means(self.numpy, request.get_output_tensor(0).data)


class Torch(Rival):
    bf16 = False

    def prepare(self):
        os.environ.setdefault("OMP_NUM_THREADS", str(self.threads))
        import torch

        import published

        self.library = torch
        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        read = published.read(self.setting["source"])
        self.config = read.config
        kind = torch.bfloat16 if self.bf16 else torch.float32
        self.t = {name: torch.tensor(array).to(kind) for name, array in read.tensors.items()}

    def versions(self):
        return {"torch": self.library.__version__}

    def linear(self, x, name):
        return self.library.nn.functional.linear(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def norm(self, x, name):
        shape = (x.shape[-1],)
        weight, bias = self.t[f"{name}.weight"], self.t[f"{name}.bias"]
        return self.library.nn.functional.layer_norm(x, shape, weight, bias, self.config["layer_norm_eps"])

    def encode(self, ids, way):
        functions, t = self.library.nn.functional, self.t
        count, length = ids.shape
        heads = self.config["num_attention_heads"]
        x = t["embeddings.word_embeddings.weight"][self.library.from_numpy(ids)]
        x = x + t["embeddings.position_embeddings.weight"][:length] + t["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{i}"
            q, k, v = (
                self.linear(x, f"{name}.attention.self.{part}").view(count, length, heads, -1).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = functions.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, length, -1)
            x = self.norm(x + self.linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            inner = functions.gelu(self.linear(x, f"{name}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return unit_means(self.numpy, x.float().numpy())


class TorchBf16(Torch):
    bf16 = True


class Memalloy:
    """The Python package, for single queries only: bulk is measured by the program bench_embed. Needs no numpy."""

    def __init__(self, threads, folder):
        import memalloy

        self.memalloy = memalloy
        path = json.loads((Path(folder) / "setting.json").read_text())["model"]
        self.model = memalloy.Model(path, threads=threads)

    def versions(self):
        return {"memalloy": self.memalloy.__version__}

    def query(self, texts, way="together"):
        took, used = [], []
        for text in texts:
            wall, cpu = time.perf_counter(), time.process_time()
            self.model.embed([text], kind="query")
            took.append(time.perf_counter() - wall)
            used.append(time.process_time() - cpu)
        return {"wall": took, "cpu": used}


RIVALS = {
    "ort_int8": OnnxRuntime,
    "ort_avx2": OnnxRuntime,
    "ort_fp32": OnnxRuntimeFloat,
    "openvino_int8": OpenVino,
    "torch_fp32": Torch,
    "torch_bf16": TorchBf16,
    "memalloy": Memalloy,
}


def main():
    name, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if hasattr(os, "sched_setaffinity"):  # Before any thread is started.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])
    rival = RIVALS[name](threads, folder)
    for line in sys.stdin:
        request = json.loads(line)
        method = getattr(rival, request.pop("do"))
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        answer = method(**request) or {}
        answer.setdefault("cpu_s", time.process_time() - cpu_s)
        answer.setdefault("wall_s", time.perf_counter() - wall_s)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
