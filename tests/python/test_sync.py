"""RAGKernel.sync: reports, patterns, progress, cancelling."""

import fcntl
import io
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time

import memalloy
import pytest
from memalloy import _progress


def test_a_report_says_what_was_done(kb, folder):
    report = kb.sync(folder)
    assert (report.added, report.replaced, report.removed, report.unchanged) == (3, 0, 0, 0)
    assert report.skipped == []
    assert report.chunks == report.chunks_embedded == kb.status()["chunks"] == 3
    assert report.bytes == sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert report.tokens > 20
    assert set(report.seconds) == {"walk", "read", "chunk", "token", "embed", "store", "total"}
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert report.seconds["total"] > 0
    told = report.to_dict()
    assert json.loads(json.dumps(told))["added"] == 3
    told["seconds"].clear()
    assert report.seconds
    assert "added=3" in repr(report)


def test_again_changes_nothing(kb, folder):
    kb.sync(folder)
    before = kb.status()
    report = kb.sync(folder)
    assert (report.added, report.replaced, report.removed, report.unchanged) == (0, 0, 0, 3)
    assert report.chunks_embedded == 0 and report.tokens == 0
    assert kb.status()["chunks_version"] == before["chunks_version"]


def test_exactly_what_changed_is_done(kb, folder):
    kb.sync(folder)
    ids = {document.path: document.id for document in kb.list_documents()}
    (folder / "tea.md").write_text("# Tea\n\nWhite tea.\n")
    (folder / "bike.txt").unlink()
    (folder / "new.txt").write_text("A new file.\n")
    report = kb.sync(folder)
    assert (report.added, report.replaced, report.removed, report.unchanged) == (1, 1, 1, 1)
    documents = {document.path: document for document in kb.list_documents()}
    assert set(documents) == {str(folder / name) for name in ("tea.md", "new.txt", "deep/bread.md")}
    assert documents[str(folder / "tea.md")].id == ids[str(folder / "tea.md")]
    assert documents[str(folder / "tea.md")].content == "# Tea\n\nWhite tea.\n"


def test_moved_files_keep_their_documents(kb, folder):
    kb.sync(folder)
    ids = {os.path.basename(document.path): document.id for document in kb.list_documents()}
    (folder / "deep").rename(folder / "deeper")
    report = kb.sync(folder, paths=["deep", folder / "deeper"])
    assert (report.moved, report.added, report.removed, report.files) == (1, 0, 0, 1)
    assert report.chunks_embedded == 0 and report.to_dict()["moved"] == 1
    assert {os.path.basename(document.path): document.id for document in kb.list_documents()} == ids


def test_only_named_paths_are_looked_at(kb, folder):
    assert kb.sync(folder, paths=[]).files == 0
    assert kb.sync(folder, recursive=False).files == 2
    assert kb.sync(folder, paths=["deep"], recursive=False).files == 0
    assert kb.sync(folder, paths=[b"deep/bread.md", "nothing"]).added == 1
    for wrong in ("../x", "/etc/passwd"):
        with pytest.raises(memalloy.InvalidArgumentError):
            kb.sync(folder, paths=[wrong])
    with pytest.raises(TypeError):
        kb.sync(folder, paths="deep")


def test_documents_that_were_handed_in_stay(kb, folder):
    kb.add_document("handed in", document_id="x")
    kb.sync(folder)
    for path in folder.rglob("*.*"):
        path.unlink()
    report = kb.sync(folder)
    assert report.removed == 3
    assert [document.id for document in kb.list_documents()] == ["x"]


def test_patterns_choose_files(kb, folder):
    assert kb.sync(folder, include=["*.md"], exclude=["deep"]).added == 1
    assert kb.sync(folder, include=["deep/*"]).added == 1
    assert kb.sync(folder, include=("**/*.txt",)).added == 1
    assert kb.count() == 3
    assert kb.sync(folder, include=[]).unchanged == 3


