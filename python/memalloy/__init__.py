"""The memory kernel for AI applications that run on one machine.

Point it at a folder or hand it text: it chunks, embeds, stores and answers with cited passages. No
server, no network, no Python dependency.

    import memalloy

    with memalloy.open("kb") as kb:
        kb.sync("~/notes")
        for document, score in kb.search("how do I renew the certificate?"):
            print(document.path, score, document.content)
"""

import atexit as _atexit
from typing import TYPE_CHECKING as _TYPE_CHECKING

from memalloy import _memalloy, models
from memalloy._memalloy import (
    CancelledError,
    ChunkingStrategy,
    ClosedError,
    ConflictError,
    CorruptError,
    Document,
    ForkedError,
    Hit,
    InternalError,
    InvalidArgumentError,
    LimitError,
    LockedError,
    MemalloyError,
    MissingFileError,
    Model,
    ModelError,
    ModelMismatchError,
    NotFoundError,
    OutOfMemoryError,
    ParseError,
    Progress,
    RAGKernel,
    ReadOnlyError,
    Spans,
    StoreIOError,
    SyncReport,
    UnsupportedError,
    Vectors,
    __version__,
    embed,
    open,
    tokenize,
)
from memalloy._stream import embed_iter

if _TYPE_CHECKING:
    from memalloy._async import AsyncRAGKernel, Call, aopen
    from memalloy._watch import FileWatcher, FolderWatch, WatchEvent

    PyFileWatcher = FileWatcher

# What Ctrl-C left behind is waited for, as the interpreter's end would tear away what it works on.
_atexit.register(_memalloy._settle, 2.0)

# The names of memalloy 0.1.
PyDocument = Document
PyChunkingStrategy = ChunkingStrategy

__all__ = [
    "AsyncRAGKernel",
    "Call",
    "CancelledError",
    "ChunkingStrategy",
    "ClosedError",
    "ConflictError",
    "CorruptError",
    "Document",
    "FileWatcher",
    "FolderWatch",
    "ForkedError",
    "Hit",
    "InternalError",
    "InvalidArgumentError",
    "LimitError",
    "LockedError",
    "MemalloyError",
    "MissingFileError",
    "Model",
    "ModelError",
    "ModelMismatchError",
    "NotFoundError",
    "OutOfMemoryError",
    "ParseError",
    "Progress",
    "PyChunkingStrategy",
    "PyDocument",
    "PyFileWatcher",
    "RAGKernel",
    "ReadOnlyError",
    "Spans",
    "StoreIOError",
    "SyncReport",
    "UnsupportedError",
    "Vectors",
    "WatchEvent",
    "__version__",
    "aopen",
    "embed",
    "embed_iter",
    "models",
    "open",
    "tokenize",
]


def __getattr__(name):
    """What needs asyncio is imported when it is first asked for: that takes longer than all the rest."""
    if name in ("AsyncRAGKernel", "Call", "aopen"):
        from memalloy import _async

        return getattr(_async, name)
    if name in ("FileWatcher", "FolderWatch", "PyFileWatcher", "WatchEvent"):
        from memalloy import _watch

        return getattr(_watch, name.removeprefix("Py"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
