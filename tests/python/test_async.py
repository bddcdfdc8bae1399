"""The asynchronous twin: the same answers, native threads, cancelling, progress, a bound, its end."""

import asyncio
import gc
import inspect
import os
import subprocess
import sys
import threading
import time
import warnings

import memalloy
import pytest


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def write_notes(root, count, word="other"):
    root.mkdir(exist_ok=True)
    for i in range(count):
        (root / f"{i}.md").write_text(f"# Note {i}\n\n" + f"{word} words about number {i}. " * 150)


def test_every_method_has_its_twin():
    names = {name for name in dir(memalloy.RAGKernel) if not name.startswith("_")}
    twins = {name for name in dir(memalloy.AsyncRAGKernel) if not name.startswith("_")}
    assert names == twins
    for name in names - {"path", "closed", "open_report"}:
        assert "RAGKernel" in (getattr(memalloy.AsyncRAGKernel, name).__doc__ or "") or name == "close"


def test_the_answers_are_the_same(tmp_path, model_path, folder):
    async def with_async():
        async with await memalloy.aopen(tmp_path / "a") as kb:
            assert await kb.add_document("Green tea.", {"n": 1}, "tea") == "tea"
            assert await kb.add_file(folder / "bike.txt") is not None
            assert len(await kb.add_documents(["one", ("two", {"n": 2}), ("three", None, "three")])) == 3
            report = await kb.sync(folder)
            assert (report.added, report.unchanged) == (2, 1)
            await kb.update_metadata("tea", {"n": 3})
            assert await kb.remove_document("three") is True
            assert await kb.remove_document("three") is False
            hits = await kb.search("how is tea made?", 3)
            assert (await kb.get_document("tea")).metadata == {"n": 3}
            assert [d.id for d in await kb.list_documents(2)] == [d.id for d in (await kb.list_documents())[:2]]
            assert await kb.list_documents(0) == []
            assert await kb.count() == (await kb.status())["documents"] == 6
            explained = await kb.explain("tea", 2)
            await kb.flush()
            await kb.checkpoint()
            assert (await kb.verify())["damaged"] == []
            assert await kb.make_index() in (True, False)
            assert (await kb.index_status())["rows"] == 0
            kb.set_chunking_strategy(memalloy.ChunkingStrategy.sentence(200, 20))
            return [(d.content, s) for d, s in hits], len(explained["hits"])

    hits, explained = run(with_async())
    assert explained == 2
    with memalloy.open(tmp_path / "a") as kb:
        assert [(d.content, s) for d, s in kb.search("how is tea made?", 3)] == hits
        assert kb.count() == 6


def test_vectors_without_a_model(tmp_path):
    async def work():
        async with await memalloy.aopen(tmp_path / "v", dim=3) as kb:
            ids = await kb.add_vectors(["x", "y"], [[1, 0, 0], [0, 1, 0]], ids=["x", "y"])
            assert ids == ["x", "y"]
            assert (await kb.search_vector([1, 0.1, 0], 1))[0].document.id == "x"
            lists = await kb.search_vectors([[0, 1, 0], [1, 0, 0]], 1)
            assert [hits[0].document.id for hits in lists] == ["y", "x"]
            assert await kb.search_vectors([]) == []

    run(work())


def test_errors_are_those_of_the_sync_class(tmp_path, model_path):
    async def work():
        kb = await memalloy.aopen(tmp_path / "e")
        with pytest.raises(memalloy.NotFoundError):
            await kb.get_document("nobody")
        with pytest.raises(TypeError, match="query must be a str"):
            await kb.search(3)
        with pytest.raises(memalloy.InvalidArgumentError):
            await kb.search("x", 0)
        with pytest.raises(FileNotFoundError):
            await kb.sync(tmp_path / "nowhere")
        with pytest.raises(TypeError):
            await kb.add_documents("one text")
        with pytest.raises(TypeError, match=r"documents\[1\]"):
            await kb.add_documents(["fine", 7])
        await kb.close()
        await kb.close()
        assert kb.closed and "closed" in repr(kb)
        with pytest.raises(memalloy.ClosedError):
            await kb.search("x")

    run(work())
    with pytest.raises(memalloy.InvalidArgumentError):
        run(memalloy.aopen(tmp_path / "e", queue_limit=0))


