"""A host is not held up: other threads of Python and a web server's event loop run as beside C code that never asks for the GIL.

Each is compared with a control in the same run, since the machine may be busy; one round within the bound is proof."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

LONG = bool(os.environ.get("MEMALLOY_TEST_LONG"))
HERE = Path(__file__).parent
TICKER_MS = 2.0
HEALTH_MS = 20.0


def test_a_ticker_thread_runs_as_beside_threads_that_spin_in_c(tmp_path, model_path):
    command = [sys.executable, HERE / "stutter.py", tmp_path, "10" if LONG else "0.7", "10"]
    best = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        for line in program.stdout:
            said = json.loads(line)
            ms = {name: said[name]["p999"] * 1e3 for name in said}
            print(f"p99.9 of a ticker's gaps: control {ms['control']:.2f} ms, memalloy {ms['memalloy']:.2f} ms; longest "
                  f"{said['control']['longest'] * 1e3:.2f} and {said['memalloy']['longest'] * 1e3:.2f} ms")
            more = ms["memalloy"] - ms["control"]
            best = more if best is None else min(best, more)
            if best <= TICKER_MS and not LONG:
                break
        program.terminate()
    assert best <= TICKER_MS


@pytest.fixture
def server(tmp_path, model_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        command = [sys.executable, HERE / "web_app.py", str(listener.fileno()), tmp_path]
        with subprocess.Popen(command, pass_fds=[listener.fileno()]) as program:
            yield listener.getsockname()[1]
            program.terminate()
            try:
                program.wait(10)
            except subprocess.TimeoutExpired:
                program.kill()


def ask(port, method, path, body=None, timeout=60):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request(method, path, body)
        return connection.getresponse().read()


def post(port, path, body):
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(port, "POST", path, body, 600)


def begin(port, path, body):
    thread = threading.Thread(target=post, args=(port, path, body))
    thread.start()
    time.sleep(0.3)  # the body has come
    return thread


def health(port, seconds):
    """How long /health took, in ms: the 99th percentile, and of how many."""
    times, end = [], time.monotonic() + seconds
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        while time.monotonic() < end:
            start = time.perf_counter()
            connection.request("GET", "/health")
            connection.getresponse().read()
            times.append((time.perf_counter() - start) * 1e3)
            time.sleep(0.002)
    return sorted(times)[int(len(times) * 0.99)], len(times)


@pytest.mark.parametrize("path", ["/ingest", "/aingest"])
def test_a_web_server_that_ingests_5_mb_answers_others(server, path):
    body = "".join(f"{i} A sentence of some length, with words in it, that says nothing. " for i in range(72_000)).encode()
    assert len(body) > 5_000_000
    ask(server, "GET", "/health")
    seconds = 10.0 if LONG else 1.0
    spinning = begin(server, "/spin", body)
    control, count = health(server, seconds)
    print(f"p99 of /health beside threads that spin in C: {control:.1f} ms, of {count}")
    ask(server, "POST", "/stop")
    spinning.join()
    ingest, best = begin(server, path, body), None
    for _ in range(8):
        p99, count = health(server, seconds)
        assert ingest.is_alive(), "the ingest was over before /health was measured"
        print(f"p99 of /health beside {path}: {p99:.1f} ms, of {count}")
        best = p99 if best is None else min(best, p99)
        if best - control <= HEALTH_MS and not LONG:
            break
    assert best - control <= HEALTH_MS
