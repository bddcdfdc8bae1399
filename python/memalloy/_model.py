"""Where the model is: $MEMALLOY_MODEL, else the file inside the package."""

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
