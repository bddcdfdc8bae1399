"""Threads, processes, interpreters: the GIL is released, close() waits, fork() is told."""

import array
import contextlib
import gc
import os
import struct
import subprocess
import sys
import textwrap
import threading
import time

import memalloy
import pytest


class Ticker:
    """Counts how often Python code of another thread ran."""

    def __enter__(self):
        self.count, self.stop = 0, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        while self.count == 0:
            time.sleep(0.001)
        return self

    def run(self):
        while not self.stop:
            self.count += 1
            time.sleep(0.0005)

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


def many_files(root, count, words):
    root.mkdir()
    for i in range(count):
        (root / f"{i}.txt").write_text(f"file number {i} " * words)
    return root


def work_of_each_kind(kb, big, tmp_path):
    long_text = "A sentence of some length, with words. " * 500
    root = many_files(tmp_path / "files", 30, 100)
    (tmp_path / "one.txt").write_text(long_text)
    kb.add_document("something to find")
    many, rows = ["x"] * 9000, memoryview(array.array("f", [1.0]) * (9000 * 1024)).cast("B").cast("f", (9000, 1024))
    big.add_vectors(many, rows)
    return {
        "add_document": lambda: kb.add_document(long_text),
        "add_file": lambda: kb.add_file(tmp_path / "one.txt"),
        "sync": lambda: kb.sync(root),
        "embed": lambda: memalloy.embed([long_text[:1000]] * 40),
        "tokenize": lambda: memalloy.tokenize(long_text * 100),
        "chunk": lambda: memalloy.ChunkingStrategy.heading().chunk(long_text * 100),
        "search": lambda: kb.search(long_text, 10),
        "search_vector": lambda: big.search_vector([1.0] * 1024, 3),
        "add_vectors": lambda: big.add_vectors(many, rows),
    }


KINDS = ["add_document", "add_file", "sync", "embed", "tokenize", "chunk", "search", "search_vector", "add_vectors"]


@pytest.mark.parametrize("name", KINDS)
def test_the_gil_is_released_around_work(kb, tmp_path, name):
    memalloy.embed(["warm"])
    seen = []
    with memalloy.open(tmp_path / "big", dim=1024) as big:
        work = work_of_each_kind(kb, big, tmp_path)[name]
        # One call each time. With the GIL held the other thread runs at its two ends and never within; when the
        # machine is busy it may be kept away by others, so that one good try is proof.
        for _ in range(10):
            with Ticker() as ticker:
                before = ticker.count
                work()
                seen.append(ticker.count - before)
            if seen[-1] >= 5:
                return
    raise AssertionError(f"the other thread ran {seen} times")


def test_eight_threads_share_a_handle(kb):
    errors, ids = [], []

    def work(number):
        try:
            for i in range(6):
                ids.append(kb.add_document(f"thread {number} text {i}", {"n": number}))
                assert kb.search(f"thread {number}", 3)
                assert kb.get_document(ids[-1]).content
                kb.count()
                kb.status()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(ids)) == kb.count() == 48
    assert len(kb.search("thread", 100)) == 48


def test_close_waits_for_calls_and_later_ones_are_refused(tmp_path, model_path):
    for _ in range(5):
        store = memalloy.open(tmp_path / "kb")
        store.add_document("x")
        outcomes, started = [], threading.Barrier(5)

        def work():
            started.wait()
            try:
                for _ in range(1000):
                    store.search("x " * 200)
            except memalloy.ClosedError:
                outcomes.append("closed")
            except BaseException as error:
                outcomes.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        time.sleep(0.02)
        closers = [threading.Thread(target=store.close) for _ in range(2)]
        for closer in closers:
            closer.start()
        store.close()
        for thread in threads + closers:
            thread.join(30)
        assert outcomes == ["closed"] * 4


def test_threads_may_read_one_listed_document_at_once(tmp_path):
    with memalloy.open(tmp_path / "kb", dim=4) as store:
        store.add_vectors(["x" * 1_000_000], [[1.0, 0, 0, 0]])
    for _ in range(50):
        store = memalloy.open(tmp_path / "kb", dim=4)
        document = store.list_documents()[0]
        del store  # the document alone keeps it
        read, start = [], threading.Barrier(3)

        def work():
            start.wait()
            try:
                read.append(len(document.content))
            except BaseException as error:
                read.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read == [1_000_000] * 3


def test_a_second_close_returns_when_the_store_is_closed(tmp_path):
    # How long closing takes shows in the descriptors: while a closer is at it, its files are open.
    folder = tmp_path / "kb"

    def open_files():
        targets = []
        for name in os.listdir("/proc/self/fd"):
            try:
                targets.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                pass
        with open("/proc/self/maps") as maps:
            return sum(str(folder) in line for line in maps) + sum(str(folder) in target for target in targets)

    with memalloy.open(folder, dim=4) as store:
        # Large enough to be mapped: small files are read into memory and closed.
        store.add_vectors([f"text {i} " * 400 for i in range(100)], [[1.0, i, 0, 0] for i in range(100)])
    for _ in range(100):
        store = memalloy.open(folder, dim=4)
        store.search_vector([1.0, 0, 0, 0], 3)
        assert open_files() > 0
        left, start = [], threading.Barrier(3)

        def work():
            start.wait()
            store.close()
            left.append(open_files())

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert left == [0] * 3


