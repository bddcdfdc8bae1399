"""Programs for test_lifecycle.py: each is a whole life of a process, ends with the exit code that stands beside its name, and
says nothing. lifecycle.py NAME FOLDER"""

import asyncio
import contextlib
import gc
import importlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import memalloy

THREADS_AT_IMPORT = len(os.listdir("/proc/self/task"))
TEXT = "A sentence of some length, with words in it, that says nothing. " * 30
programs = {}


def ends_with(code):
    def note(program):
        programs[program.__name__] = (program, code)
        return program

    return note


def used(root):
    root.mkdir(exist_ok=True)
    kb = memalloy.open(root / "kb", durability="normal")
    kb.add_document(TEXT, document_id="used")
    kb.search("words")
    return kb


def wait_for(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def repeat(call, *, until=None):
    """In a daemon thread, for ever."""

    def run():
        while until is None or not until.is_set():
            with contextlib.suppress(memalloy.MemalloyError):
                call()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@ends_with(0)
def no_thread_before_the_first_call(root):
    assert THREADS_AT_IMPORT == 1
    memalloy.ChunkingStrategy.sentence().chunk("one. two.")
    assert len(os.listdir("/proc/self/task")) == 1
    with used(root):
        assert len(os.listdir("/proc/self/task")) > 1


@ends_with(7)
def a_child_of_fork_ends_as_any_program(root):
    kb = used(root)
    if (pid := os.fork()) == 0:
        with contextlib.suppress(memalloy.ForkedError):
            kb.count()
        with memalloy.open(root / "kb") as own:
            own.add_document("child")
        sys.exit(7)  # through the interpreter's end, with the parent's handle at hand
    code = wait_for(pid)
    assert kb.count() == 2
    sys.exit(code)


@ends_with(0)
def a_child_of_fork_with_others_at_work(root):
    kb, stop = used(root), threading.Event()
    threads = [repeat(lambda: kb.search(TEXT), until=stop), repeat(lambda: kb.add_document(TEXT), until=stop)]
    for _ in range(3):
        time.sleep(0.02)
        if (pid := os.fork()) == 0:
            memalloy.embed(["in the child"])
            sys.exit(3)
        assert wait_for(pid) == 3
    stop.set()
    for thread in threads:
        thread.join()
    kb.close()


@ends_with(0)
def a_handle_that_was_not_used_serves_children(root):
    used(root).close()
    kb = memalloy.open(root / "kb", durability="normal")
    children = []
    for i in range(3):
        if (pid := os.fork()) == 0:
            assert kb.search("words")
            kb.add_document(f"child {i}")
            sys.exit(4)
        children.append(pid)
    assert [wait_for(pid) for pid in children] == [4, 4, 4]
    assert kb.count() == 4


def work_in_a_child(root):
    with memalloy.open(root / "kb", durability="normal") as kb:
        kb.add_document(TEXT)
        return len(kb.search("words"))


def in_processes(root, method):
    with used(root) as kb:
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["memalloy"])
        with context.Pool(2) as pool:
            assert min(pool.map(work_in_a_child, [root] * 4)) > 0
        assert kb.count() == 5


@ends_with(0)
def processes_by_fork(root):
    in_processes(root, "fork")


@ends_with(0)
def processes_by_spawn(root):
    in_processes(root, "spawn")


@ends_with(0)
def processes_by_forkserver(root):
    in_processes(root, "forkserver")


@ends_with(0)
def the_end_with_daemon_threads_at_work(root):
    kb = used(root)
    for call in (lambda: kb.add_document(TEXT * 20), lambda: kb.search(TEXT), lambda: memalloy.embed([TEXT] * 50), kb.flush, kb.checkpoint):
        repeat(call)
    time.sleep(random.uniform(0, 0.2))


@ends_with(5)
def sys_exit_with_daemon_threads_and_handles_in_a_cycle(root):
    class Holder:
        pass

    a, b = Holder(), Holder()
    a.kb, a.other, b.kb, b.other = used(root), b, memalloy.open(root / "kb"), a
    repeat(lambda: a.kb.search(TEXT))
    repeat(lambda: b.kb.sync(root / "kb"))
    time.sleep(random.uniform(0, 0.1))
    sys.exit(5)


@ends_with(1)
def an_exception_in_the_midst_of_calls(root):
    kb = used(root)
    repeat(lambda: kb.add_documents(TEXT for _ in range(1000)))
    time.sleep(random.uniform(0, 0.1))
    sys.stderr = open(os.devnull, "w")
    raise RuntimeError("the end")


