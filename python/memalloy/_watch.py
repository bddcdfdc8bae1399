"""Folders that are followed: FolderWatch, which RAGKernel.watch() gives, and FileWatcher, which has the
names of memalloy 0.1. The work is done on the library's own threads, whether events are taken or not.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from memalloy._memalloy import InvalidArgumentError

if TYPE_CHECKING:
    from memalloy._async import AsyncRAGKernel
    from memalloy._memalloy import RAGKernel, SyncReport

_Path = str | bytes | os.PathLike

_KINDS = {
    1: "added",
    2: "replaced",
    3: "removed",
    4: "moved",
    5: "skipped",
    16: "synced",
    17: "problem",
    18: "solved",
    19: "missed",
    20: "ended",
}
_POLL = 1
_FLAT = 2


class WatchEvent(NamedTuple):
    """What happened.

    kind: "added", "replaced", "removed", "moved" (from old_path) or "skipped" (with the reason) of a
    file, told once it is committed; "synced": everything was looked at, count files are there;
    "problem": the reason why the folder cannot be followed as it should, "solved" that this is over;
    "missed": count events were not taken in time.
    """

    kind: str
    path: str | None = None
    old_path: str | None = None
    reason: str | None = None
    document_id: str | None = None
    count: int = 0


class FolderWatch:
    """A folder that a store follows, until close(); RAGKernel.watch() opens one.

    for event in watch: ... or async for event in watch: ... gives what happens as WatchEvent, and ends
    with the watch. Nobody has to take them: the store follows the folder anyway.
    """

    def __init__(self, native: Any, folder: Any) -> None:
        self._native = native
        self._folder = folder
        self._ended = False

    @property
    def path(self) -> Any:
        """The folder, as it was given."""
        return self._folder

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._native.closed

    def next(self, timeout: float | None = None) -> WatchEvent | None:
        """The next WatchEvent; None where none comes within timeout seconds, or the watch has ended."""
        if self._ended:
            return None
        found = self._native.next(-1.0 if timeout is None else max(0.0, float(timeout)))
        if found is None:
            return None
        event = WatchEvent(_KINDS.get(found[0], "unknown"), *found[1:])
        if event.kind == "ended":
            self._ended = True
            return None
        return event

    def __iter__(self) -> Iterator[WatchEvent]:
        return self

    def __next__(self) -> WatchEvent:
        while not self._ended and not self.closed:
            event = self.next()
            if event is not None:
                return event
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self

    async def __anext__(self) -> WatchEvent:
        loop = asyncio.get_running_loop()
        while not self._ended and not self.closed:
            event = self.next(0)
            if event is not None:
                return event
            if self._ended:
                break
            ready = loop.create_future()
            descriptor = self._native.fileno()
            loop.add_reader(descriptor, lambda: ready.done() or ready.set_result(None))
            try:
                # Another thread that closes the watch closes the descriptor, which wakes nobody.
                await asyncio.wait([ready], timeout=1.0)
            finally:
                loop.remove_reader(descriptor)
                ready.cancel()
        raise StopAsyncIteration

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until all that was written to the folder before is in the store: True; False where that
        takes longer than timeout seconds."""
        return self._native.settle(-1.0 if timeout is None else max(0.0, float(timeout)))

    def status(self) -> dict[str, Any]:
        """A dict: state ("starting", "following", "polling", "waiting" for a folder that is not there,
        "ended"), pending (0: the store has what the folder has), files and skipped of the last look at
        everything, failed, folders, unwatched, lost, what was done since the beginning, and reason."""
        return self._native.status()

    def fileno(self) -> int:
        """A descriptor that can be read while there are events."""
        return self._native.fileno()

    def close(self) -> None:
        """Ends it; what was committed stays. Safe to repeat."""
        self._native.close()

    def __enter__(self) -> "FolderWatch":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FolderWatch({str(self._folder)!r}{', closed' if self.closed else ''})"


