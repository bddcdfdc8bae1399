"""python -m memalloy: what is installed."""

import memalloy
from memalloy import _model


def main():
    print(f"memalloy {memalloy.__version__}")
    print(f"model: {_model.default_path() or 'none; run make model, or set MEMALLOY_MODEL'}")
    print("use: import memalloy; help(memalloy)")


if __name__ == "__main__":
    main()