@ends_with(-signal.SIGTERM)
def a_signal_in_the_midst_of_calls(root):
    kb = used(root)
    repeat(lambda: kb.add_document(TEXT * 10))
    threading.Timer(random.uniform(0, 0.1), os.kill, (os.getpid(), signal.SIGTERM)).start()
    kb.add_document(TEXT * 10_000)


@ends_with(9)
def an_exit_at_once_in_the_midst_of_calls(root):
    kb = used(root)
    repeat(lambda: kb.add_document(TEXT * 10))
    threading.Timer(random.uniform(0, 0.1), os._exit, (9,)).start()
    kb.add_document(TEXT * 10_000)


@ends_with(-signal.SIGINT)
def ctrl_c_ends_the_program(root):
    kb = used(root)
    threading.Timer(random.uniform(0.02, 0.1), os.kill, (os.getpid(), signal.SIGINT)).start()
    sys.stderr = open(os.devnull, "w")
    kb.add_document(TEXT * 10_000)


@ends_with(0)
def handles_collected_in_any_order(root):
    kb = used(root)
    things = [kb, *kb.list_documents(), *kb.search("words"), kb.get_document("used"), memalloy.Model(), memalloy.embed(["x"])]
    things += [memalloy.open(root / "kb") for _ in range(3)]
    for other in things[-3:]:
        other.search("words")
    del kb, other
    random.shuffle(things)
    while things:
        things.pop()
        gc.collect()


@ends_with(0)
def the_module_loaded_again(root):
    kb = used(root)
    importlib.reload(memalloy)
    assert kb.count() == memalloy.open(root / "kb").count() == 1
    for name in [name for name in sys.modules if name.startswith("memalloy")]:
        del sys.modules[name]
    again = importlib.import_module("memalloy")
    with again.open(root / "kb") as other:
        other.add_document("again")
    assert kb.count() == 2


@ends_with(0)
def calls_at_the_interpreters_end(root):
    import atexit

    kb = used(root)
    atexit.register(lambda: kb.add_document("at the end"))

    class Late:
        def __del__(self):
            with contextlib.suppress(Exception):
                kb.add_document("later")
                kb.close()

    programs["late"] = Late()


@ends_with(0)
def two_handles_on_one_store(root):
    a, b = used(root), memalloy.open(root / "kb", durability="full")
    ids = [kb.add_document(f"text {i}") for i in range(5) for kb in (a, b)]
    assert a.count() == b.count() == 11
    threads = [threading.Thread(target=kb.add_documents, args=([f"{i}" for i in range(20)],)) for kb in (a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    a.close()
    assert b.count() == 51 and b.remove_document(ids[0])
    b.close()


@ends_with(0)
def an_event_loop_that_ends_in_the_midst_of_calls(root):
    async def main():
        kb = await memalloy.aopen(root / "kb", durability="normal")
        await kb.add_document(TEXT, document_id="used")
        tasks = [asyncio.ensure_future(kb.add_document(TEXT * 50)) for _ in range(5)]
        await asyncio.sleep(random.uniform(0, 0.1))
        assert tasks

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())


@ends_with(0)
def interpreters_within_the_interpreter(root):
    interpreters = importlib.import_module("_xxsubinterpreters")
    kb = used(root)
    code = f"import memalloy\nwith memalloy.open({str(root / 'kb')!r}) as kb: kb.add_document('inside')"
    for _ in range(2):
        inner = interpreters.create()
        interpreters.run_string(inner, textwrap.dedent(code))
        interpreters.destroy(inner)
    assert kb.count() == 3


APP = """
import memalloy, os, sys
kb = memalloy.open(os.environ["KB"], durability="normal")

def app(environ, start_response):
    kb.add_document(f"from {os.getpid()}")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{kb.search('from')[0].content}".encode()]
"""


@ends_with(0)
def gunicorn_with_preload(root):
    import http.client
    import socket

    used(root).close()
    (root / "preloaded.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"fd://{listener.fileno()}", "--log-level", "critical", "--graceful-timeout", "2", "--no-control-socket", "preloaded:app"]
        with subprocess.Popen(command, cwd=root, env={**os.environ, "KB": str(root / "kb")}, pass_fds=[listener.fileno()]) as server:
            for _ in range(6):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("GET", "/")
                response = connection.getresponse()
                assert (response.status, response.read()[:5]) == (200, b"from "), "a worker does not serve"
                connection.close()
            server.terminate()
            assert server.wait(10) == 0
    with memalloy.open(root / "kb") as kb:
        assert kb.count() == 7


if __name__ == "__main__":
    programs[sys.argv[1]][0](Path(sys.argv[2]))