def test_an_id_that_comes_again_replaces_what_came_before(tmp_path, model_path):
    async def documents():
        for i in range(300):
            yield (f"text {i}", {"i": i}, f"d{i % 100}")

    async def work():
        async with await memalloy.aopen(tmp_path / "r") as kb:
            assert len(await kb.add_documents(documents())) == 300
            assert await kb.count() == 100
            assert (await kb.get_document("d7")).content == "text 207"

    run(work())


def test_progress_comes_while_it_works(tmp_path, model_path):
    write_notes(tmp_path / "n", 200)

    async def work():
        seen, told = [], []
        async with await memalloy.aopen(tmp_path / "p") as kb:
            call = kb.sync(tmp_path / "n", progress=told.append)
            async for progress in call:
                seen.append(progress)
            report = await call
            assert call.done() and report.added == 200
            assert [p async for p in kb.sync(tmp_path / "n")] is not None  # nothing to do ends, too
            with pytest.raises(TypeError, match="progress"):
                kb.sync(tmp_path / "n", progress=3)
        assert len(seen) > 3 and len(told) > 3
        assert seen[-1].files_total == 200
        assert [p.files_done for p in seen] == sorted(p.files_done for p in seen)

    run(work())


def test_a_callback_ends_the_work(tmp_path, model_path):
    write_notes(tmp_path / "n", 300)

    async def work():
        async with await memalloy.aopen(tmp_path / "c") as kb:
            with pytest.raises(memalloy.CancelledError):
                await kb.sync(tmp_path / "n", progress=lambda progress: False)

            def fail(progress):
                raise KeyError("mine")

            with pytest.raises(KeyError, match="mine"):
                await kb.sync(tmp_path / "n", progress=fail)
            assert await kb.count() < 300

    run(work())


def test_cancelling_stops_the_native_work(tmp_path, model_path, record_property):
    write_notes(tmp_path / "n", 600)

    async def work():
        async with await memalloy.aopen(tmp_path / "c") as kb:
            began = time.perf_counter()
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.5):
                    await kb.sync(tmp_path / "n")
            call = kb.sync(tmp_path / "n")
            await asyncio.sleep(0.3)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            began = time.perf_counter()
            while kb._kernel._take() or kb._news:  # its thread has left the work
                await asyncio.sleep(0.01)
                assert time.perf_counter() - began < 5
            record_property("ran", f"a cancelled sync ended within {time.perf_counter() - began:.3f} s")
            done = await kb.count()
            await asyncio.sleep(0.5)
            assert await kb.count() == done < 600  # nobody works on

    run(work())


def test_a_search_does_not_wait_for_an_ingest(tmp_path, model_path):
    write_notes(tmp_path / "n", 400)

    async def work():
        async with await memalloy.aopen(tmp_path / "s") as kb:
            await kb.add_document("Green tea.", None, "tea")
            syncs = [kb.sync(tmp_path / "n") for _ in range(8)]  # more than there are threads
            await asyncio.sleep(0.2)
            hits = await kb.search("tea", 1)
            assert hits[0].document.id == "tea"
            assert not all(call.done() for call in syncs)
            for call in syncs:
                call.cancel()

    run(work())


def test_no_thread_for_each_call_and_a_bound_on_what_is_under_way(tmp_path, model_path):
    async def work():
        async with await memalloy.aopen(tmp_path / "b", queue_limit=5) as kb:
            await kb.add_document("Green tea.")
            before = threading.active_count()
            most = 0

            async def ask():
                nonlocal most
                hits = await kb.search("tea", 1)
                most = max(most, len(kb._news))
                return len(hits)

            answers = await asyncio.gather(*(ask() for _ in range(200)))
            assert answers == [1] * 200
            assert 1 <= most <= 5
            assert threading.active_count() == before  # of Python's
            assert len(os.listdir("/proc/self/task")) < 30

    run(work())


