"""RAGKernel.watch and FileWatcher: a folder that is followed."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import memalloy
import pytest

SOON = 20.0


def texts(kb):
    """What the store has of files: path below the folder to text."""
    return {
        os.path.basename(document.path): kb.get_document(document.id).content for document in kb.list_documents()
    }


def on_disk(folder):
    return {path.name: path.read_text() for path in folder.rglob("*.*") if path.is_file()}


def test_the_store_follows_the_folder(kb, folder):
    with kb.watch(folder, quiet=0.03) as watch:
        assert watch.wait(SOON)
        assert texts(kb) == on_disk(folder)
        (folder / "tea.md").write_text("# Tea\n\nWhite tea.\n")
        (folder / "bike.txt").unlink()
        (folder / "new").mkdir()
        (folder / "new" / "soup.md").write_text("# Soup\n\nLeeks and potatoes.\n")
        assert watch.wait(SOON)
        assert texts(kb) == on_disk(folder)
        assert kb.search("a soup of leeks", top_k=1)[0].path == str(folder / "new" / "soup.md")
        status = watch.status()
        assert status["state"] == "following" and status["pending"] == 0 and status["reason"] is None
        assert (status["added"], status["replaced"], status["removed"]) == (4, 1, 1)
        assert status["folders"] == 3
    assert watch.closed
    with pytest.raises(memalloy.ClosedError):
        watch.status()
    watch.close()


def test_events_say_what_happened(kb, folder):
    watch = kb.watch(folder, quiet=0.03)
    seen = []
    while not seen or seen[-1].kind != "synced":
        seen.append(watch.next(SOON))
    assert {event.kind for event in seen[:-1]} == {"added"} and seen[-1].count == 3
    (folder / "deep").rename(folder / "deeper")
    moved = watch.next(SOON)
    assert moved.kind == "moved"
    assert moved.path == str(folder / "deeper" / "bread.md") and moved.old_path == str(folder / "deep" / "bread.md")
    assert kb.get_document(moved.document_id).path == moved.path
    (folder / "bad.txt").write_bytes(b"\xff\xfe")
    skipped = watch.next(SOON)
    assert skipped.kind == "skipped" and "UTF-8" in skipped.reason
    assert watch.next(0) is None
    kb.close()
    assert list(watch) == []
    assert watch.status()["state"] == "ended"
    watch.close()


def test_hits_of_files_that_changed_are_stale(kb, folder):
    kb.sync(folder)
    assert not any(hit.stale for hit in kb.search("tea, bread and chains"))
    (folder / "tea.md").write_text("# Tea\n\nWhite tea.\n")
    (folder / "bike.txt").unlink()
    kb.add_document("A text that was handed in is never stale.", document_id="text")
    for _ in range(2):  # in the log, and in the tables
        stale = {os.path.basename(hit.path or "text"): hit.stale for hit in kb.search("tea, bread, chains, text")}
        assert stale == {"tea.md": True, "bike.txt": True, "bread.md": False, "text": False}
        kb.checkpoint()
    kb.sync(folder)
    assert not any(hit.stale for hit in kb.search("tea, bread and chains"))


def test_patterns_flat_and_polling(kb, folder):
    with kb.watch(folder, include=["*.md"], recursive=False, poll=True, poll_interval=0.05) as watch:
        assert watch.wait(SOON)
        assert set(texts(kb)) == {"tea.md"}
        assert watch.status()["state"] == "polling"
        (folder / "later.md").write_text("later")
        (folder / "later.txt").write_text("not this one")
        assert watch.wait(SOON)
        assert set(texts(kb)) == {"tea.md", "later.md"}


def test_wrong_arguments_are_refused(kb, folder, tmp_path):
    with pytest.raises(memalloy.MissingFileError):
        kb.watch(tmp_path / "nothing")
    with pytest.raises(TypeError):
        kb.watch(folder, include="*.md")
    with pytest.raises(TypeError):
        kb.watch(folder, include=[1])
    for wrong in ({"quiet": 0}, {"quiet": "1"}, {"poll_interval": -1}, {"max_file_bytes": 0}, {"include": ["[a"]}):
        with pytest.raises(memalloy.InvalidArgumentError):
            kb.watch(folder, **wrong)
    kb.sync(folder)
    with memalloy.open(tmp_path / "kb", read_only=True) as other, pytest.raises(memalloy.ReadOnlyError):
        other.watch(folder)


def test_the_ancestors_file_watcher(kb, folder):
    watcher = memalloy.PyFileWatcher(kb, str(folder), ["txt", ".md"], True)
    assert watcher.sync().added == 3
    assert not watcher.is_watching
    watcher.stop_watching()
    watcher.start_watching()
    watcher.start_watching()
    (folder / "new.txt").write_text("new")
    (folder / "new.rst").write_text("of no interest")
    assert watcher.wait(SOON)
    assert set(texts(kb)) == {"tea.md", "bike.txt", "bread.md", "new.txt"}
    watcher.stop_watching()
    with pytest.raises(memalloy.InvalidArgumentError):
        watcher.wait()
    with memalloy.FileWatcher(kb, folder) as again:
        assert again.wait(SOON)
        assert "new.rst" in texts(kb)
        assert "watching" in repr(again) and again.path == folder


def test_async_for(tmp_path, model_path, folder):
    async def follow():
        seen = []
        async with await memalloy.aopen(tmp_path / "kb") as kb:
            with kb.watch(folder, quiet=0.03) as watch:
                async for event in watch:
                    seen.append(event)
                    if event.kind == "synced":
                        break
            async with memalloy.FileWatcher(kb, folder) as watcher:
                while True:
                    event = await asyncio.wait_for(anext(aiter(watcher)), SOON)
                    if event.kind == "synced":
                        break
                ticks = 0

                async def tick():
                    nonlocal ticks
                    while True:
                        await asyncio.sleep(0.01)
                        ticks += 1

                task = asyncio.create_task(tick())
                (folder / "later.md").write_text("later")
                seen.append(await asyncio.wait_for(anext(aiter(watcher)), SOON))
                task.cancel()
                assert ticks > 2
        return seen

    seen = asyncio.run(follow())
    assert [event.kind for event in seen] == ["added"] * 3 + ["synced", "added"]


def test_another_thread_may_close_it(kb, folder):
    watch = kb.watch(folder)
    ended = threading.Event()

    def read():
        for _event in watch:
            pass
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert watch.wait(SOON)
    watch.close()
    assert ended.wait(SOON)
    thread.join()


def test_ctrl_c_ends_the_waiting(tmp_path, model_path, folder):
    program = (
        "import memalloy, sys\n"
        "with memalloy.open(sys.argv[1]) as kb, kb.watch(sys.argv[2]) as watch:\n"
        "    print(watch.wait(20), flush=True)\n"
        "    try:\n"
        "        for event in watch: pass\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped', watch.status()['pending'], flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "kb", folder], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "True\n"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert child.communicate(timeout=SOON)[0] == "stopped 0\n"
    assert child.returncode == 0 and time.monotonic() - began < 5
    with memalloy.open(tmp_path / "kb") as kb:
        assert kb.count() == 3


def test_a_watch_that_nobody_keeps_ends(kb, folder):
    threads = len(os.listdir("/proc/self/task"))
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        watch = kb.watch(folder)
        assert watch.wait(SOON)
        del watch
    assert len(os.listdir("/proc/self/fd")) <= files + 8
    assert len(os.listdir("/proc/self/task")) <= threads + 8
