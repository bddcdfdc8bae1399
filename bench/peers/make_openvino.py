#!/usr/bin/env python3
"""Makes OpenVINO's int8 model as its makers advise: NNCF's calibrated quantisation with the transformer preset.

usage: make_openvino.py FP32_ONNX CALIBRATION_JSON OUT_XML        needs: openvino nncf

The JSON is a list of id sequences; they are texts that are not timed and not compared. The transformer preset smooths
activations into the weights, as we do.
"""

import json
import sys

# Both send usage statistics where this package is there. A benchmark sends nothing.
sys.modules["openvino_telemetry"] = None


def main():
    import numpy
    import openvino
    import nncf

    onnx, calibration, out = sys.argv[1:4]
    with open(calibration, encoding="utf-8") as file:
        sequences = [numpy.array([ids], numpy.int64) for ids in json.load(file)]
    inputs = [{"input_ids": ids, "attention_mask": numpy.ones_like(ids)} for ids in sequences]
    model = openvino.Core().read_model(onnx)
    made = nncf.quantize(
        model,
        nncf.Dataset(inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
    )
    openvino.save_model(made, out, compress_to_fp16=False)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit("usage: make_openvino.py FP32_ONNX CALIBRATION_JSON OUT_XML")
    main()