def test_the_event_loop_goes_on_meanwhile(tmp_path, model_path):
    write_notes(tmp_path / "n", 150)

    async def work():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        async with await memalloy.aopen(tmp_path / "t") as kb:
            ticker = asyncio.create_task(tick())
            await kb.sync(tmp_path / "n")
            ticker.cancel()
        assert ticks > 50

    run(work())


def test_close_ends_what_is_under_way(tmp_path, model_path):
    write_notes(tmp_path / "n", 600)

    async def work():
        kb = await memalloy.aopen(tmp_path / "c")
        call = kb.sync(tmp_path / "n")
        await asyncio.sleep(0.3)
        began = time.perf_counter()
        await kb.close()
        assert time.perf_counter() - began < 10
        with pytest.raises(memalloy.CancelledError):
            await call
        return kb

    run(work())
    with memalloy.open(tmp_path / "c") as kb:
        assert kb.verify()["damaged"] == []


def test_one_that_was_not_closed_says_so_and_lets_go(tmp_path, model_path):
    async def work():
        kb = await memalloy.aopen(tmp_path / "x")
        await kb.add_document("tea", None, "tea")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del kb
            gc.collect()
        assert [w.category for w in caught] == [ResourceWarning]

    run(work())
    with memalloy.open(tmp_path / "x") as kb:
        assert kb.count() == 1


def test_it_belongs_to_one_event_loop_at_a_time(tmp_path, model_path):
    kb = run(memalloy.aopen(tmp_path / "l"))
    run(kb.add_document("tea", None, "tea"))
    assert run(kb.count()) == 1  # the loop before is closed

    async def other():
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(kb.count()))

    async def both():
        await kb.count()
        await other()
        await kb.close()

    run(both())


PROGRAMS = {
    # what is under way at the end of the program: it ends, at once
    "exit_busy": "kb = await memalloy.aopen(path); call = kb.sync(notes); await asyncio.sleep(0.3); sys.exit(5)",
    "os_exit": "kb = await memalloy.aopen(path); call = kb.sync(notes); await asyncio.sleep(0.2); os._exit(5)",
    "raise": "kb = await memalloy.aopen(path); call = kb.sync(notes); await asyncio.sleep(0.2); raise SystemExit(5)",
    "closed": "kb = await memalloy.aopen(path); await kb.add_document('x'); await kb.close(); sys.exit(5)",
    "fork": """kb = await memalloy.aopen(path); call = kb.sync(notes); await asyncio.sleep(0.2)
    pid = os.fork()
    if pid == 0:
        del kb, call
        with memalloy.open(path + "2") as own:
            own.add_document("x")
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    call.cancel(); await kb.close(); sys.exit(5 if status == 0 else 6)""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_end_as_they_should(name, tmp_path, model_path):
    write_notes(tmp_path / "n", 400)
    program = (
        "import asyncio, os, sys, memalloy\n"
        f"path, notes = {str(tmp_path / 'kb')!r}, {str(tmp_path / 'n')!r}\n"
        f"async def main():\n    {PROGRAMS[name]}\n"
        "asyncio.run(main())\n"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert time.perf_counter() - began < 20
    if name != "closed":
        with memalloy.open(tmp_path / "kb") as kb:
            assert kb.verify()["damaged"] == []


def test_signatures_agree():
    for name in ("add_document", "add_file", "add_documents", "add_vectors", "sync", "list_documents"):
        ours = inspect.signature(getattr(memalloy.AsyncRAGKernel, name))
        theirs = inspect.signature(getattr(memalloy.RAGKernel, name))
        assert list(ours.parameters) == list(theirs.parameters)
