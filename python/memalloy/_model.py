"""Where the model is: $MEMALLOY_MODEL, else the file inside the package. And ONNX Runtime, where a model needs it."""

import os

_INSIDE = os.path.join("models", "all-minilm-l6-v2.safetensors")


def default_path():
    """The path of the default model; None where the library is to look for itself.

    An empty MEMALLOY_MODEL counts as unset, as it does in the library.
    """
    named = os.environ.get("MEMALLOY_MODEL")
    if named:
        return named
    here = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(here, _INSIDE)
    return inside if os.path.isfile(inside) else None


def runtime_path(model):
    """The library inside the installed `onnxruntime` package, where model is a folder; else None.

    The package is looked for, not imported: the library alone is loaded, and only for models that need it.
    """
    if model is None or not os.path.isdir(model):
        return None
    from importlib.util import find_spec

    try:
        spec = find_spec("onnxruntime")
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        inside = os.path.join(folder, "capi")
        names = sorted(os.listdir(inside)) if os.path.isdir(inside) else []
        for name in names:
            if name.startswith("libonnxruntime.so"):
                return os.path.join(inside, name)
    return None