def test_close_gives_up_a_long_add(tmp_path, model_path):
    store = memalloy.open(tmp_path / "kb")
    store.add_document("before")
    text = "".join(f"Sentence number {i} of a text that is very long. " for i in range(40_000))
    outcome = []

    def work():
        try:
            outcome.append(store.add_document(text))
        except memalloy.ClosedError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.5)
    store.close()
    thread.join(60)
    assert isinstance(outcome[0], memalloy.ClosedError)
    with memalloy.open(tmp_path / "kb") as again:
        assert again.count() == 1


def test_a_handle_may_be_dropped_while_its_documents_live(tmp_path, model_path):
    store = memalloy.open(tmp_path / "kb")
    store.add_document("kept alive", document_id="x")
    document = store.list_documents()[0]
    hits = store.search("kept")
    del store
    gc.collect()
    assert document.content == "kept alive"
    assert hits[0].content == "kept alive"


def run(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, **options,
    )


def test_a_used_handle_is_dead_in_a_forked_child(tmp_path, model_path):
    done = run(
        """
        import os, sys, memalloy
        kb = memalloy.open(sys.argv[1])
        kb.add_document("from the parent", document_id="p")
        kb.search("warm")
        memalloy.embed(["warm"])
        pid = os.fork()
        if pid == 0:
            try:
                for call in (kb.count, kb.status, lambda: kb.search("x"), lambda: kb.add_document("x"), kb.list_documents):
                    try:
                        call()
                    except memalloy.ForkedError as error:
                        assert isinstance(error, RuntimeError) and error.code == 10
                    else:
                        raise AssertionError("no ForkedError")
                kb.close()
                assert memalloy.embed(["works"]).shape == (1, 384)
                with memalloy.open(sys.argv[1]) as own:
                    assert own.get_document("p").content == "from the parent"
                    own.add_document("from the child", document_id="c")
                print("child ok", flush=True)
            except BaseException as error:
                print("child", repr(error), flush=True)
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert kb.get_document("c").content == "from the child"
        kb.add_document("still works")
        kb.close()
        print("parent ok")
        """,
        tmp_path / "kb",
    )
    assert done.stdout == "child ok\nparent ok\n", done.stdout + done.stderr
    assert done.returncode == 0


def test_multiprocessing_by_fork_with_other_threads_at_work(tmp_path, model_path):
    done = run(
        """
        import os, sys, threading, time, memalloy
        kb = memalloy.open(sys.argv[1])
        kb.add_document("x")
        stop = False
        def busy():
            while not stop:
                kb.search("busy " * 50)
        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads: thread.start()
        time.sleep(0.2)
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                try:
                    kb.count()
                except memalloy.ForkedError:
                    kb.close()
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        stop = True
        for thread in threads: thread.join()
        kb.close()
        print("ok")
        """,
        tmp_path / "kb",
    )
    assert done.stdout == "ok\n", done.stdout + done.stderr


def test_two_processes_write_to_one_store(tmp_path, model_path):
    code = textwrap.dedent(
        """
        import sys, memalloy
        with memalloy.open(sys.argv[1], lock_timeout=60) as kb:
            for i in range(15):
                kb.add_document(f"process {sys.argv[2]} text {i}", document_id=f"{sys.argv[2]}-{i}")
        """
    )
    children = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "kb", name]) for name in "abc"]
    assert [child.wait(120) for child in children] == [0, 0, 0]
    with memalloy.open(tmp_path / "kb") as store:
        assert store.count() == store.status()["chunks"] == 45
        assert store.get_document("b-7").content == "process b text 7"


def test_a_reader_sees_what_another_process_adds(tmp_path, kb):
    assert kb.count() == 0
    code = "import sys, memalloy\nwith memalloy.open(sys.argv[1]) as kb: kb.add_document('from outside', document_id='o')"
    subprocess.run([sys.executable, "-c", code, tmp_path / "kb"], check=True)
    assert kb.count() == 1
    assert kb.search("outside")[0].document.id == "o"
    subprocess.run([sys.executable, "-c", code.replace("add_document('from outside', document_id='o')", "remove_document('o')"), tmp_path / "kb"], check=True)
    assert kb.count() == 0 and kb.search("outside") == []


