"""embed_iter: vectors of as many texts as one likes, a block at a time."""

import os
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from memalloy._memalloy import Model, Vectors, embed

_Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# A block keeps every core busy and is small beside the model.
_TEXTS = 256
_CHARACTERS = 64 * 1024


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    characters = 0
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"texts must give str, not {type(text).__name__}")
        block.append(text)
        characters += len(text)
        if len(block) == _TEXTS or characters >= _CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def embed_iter(
    texts: Iterable[str], model: _Path | Model | None = None, kind: Literal["passage", "query"] = "passage"
) -> Iterator[Vectors]:
    """Vectors of texts from any iterable, in their order, as one Vectors after the other.

    At most 256 texts are held at a time, and none is asked for before the block before it was taken: an endless
    generator needs no more memory than a short one. Each block is what embed() gives for its texts.

        for block in memalloy.embed_iter(open("lines.txt")):
            file.write(block)
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"texts must be an iterable of str, not {type(texts).__name__}")
    if kind not in ("passage", "query"):
        embed((), model, kind)  # says what is wrong now, not at the first text
    if not isinstance(model, Model):
        model = Model(model)
    return (model.embed(block, kind) for block in _blocks(texts))