def _patterns(value: Sequence[str] | None, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a sequence of str or None, not {type(value).__name__}")
    return tuple(value)


def _units(value: float | None, name: str, default: int, scale: int, largest: int) -> int:
    """Seconds as an int of the library's units, from 1."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= largest:
        raise InvalidArgumentError(f"{name} is {value!r}, must be a number of seconds above 0, {largest} at most")
    return max(1, round(value * scale))


def open_watch(
    kernel: Any,
    folder: _Path,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    *,
    recursive: bool = True,
    poll: bool = False,
    quiet: float | None = None,
    patience: float | None = None,
    poll_interval: float | None = None,
    reconcile: float | None = None,
    max_file_bytes: int | None = None,
    durability: str | None = None,
) -> FolderWatch:
    """RAGKernel.watch."""
    flags = (0 if recursive else _FLAT) | (_POLL if poll else 0)
    if max_file_bytes is not None and (not isinstance(max_file_bytes, int) or max_file_bytes < 1):
        raise InvalidArgumentError(f"max_file_bytes is {max_file_bytes!r}, must be an int from 1")
    native = kernel._watch(
        folder,
        _patterns(include, "include"),
        _patterns(exclude, "exclude"),
        max_file_bytes or 0,
        durability,
        flags,
        _units(quiet, "quiet", 0, 1000, 3600),
        _units(patience, "patience", 0, 1000, 86400),
        _units(poll_interval, "poll_interval", 0, 1000, 86400),
        _units(reconcile, "reconcile", 0, 1, 86400 * 30),
    )
    return FolderWatch(native, folder)


class FileWatcher:
    """Keeps a store in step with a folder: by sync() when asked, or by itself from start_watching() to
    stop_watching().

    kernel: a RAGKernel. extensions: of the files to be followed, ["md", ".txt"]; None: all. As a context
    manager it watches from the beginning to the end; for and async for give its events.
    """

    def __init__(
        self,
        kernel: "RAGKernel | AsyncRAGKernel",
        path: _Path,
        extensions: Sequence[str] | None = None,
        recursive: bool = True,
    ) -> None:
        if isinstance(extensions, (str, bytes)):
            raise TypeError(f"extensions must be a sequence of str or None, not {type(extensions).__name__}")
        self._kernel: Any = getattr(kernel, "_kernel", kernel)
        self._path = path
        self._include = None if extensions is None else [f"*.{extension.lstrip('.')}" for extension in extensions]
        self._recursive = bool(recursive)
        self._watch: FolderWatch | None = None

    @property
    def path(self) -> Any:
        """The folder."""
        return self._path

    @property
    def is_watching(self) -> bool:
        """Whether start_watching() was called, and stop_watching() was not."""
        return self._watch is not None and not self._watch.closed

    def sync(self) -> "SyncReport":
        """Looks at everything once: RAGKernel.sync, whose SyncReport it returns."""
        return self._kernel.sync(self._path, self._include, recursive=self._recursive)

    def start_watching(self) -> None:
        """Follows the folder from now on; returns at once. Nothing where it does already."""
        if not self.is_watching:
            self._watch = self._kernel.watch(self._path, self._include, recursive=self._recursive)

    def stop_watching(self) -> None:
        """Ends that; what was committed stays."""
        if self._watch is not None:
            self._watch.close()

    def _running(self) -> FolderWatch:
        if self._watch is None or self._watch.closed:
            raise InvalidArgumentError("this FileWatcher does not watch: start_watching() comes first")
        return self._watch

    def wait(self, timeout: float | None = None) -> bool:
        """As FolderWatch.wait."""
        return self._running().wait(timeout)

    def status(self) -> dict[str, Any]:
        """As FolderWatch.status."""
        return self._running().status()

    def next(self, timeout: float | None = None) -> WatchEvent | None:
        """As FolderWatch.next."""
        return self._running().next(timeout)

    def __iter__(self) -> Iterator[WatchEvent]:
        return iter(self._running())

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self._running().__aiter__()

    def __enter__(self) -> "FileWatcher":
        self.start_watching()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop_watching()

    async def __aenter__(self) -> "FileWatcher":
        self.start_watching()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await asyncio.to_thread(self.stop_watching)

    def __repr__(self) -> str:
        return f"FileWatcher({str(self._path)!r}, {'watching' if self.is_watching else 'not watching'})"
