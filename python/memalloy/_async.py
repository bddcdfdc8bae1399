"""The asynchronous twin of RAGKernel, and the event loop's end of what runs on native threads.

A call is handed to the library with a ticket, which is an asyncio future. The library's threads do
the work, never touch Python, and ring a descriptor that the event loop watches; then what has come
is taken and the futures get their results. Cancelling one stops the native work.
"""

import asyncio
import warnings
import weakref

from memalloy._memalloy import ClosedError, Document, InvalidArgumentError
from memalloy._memalloy import open as _open

_BLOCK_TEXTS = 256
_BLOCK_CHARACTERS = 1 << 20


class Call:
    """A call under way: await it for its result, iterate over it for its progress.

    async for progress in call: ...  gives the newest Progress whenever there is one, and ends with
    the call; the result, or the exception, comes from await call. Both may be used, in any order.
    """

    def __init__(self, task, news):
        self._task = task
        self._news = news

    def __await__(self):
        return self._task.__await__()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while True:
            if self._news.waiting is not None:
                progress, self._news.waiting = self._news.waiting, None
                return progress
            if self._task.done():
                raise StopAsyncIteration
            woken = self._news.event = asyncio.get_running_loop().create_future()
            self._task.add_done_callback(self._news.wake)
            try:
                await woken
            finally:
                self._task.remove_done_callback(self._news.wake)

    def cancel(self):
        """Stops the work; awaiting it raises asyncio.CancelledError."""
        return self._task.cancel()

    def done(self):
        return self._task.done()


class _News:
    """The newest progress of one call: what nobody asked for in time is passed over."""

    def __init__(self, callback):
        self.waiting = None
        self.event = None
        self.callback = callback

    def put(self, progress):
        self.waiting = progress
        self.wake()
        if self.callback is not None:
            return self.callback(progress) is not False
        return True

    def wake(self, _task=None):
        if self.event is not None and not self.event.done():
            self.event.set_result(None)


