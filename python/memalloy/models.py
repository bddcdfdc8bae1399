"""The models of this machine: what is there, making one of a published folder, checking and removing them.

They lie in $MEMALLOY_MODELS, else $XDG_DATA_HOME/memalloy/models, else ~/.local/share/memalloy/models; wherever a model
is asked for, its name there is enough.

    from memalloy import models

    report = models.add("bge-small-en-v1.5")     # a folder with config.json, model.safetensors, tokenizer.json
    kb = memalloy.open("kb", model="bge-small-en-v1.5")
"""

import builtins
import os
from collections.abc import Callable
from typing import Any, TypeAlias

from memalloy import _memalloy, _model

_Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

__all__ = ["add", "info", "list", "remove", "verify"]


def list() -> builtins.list[dict[str, Any]]:
    """Every model that is here, each a dict: name, path, default, error (None where it can be used) and info, which is
    what Model.info() gives, or None."""
    return _memalloy._models_list(_model.runtime_library())


def info(model: _Path | None = None) -> dict[str, Any]:
    """What a model is, as Model.info(); None: the default. ModelError, CorruptError."""
    return _memalloy.Model(model, threads=1).info()


def verify(model: _Path | None = None) -> None:
    """Reads all weights of a model and compares them with their checksum: CorruptError where they differ."""
    _memalloy.Model(model, threads=1).verify()


def remove(name: str) -> None:
    """Removes a model's file, or the link to its folder. NotFoundError (a KeyError)."""
    _memalloy._models_remove(name)


def add(
    folder: _Path,
    name: str | None = None,
    *,
    precision: str = "int8",
    pooling: str | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    calibration: _Path | None = None,
    pieces_max: int = 0,
    threads: int = 0,
    overwrite: bool = False,
    quality: bool = True,
    progress: Callable[[str, float], object] | None = None,
) -> dict[str, Any]:
    """Makes a model of a published folder and returns a report.

    folder: config.json, model.safetensors, tokenizer.json and the files of sentence-transformers. name: what it is
    called here; None: the folder's name. precision: "int8", "bf16" or "f32"; "onnx" links to a folder with model.onnx
    instead. pooling, query_prefix, passage_prefix, pieces_max: other than the folder says. calibration: a file of text
    to round weights by at int8; None: the one that is built in. quality: whether to compare the vectors of other text
    with those of the published weights; report["quality"] has the cosines. progress(step, share) is called some times
    a second, and cancels by returning False or raising, as Ctrl-C does; nothing is left then.

    Errors: NotFoundError, ModelError, UnsupportedError (which names the setting), ConflictError where the name is
    taken, CorruptError, CancelledError.
    """
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a callable or None, not {type(progress).__name__}")
    return _memalloy._models_add(
        os.fsencode(folder), name, precision, pooling, query_prefix, passage_prefix,
        os.fsencode(calibration) if calibration is not None else b"", os.fsencode(_model.runtime_library() or ""),
        pieces_max, threads, overwrite, not quality, progress,
    )
