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


def _models_folder():
    """Where models with names are; the rule of the library."""
    models, data, home = (os.environ.get(name) for name in ("MEMALLOY_MODELS", "XDG_DATA_HOME", "HOME"))
    if models:
        return models
    if data and data.startswith("/"):
        return os.path.join(data, "memalloy", "models")
    return os.path.join(home, ".local", "share", "memalloy", "models") if home else None


def runtime_path(model):
    """The library inside the installed `onnxruntime` package, where model is a folder or names one; else None."""
    if model is None:
        return None
    place = os.fsdecode(model)
    folder = _models_folder()
    if not os.path.exists(place) and folder is not None and os.sep not in place:
        place = os.path.join(folder, place)
    return runtime_library() if os.path.isdir(place) else None


def runtime_library():
    """The library inside the installed `onnxruntime` package, or None.

    The package is looked for, not imported: the library alone is loaded, and only for models that need it.
    """
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