def test_a_busy_lock_times_out_and_says_so(tmp_path, model_path):
    fcntl = pytest.importorskip("fcntl")
    with memalloy.open(tmp_path / "kb", lock_timeout=0.2) as store:
        store.add_document("x")
        holder = run(
            """
            import fcntl, os, struct, sys, subprocess
            fd = os.open(sys.argv[1], os.O_RDWR)
            flock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0)
            fcntl.fcntl(fd, 38, flock)  # F_OFD_SETLKW
            code = "import sys, memalloy\\n" + \\
                   "try: memalloy.open(sys.argv[1], lock_timeout=0.3).add_document('y')\\n" + \\
                   "except memalloy.LockedError as e: print(isinstance(e, TimeoutError), e)"
            subprocess.run([sys.executable, "-c", code, sys.argv[2]], check=True)
            """,
            tmp_path / "kb" / "_memalloy" / "lock",
            tmp_path / "kb",
        )
        assert fcntl and holder.stdout.startswith("True "), holder.stdout + holder.stderr


def test_the_module_loads_in_a_subinterpreter_with_a_state_of_its_own(tmp_path, model_path):
    interpreters = pytest.importorskip("_xxsubinterpreters")
    code = textwrap.dedent(
        f"""
        import memalloy
        with memalloy.open({str(tmp_path / "sub")!r}) as kb:
            kb.add_document("inside")
            assert kb.search("inside")[0].content == "inside"
            try:
                kb.get_document("nobody")
            except memalloy.NotFoundError:
                pass
        assert memalloy.tokenize("hello") == [7592]
        """
    )
    for _ in range(3):
        interpreter = interpreters.create()
        interpreters.run_string(interpreter, code)
        interpreters.destroy(interpreter)
    with memalloy.open(tmp_path / "sub") as store:
        assert store.count() == 3


def test_ctrl_c_stops_embed(model_path):
    done = run(
        """
        import os, signal, threading, time, memalloy
        memalloy.embed(["warm"])
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.perf_counter()
        try:
            memalloy.embed(["A text of some length, again and again. " * 25] * 20000)
            print("finished")
        except KeyboardInterrupt:
            print("interrupted", time.perf_counter() - start < 20)
        """
    )
    assert done.stdout == "interrupted True\n", done.stdout + done.stderr


def test_nothing_starts_at_import():
    done = run(
        """
        import os
        before = len(os.listdir("/proc/self/task"))
        import memalloy
        assert len(os.listdir("/proc/self/task")) == before
        import sys
        print([name for name in ("numpy", "uuid", "datetime", "socket", "typing_extensions") if name in sys.modules])
        """
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_exit_with_everything_open_is_clean(tmp_path, model_path):
    done = run(
        """
        import sys, threading, memalloy
        kb = memalloy.open(sys.argv[1])
        kb.add_document("x")
        kept = kb.list_documents(), kb.search("x"), memalloy.embed(["x"]), memoryview(memalloy.embed(["x"]))
        cycle = [kb]; cycle.append(cycle)
        threading.Thread(target=lambda: [kb.search("x " * 100) for _ in range(10000)], daemon=True).start()
        """,
        tmp_path / "kb",
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert os.path.isdir(tmp_path / "kb")


LOCK_CALLS = {
    "add_document": "kb.add_document('y')",
    "add_file": "kb.add_file(sys.argv[2] + '/tea.md')",
    "sync": "kb.sync(sys.argv[2])",
}


@contextlib.contextmanager
def writers_lock_held(store_folder):
    """As another process would hold it."""
    fcntl = pytest.importorskip("fcntl")
    if not hasattr(fcntl, "F_OFD_SETLK"):
        pytest.skip("no open file description locks")
    descriptor = os.open(store_folder / "_memalloy" / "lock", os.O_RDWR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", LOCK_CALLS)
def test_ctrl_c_ends_the_wait_for_the_writers_lock(tmp_path, folder, model_path, name):
    with memalloy.open(tmp_path / "kb") as store:
        store.add_document("x", document_id="x")
    with writers_lock_held(tmp_path / "kb"):
        done = run(
            f"""
            import os, signal, sys, threading, time, memalloy
            kb = memalloy.open(sys.argv[1], lock_timeout=40)
            kb.search("warm")
            threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
            start = time.perf_counter()
            try:
                {LOCK_CALLS[name]}
                print("finished")
            except KeyboardInterrupt:
                took = time.perf_counter() - start
                print("interrupted", 1 < took < 20 or took)
            """,
            tmp_path / "kb",
            folder,
        )
    assert done.stdout == "interrupted True\n", done.stdout + done.stderr
    with memalloy.open(tmp_path / "kb") as store:
        assert [document.id for document in store.list_documents()] == ["x"]


def test_close_ends_the_wait_for_the_writers_lock(tmp_path, model_path):
    store = memalloy.open(tmp_path / "kb", lock_timeout=40)
    store.add_document("x")
    outcome = []

    def work():
        try:
            outcome.append(store.add_document("y"))
        except memalloy.MemalloyError as error:
            outcome.append(type(error))

    with writers_lock_held(tmp_path / "kb"):
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(1)
        start = time.perf_counter()
        store.close()
        assert time.perf_counter() - start < 20
        thread.join()
    assert outcome == [memalloy.ClosedError]
