"""The `memalloy` command of an installed package: starts the program that lies beside this file, in this process.

It is given the package's model, which it could not find by itself: where packages lie is Python's knowledge.
"""

import os
import sys

from memalloy import _model


def main():
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "memalloy")
    model = _model.default_path()
    if model is not None:
        os.environ["MEMALLOY_MODEL"] = model
    try:
        os.execv(program, ["memalloy", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"memalloy: {program}: {error.strerror}")
