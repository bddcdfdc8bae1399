"""The `memalloy` command of an installed package: starts the program that lies beside this file, in this process.

It is given the package's model and ONNX Runtime's library, which it could not find by itself: where packages lie is
Python's knowledge.
"""

import os
import sys

from memalloy import _model


def main():
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "memalloy")
    model = _model.default_path()
    if model is not None:
        os.environ["MEMALLOY_MODEL"] = model
    if not os.environ.get("MEMALLOY_ONNXRUNTIME"):
        runtime = _model.runtime_library()  # which model it is to be is not known yet
        if runtime is not None:
            os.environ["MEMALLOY_ONNXRUNTIME"] = runtime
    try:
        os.execv(program, ["memalloy", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"memalloy: {program}: {error.strerror}")