class AsyncRAGKernel:
    """A store for asyncio: the methods of RAGKernel, awaited; memalloy.aopen() opens one.

    Work runs on native threads, not in the event loop and not in a Python thread per call. A call
    that is cancelled (a task, a time limit, Call.cancel()) stops its native work; what was committed
    stays. At most queue_limit calls are under way; more wait for their turn. One object belongs to
    one event loop at a time.
    """

    def __init__(self, kernel, queue_limit=64):
        if not isinstance(queue_limit, int) or queue_limit < 1:
            raise InvalidArgumentError(f"queue_limit is {queue_limit!r}, must be an int from 1")
        self._kernel = kernel
        self._limit = queue_limit
        self._loop = None
        self._room = None
        self._news = {}
        self._closing = None

    # ---- the event loop's end

    def _bind(self):
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return loop
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("this AsyncRAGKernel belongs to another event loop")
        if self._news:  # the loop they belonged to is gone
            self._news.clear()
            self._kernel._abandon()
        loop.add_reader(self._kernel._descriptor(), _take_of, weakref.ref(self))
        self._loop = loop
        self._room = asyncio.Semaphore(self._limit)
        return loop

    def _take(self):
        for ticket, what, value in self._kernel._take():
            if what == "progress":
                news = self._news.get(ticket)
                if news is not None and not self._tell(news, ticket, value):
                    self._kernel._cancel(ticket)
                continue
            self._news.pop(ticket, None)
            if ticket.done():
                continue
            if what == "error":
                ticket.set_exception(value)
            else:
                ticket.set_result(value)

    def _tell(self, news, ticket, progress):
        try:
            return news.put(progress)
        except BaseException as error:  # the caller's function: its exception ends the call
            if not ticket.done():
                ticket.set_exception(error)
            return False

    def _dropped(self, ticket):
        if ticket.cancelled():
            self._kernel._cancel(ticket)

    async def _call(self, news, name, args, kwargs):
        loop = self._bind()
        if self._closing is not None and name != "close":
            raise ClosedError("the store is closed")
        async with self._room:
            ticket = loop.create_future()
            self._news[ticket] = news
            try:
                self._kernel._start(ticket, name, args, kwargs)
            except BaseException:
                del self._news[ticket]
                raise
            ticket.add_done_callback(self._dropped)
            return await ticket

    async def _plain(self, name, *args, **kwargs):
        return await self._call(_News(None), name, args, kwargs)

    def _watched(self, name, args, kwargs, progress):
        if progress is True:
            from memalloy._progress import Printer

            progress = Printer()
        elif progress is None or progress is False:
            progress = None
        elif not callable(progress):
            raise TypeError(f"progress must be True, a callable or None, not {type(progress).__name__}")
        news = _News(progress)
        task = asyncio.get_running_loop().create_task(self._call(news, name, args, kwargs))
        return Call(task, news)

    # ---- writing

    async def add_document(self, content, metadata=None, document_id=None, *, durability=None):
        """As RAGKernel.add_document."""
        return await self._plain("add_document", content, metadata, document_id, durability=durability)

    async def add_file(self, path, metadata=None, document_id=None, *, durability=None):
        """As RAGKernel.add_file."""
        return await self._plain("add_file", path, metadata, document_id, durability=durability)

    async def add_vectors(self, contents, vectors, metadata=None, ids=None, *, durability=None):
        """As RAGKernel.add_vectors."""
        return await self._plain("add_vectors", contents, vectors, metadata, ids, durability=durability)

    async def add_documents(self, documents, *, durability=None):
        """As RAGKernel.add_documents; documents may be an asynchronous iterable, too."""
        if isinstance(documents, (str, bytes, dict)):
            raise TypeError(f"documents must be an iterable of documents, not {type(documents).__name__}")
        ids, block, given, characters = [], [], set(), 0

        async def store():
            nonlocal characters
            ids.extend(await self._plain("add_block", list(block), len(ids), durability))
            block.clear()
            given.clear()
            characters = 0

        async for document in _each(documents):
            document_id, content = _parts(document)
            if document_id is not None and document_id in given:  # it replaces the one before
                await store()
            if isinstance(document_id, str):
                given.add(document_id)
            block.append(document)
            characters += len(content) if isinstance(content, str) else 0
            if len(block) == _BLOCK_TEXTS or characters >= _BLOCK_CHARACTERS:
                await store()
        if block:
            await store()
        return ids

    async def remove_document(self, document_id, *, durability=None):
        """As RAGKernel.remove_document."""
        return await self._plain("remove_document", document_id, durability=durability)

    async def update_metadata(self, document_id, metadata, *, durability=None):
        """As RAGKernel.update_metadata."""
        return await self._plain("update_metadata", document_id, metadata, durability=durability)

    def sync(
        self,
        folder,
        include=None,
        exclude=None,
        progress=None,
        max_file_bytes=None,
        *,
        durability=None,
        paths=None,
        recursive=True,
    ):
        """As RAGKernel.sync, as a Call: await it for the report, iterate over it for its progress."""
        kwargs = {"max_file_bytes": max_file_bytes, "durability": durability, "paths": paths, "recursive": recursive}
        return self._watched("sync", (folder, include, exclude), kwargs, progress)

    def watch(self, folder, include=None, exclude=None, **options):
        """As RAGKernel.watch: a FolderWatch, whose events come by async for."""
        return self._kernel.watch(folder, include, exclude, **options)

    def make_index(self, progress=None, **options):
        """As RAGKernel.make_index, as a Call."""
        return self._watched("make_index", (), options, progress)

    async def flush(self):
        """As RAGKernel.flush."""
        return await self._plain("flush")

    async def checkpoint(self):
        """As RAGKernel.checkpoint."""
        return await self._plain("checkpoint")

    # ---- reading

    async def search(self, query, top_k=5, **options):
        """As RAGKernel.search."""
        return await self._plain("search", query, top_k, **options)

    async def search_vector(self, vector, top_k=5, **options):
        """As RAGKernel.search_vector."""
        return await self._plain("search_vector", vector, top_k, **options)

    async def search_vectors(self, vectors, top_k=5, **options):
        """As RAGKernel.search_vectors."""
        return await self._plain("search_vectors", vectors, top_k, **options)

    async def explain(self, query, top_k=5, **options):
        """As RAGKernel.explain."""
        return await self._plain("explain", query, top_k, **options)

    async def get_document(self, document_id):
        """As RAGKernel.get_document."""
        return await self._plain("get_document", document_id)

    async def list_documents(self, limit=None, after=None):
        """As RAGKernel.list_documents."""
        return await self._plain("list_documents", limit, after)

    async def count(self):
        """As RAGKernel.count."""
        return await self._plain("count")

    async def status(self):
        """As RAGKernel.status."""
        return await self._plain("status")

    async def index_status(self):
        """As RAGKernel.index_status."""
        return await self._plain("index_status")

    async def verify(self):
        """As RAGKernel.verify."""
        return await self._plain("verify")

    def set_chunking_strategy(self, strategy):
        """As RAGKernel.set_chunking_strategy; it only notes a number or two."""
        self._kernel.set_chunking_strategy(strategy)

    # ---- life

    @property
    def path(self):
        return self._kernel.path

    @property
    def closed(self):
        return self._closing is not None or self._kernel.closed

    @property
    def open_report(self):
        return self._kernel.open_report

    async def close(self):
        """Cancels what is under way, puts what was committed into the tables, and closes the store."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self):
        loop = self._bind()
        self._kernel._cancel(None)
        while self._news:
            await asyncio.wait(list(self._news))
            await asyncio.sleep(0)
        try:
            if not self._kernel.closed:
                await self._plain("close")
        finally:
            loop.remove_reader(self._kernel._descriptor())
            self._kernel._abandon()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_exception):
        await self.close()
        return False

    def __repr__(self):
        return f"AsyncRAGKernel({self.path!r}{', closed' if self.closed else ''})"

    def __del__(self):
        if getattr(self, "_kernel", None) is None or self._closing is not None:
            return
        warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._kernel._descriptor())
        self._kernel._abandon()
        self._kernel.close()


def _take_of(reference):
    """The event loop must not keep an object alive that nobody else knows."""
    kernel = reference()
    if kernel is not None:
        kernel._take()


async def _each(documents):
    if hasattr(documents, "__aiter__"):
        async for document in documents:
            yield document
    else:
        for document in documents:
            yield document


def _parts(document):
    """(id or None, content) of what add_documents takes; what it does not take the library refuses."""
    if isinstance(document, Document):
        return document.id, document.content
    if isinstance(document, tuple):
        return (document[2] if len(document) > 2 else None), (document[0] if document else None)
    return None, document


async def aopen(path, *, queue_limit=64, **options):
    """Opens a store for asyncio, with the options of memalloy.open().

    Opening reads no rows and takes some milliseconds; the model is loaded by the first call that
    needs it, on a native thread. queue_limit: calls that are under way at a time; more wait.
    """
    return AsyncRAGKernel(_open(path, **options), queue_limit)

