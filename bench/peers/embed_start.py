"""A fresh process of bench_embed.py: import, open the model, embed; says when, and how much memory.

    embed_start.py first NAME FOLDER      one query; prints the vector's first number
    embed_start.py memory NAME FOLDER     RSS in KB before the model is opened, the peak and RSS behind the first query,
                                          the peak behind all texts in bulk; one line of JSON
"""

import json
import sys
from pathlib import Path

BATCH = 8


def status(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise SystemExit(f"bench: no {field} in /proc/self/status")


class Memalloy:
    def __init__(self, setting):
        import memalloy

        self.embed_texts = memalloy.embed
        self.path = setting["model"]  # As users do: the first call opens it, and it stays open.

    def embed(self, texts):
        return self.embed_texts(texts, model=self.path)


class OnnxRuntime:
    file = "int8.onnx"

    def __init__(self, setting):
        import numpy
        import onnxruntime
        import tokenizers

        self.numpy = numpy
        self.library = onnxruntime
        self.tokenizers = tokenizers
        self.onnx = Path(setting["onnx"])
        self.threads = setting["threads"]
        self.session = None

    def open(self):
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.threads
        path = str(self.onnx / self.file)
        self.session = self.library.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, ids, mask):
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    def embed(self, texts):
        """Sorted by length, in batches padded to their longest."""
        np = self.numpy
        if self.session is None:
            self.open()
            self.tokenizer = self.tokenizers.Tokenizer.from_file(str(self.onnx / "tokenizer.json"))
        every = [one.ids for one in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(every)), key=lambda i: len(every[i]))
        out = np.empty((len(every), 384), np.float32)
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            ids = np.zeros((len(part), len(every[part[-1]])), np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(part):
                ids[row, : len(every[i])] = every[i]
                mask[row, : len(every[i])] = 1
            sums = np.einsum("btd,bt->bd", self.run(ids, mask), mask.astype(np.float32))
            out[part] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return out


class OnnxRuntimeFloat(OnnxRuntime):
    file = "fp32.onnx"


class OpenVino(OnnxRuntime):
    def __init__(self, setting):
        sys.modules["openvino_telemetry"] = None  # A benchmark sends nothing.
        import numpy
        import openvino
        import tokenizers

        self.numpy = numpy
        self.library = openvino
        self.tokenizers = tokenizers
        self.onnx = Path(setting["onnx"])
        self.threads = setting["threads"]
        self.session = None

    def open(self):
        # Its cache of compiled models makes starts after the first one shorter.
        settings = {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1, "CACHE_DIR": str(self.onnx / "openvino_cache")}
        model = self.library.Core().compile_model(str(self.onnx / "openvino_int8.xml"), "CPU", settings)
        self.session = model.create_infer_request()

    def run(self, ids, mask):
        self.session.infer({"input_ids": ids, "attention_mask": mask})
        return self.session.get_output_tensor(0).data


KINDS = {"memalloy": Memalloy, "ort_int8": OnnxRuntime, "ort_fp32": OnnxRuntimeFloat, "openvino_int8": OpenVino}


def main():
    what, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    setting = json.loads((folder / "start.json").read_text())
    engine = KINDS[name](setting)
    if what == "first":
        print(f"{float(engine.embed([setting['query']])[0][0]):.4f}", flush=True)
        return
    before = status("VmRSS")
    engine.embed([setting["query"]])
    answer = {"before_kb": before, "opened_kb": status("VmRSS"), "open_peak_kb": status("VmHWM")}
    engine.embed(setting["texts"])
    print(json.dumps({**answer, "peak_kb": status("VmHWM")}))


if __name__ == "__main__":
    main()