def test_large_files_are_skipped_with_a_reason(kb, folder):
    (folder / "large.txt").write_text("x" * 1000)
    report = kb.sync(folder, max_file_bytes=500)
    assert report.added == 3
    [(path, reason)] = report.skipped
    assert path.endswith("large.txt") and "1000" in reason and "500" in reason
    with pytest.raises(memalloy.InvalidArgumentError):
        kb.sync(folder, max_file_bytes=0)


def test_odd_names_and_trailing_slashes_are_one_folder(kb, tmp_path):
    root = tmp_path / "with space ü"
    root.mkdir()
    (root / "naïve name 'quoted'.txt").write_text("text")
    assert kb.sync(root).added == 1
    assert kb.sync(f"{root}/").unchanged == 1
    assert kb.sync(os.fsencode(root)).unchanged == 1


def test_a_name_that_is_not_utf8_is_indexed(kb, tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    try:
        (root / os.fsdecode(b"caf\xe9.txt")).write_text("latin name")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert kb.sync(root).added == 1
    assert kb.sync(root).unchanged == 1
    assert "caf" in kb.list_documents()[0].path


def test_progress_is_told_and_ends(kb, folder):
    seen = []
    kb.sync(folder, progress=seen.append)
    assert seen and all(isinstance(progress, memalloy.Progress) for progress in seen)
    assert seen[-1].stage == "done"
    assert seen[-1].files_done == seen[-1].files_total == 3
    assert seen[-1].bytes_done == seen[-1].bytes_total
    assert [p.files_done for p in seen if p.stage == "index"] == sorted(p.files_done for p in seen if p.stage == "index")


def test_an_exception_in_the_callback_stops_and_comes_out(kb, folder):
    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop(progress.stage)

    with pytest.raises(Stop):
        kb.sync(folder, progress=stop)
    kb.sync(folder)
    assert kb.count() == 3


def test_false_from_the_callback_cancels(kb, folder):
    with pytest.raises(memalloy.CancelledError) as error:
        kb.sync(folder, progress=lambda progress: False)
    assert error.value.code == memalloy.CancelledError.code == 14
    assert kb.sync(folder, progress=lambda progress: None).unchanged + kb.count() >= 3


def test_close_in_the_callback_closes_when_the_sync_is_out(tmp_path, folder, model_path):
    store = memalloy.open(tmp_path / "kb")
    with pytest.raises(memalloy.ClosedError):
        store.sync(folder, progress=lambda progress: store.close())
    assert store.closed


def test_a_sync_can_be_closed_from_another_thread(tmp_path, model_path):
    root = tmp_path / "many"
    root.mkdir()
    for i in range(400):
        (root / f"{i}.txt").write_text(f"file number {i} " * 60)
    store = memalloy.open(tmp_path / "kb")
    started = threading.Event()
    outcome = []

    def work():
        try:
            outcome.append(store.sync(root, progress=lambda progress: started.set()))
        except memalloy.MemalloyError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(30)
    store.close()
    thread.join(30)
    assert len(outcome) == 1 and isinstance(outcome[0], memalloy.ClosedError)
    with memalloy.open(tmp_path / "kb") as again:
        again.sync(root)
        assert again.count() == 400


def test_ctrl_c_stops_a_sync_and_what_was_committed_stays(tmp_path, model_path):
    root = tmp_path / "many"
    root.mkdir()
    for i in range(600):
        (root / f"{i}.txt").write_text(f"file number {i} " * 100)
    code = textwrap.dedent(
        """
        import sys, memalloy
        kb = memalloy.open(sys.argv[1])
        def told(progress):
            if progress.stage == "index":
                print("index", flush=True)
        try:
            kb.sync(sys.argv[2], progress=told)
            print("finished")
        except KeyboardInterrupt:
            print("interrupted", kb.count())
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "kb", root], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "index\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert "interrupted" in out and "finished" not in out, out + err
    with memalloy.open(tmp_path / "kb") as store:
        store.sync(root)
        assert store.count() == 600


def test_the_printer_needs_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def progress(stage, **more):
        fields = dict(
            stage=stage, path=None, files_done=1, files_total=2, bytes_done=1000, bytes_total=2000, chunks_done=3,
            elapsed_s=61.0, remaining_s=3700.0, bytes_per_s=5000.0,
        )
        return memalloy.Progress(tuple({**fields, **more}.values()))

    silent = io.StringIO()
    _progress.Printer(silent)(progress("index"))
    assert silent.getvalue() == ""
    terminal = Terminal()
    printer = _progress.Printer(terminal)
    for stage in ("walk", "index", "done"):
        printer(progress(stage))
    printer(progress("index", remaining_s=None))
    shown = terminal.getvalue()
    assert "1/2 files" in shown and "1:01:40 left" in shown and "in 1:01" in shown and "5 kB/s" in shown


def test_progress_true_is_silent_without_a_terminal(kb, folder, capfd):
    kb.sync(folder, progress=True)
    assert capfd.readouterr() == ("", "")


def test_the_store_itself_is_no_folder_of_texts(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with memalloy.open(tmp_path) as kb:
        with pytest.raises(memalloy.InvalidArgumentError, match="the store itself"):
            kb.sync(tmp_path)


def test_stores_inside_the_folder_are_no_texts(tmp_path, folder):
    with memalloy.open(folder / "inside") as kb:
        assert kb.sync(folder).added == 3
        assert kb.sync(folder).unchanged == 3
    with memalloy.open(tmp_path / "other") as kb:
        report = kb.sync(folder)
        assert report.added == 3 and report.skipped == []


def test_blank_passages_take_no_place_among_the_answers(kb, tmp_path):
    for number in range(20):
        kb.add_document(" \n" * (number + 1), document_id=f"blank{number}")
    kb.add_document("Zebras have stripes.", document_id="zebra")
    assert [hit.document.id for hit in kb.search("lion", top_k=3)] == ["zebra"]
    assert kb.get_document("blank0").content == " \n"


def test_an_interrupted_sync_keeps_what_it_says(kb, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(60):
        (many / f"{number:02}.txt").write_text(f"File {number}. " + "Some words about it. " * 120)

    def stop(progress):
        return progress.files_done < 5

    with pytest.raises(memalloy.CancelledError, match="of 60 files"):
        kb.sync(many, progress=stop)
    kept = kb.count()
    assert 5 <= kept < 60
    report = kb.sync(many)
    assert (report.added, report.unchanged) == (60 - kept, kept)


def test_a_file_that_stops_being_text_is_removed_and_said_so(kb, folder):
    kb.sync(folder)
    (folder / "tea.md").write_bytes(b"\xff\xfe")
    report = kb.sync(folder)
    assert (report.removed, report.unchanged) == (1, 2)
    assert [reason for _, reason in report.skipped] == ["not UTF-8: byte 0xff at offset 0"]
    assert kb.count() == 2


def test_a_smaller_limit_loses_nothing(kb, folder):
    (folder / "large.txt").write_text("x " * 500)
    assert kb.sync(folder).added == 4
    report = kb.sync(folder, max_file_bytes=10)
    assert (report.removed, report.unchanged) == (0, 4)
    assert kb.count() == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named_whole(kb, folder):
    os.chmod(folder / "deep", 0)
    try:
        [(path, reason)] = kb.sync(folder).skipped
    finally:
        os.chmod(folder / "deep", 0o700)
    assert path == str(folder / "deep") and "Permission denied" in reason


@pytest.mark.parametrize("call", ["add_document", "sync"])
def test_waiting_for_another_writer_ends_at_ctrl_c(tmp_path, folder, call):
    with memalloy.open(tmp_path / "kb", lock_timeout=20) as kb:
        kb.add_document("first")
        lock = os.open(tmp_path / "kb" / "_memalloy" / "lock", os.O_RDWR)
        try:
            # struct flock: type, whence, start, length, pid
            held = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, held)
            threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
            started = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                kb.add_document("second") if call == "add_document" else kb.sync(folder)
            assert time.monotonic() - started < 5
        finally:
            os.close(lock)
        assert kb.count() == 1
        kb.add_document("third")
        assert kb.count() == 2
