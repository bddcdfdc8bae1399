"""A program for test_interrupt.py: interrupts every call that may take long, and says how long each took to end.

    interrupted.py FOLDER TRIES [all]

A thread of it sends SIGINT some milliseconds after a call began. A call is tried until its exception came within a tenth
of a second, or so often; with "all" so often in any case. Prints a line of JSON: for each call the seconds from the signal to
the exception, and how many of its tries had ended before the signal came.
"""

import array
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import memalloy

HOLD_LOCK = """
import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 38, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))  # F_OFD_SETLKW
print("held", flush=True)
sys.stdin.read()
"""
DIM, ROWS = 256, 20_000
LIMIT_S = 0.1


@contextlib.contextmanager
def locked(folder):
    """Another process writes to the store meanwhile, and does not end."""
    lock = Path(folder) / "_memalloy" / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD_LOCK, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as holder:
        holder.stdout.readline()
        yield
        holder.stdin.close()


class Killer:
    """Sends SIGINT after a while, unless the call was over first."""

    def __init__(self, after):
        self.after, self.sent, self.over = after, None, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        if not self.over.wait(self.after):
            self.sent = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)

    def interrupt(self, call):
        """Seconds from the signal to its exception; None where the call was faster."""
        try:
            self.thread.start()
            call()
            self.over.set()
            self.thread.join()
            time.sleep(0.001)  # a signal that came at the end
        except KeyboardInterrupt:
            self.over.set()
            return time.perf_counter() - self.sent
        return None


def calls(root):
    rng = random.Random(1)
    words = [w for w in "river stone light garden window paper engine morning letter winter harbour signal".split()]
    text = " ".join(rng.choice(words) + ("." if i % 12 == 0 else "") for i in range(120_000))
    (root / "one.txt").write_text(text)
    notes = root / "notes"
    notes.mkdir(exist_ok=True)
    for i in range(300):
        (notes / f"{i}.txt").write_text(text[i * 2000 : i * 2000 + 2500])
    kb = memalloy.open(root / "kb", durability="off")
    kb.add_document("something to find", document_id="first")
    rows = array.array("f", [rng.random() for _ in range(DIM * 64)]) * (ROWS // 64 + 1)
    vectors = memoryview(rows[: DIM * ROWS]).cast("B").cast("f", (ROWS, DIM))
    many = [f"row {i}" for i in range(ROWS)]
    big = memalloy.open(root / "big", dim=DIM, durability="off", recall=1)
    big.add_vectors(many, vectors)
    big.add_vectors(["x"], [[1.0] * DIM], ids=["one"])
    heading = memalloy.ChunkingStrategy.heading()
    waiting = memalloy.open(root / "kb", lock_timeout=60, durability="off")
    waiting.add_document("it has something for a checkpoint to do")
    heading.chunk("warm")

    def stream():
        while True:
            yield text[: rng.randrange(1000, 3000)]

    plain = {
        "add_document": lambda: kb.add_document(text),
        "add_file": lambda: kb.add_file(root / "one.txt"),
        "add_documents": lambda: kb.add_documents(stream()),
        "add_vectors": lambda: big.add_vectors(many, vectors),
        "sync": lambda: kb.sync(notes),
        "sync with progress": lambda: kb.sync(notes, progress=lambda _: None),
        "embed": lambda: memalloy.embed([text[i : i + 1500] for i in range(0, 600_000, 1500)]),
        "embed with progress": lambda: memalloy.embed([text[i : i + 1500] for i in range(0, 600_000, 1500)], progress=lambda _: None),
        "tokenize": lambda: memalloy.tokenize(text * 16),
        "chunk": lambda: heading.chunk(text * 8),
        "search, again and again": lambda: [kb.search(text[:4000], 10) for _ in range(10_000)],
        "search_vector, again and again": lambda: [big.search_vector([1.0] * DIM, 10) for _ in range(10_000)],
        "search_vectors": lambda: big.search_vectors(memoryview(rows[: DIM * 2000]).cast("B").cast("f", (2000, DIM)), 3),
        "explain, again and again": lambda: [big.explain([1.0] * DIM) for _ in range(10_000)],
        "list_documents, again and again": lambda: [big.list_documents() for _ in range(100)],
        "make_index, again and again": lambda: [(big.add_vectors(many, vectors), big.make_index()) for _ in range(100)],
        "verify, again and again": lambda: [big.verify() for _ in range(1000)],
        "status, again and again": lambda: [big.status() for _ in range(1_000_000)],
        "checkpoint, again and again": lambda: [(big.add_vectors(["y"], [[1.0] * DIM]), big.checkpoint()) for _ in range(10_000)],
    }
    held = {
        "add_document, waiting": lambda: waiting.add_document("x"),
        "add_vectors, waiting": lambda: waiting.add_vectors(["x"], [[1.0] * 384]),
        "remove_document, waiting": lambda: waiting.remove_document("first"),
        "update_metadata, waiting": lambda: waiting.update_metadata("first", {"a": 1}),
        "checkpoint, waiting": lambda: waiting.checkpoint(),
        "close, waiting": lambda: waiting.close(),
    }
    return kb, big, plain, held


def main():
    root, tries, every = Path(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
    rng = random.Random(2)
    kb, big, plain, held = calls(root)
    took = {}

    def measure(name, call):
        took[name] = {"seconds": [], "too_fast": 0}
        for _ in range(tries):
            seconds = Killer(rng.uniform(0.02, 0.2 if every else 0.06)).interrupt(call)
            if seconds is None:
                took[name]["too_fast"] += 1
                continue
            took[name]["seconds"].append(seconds)
            if seconds <= LIMIT_S and not every:
                break

    for name, call in plain.items():
        measure(name, call)
    with locked(root / "kb"):
        for name, call in held.items():
            measure(name, call)
    kb.add_document("still there", document_id="last")
    sound = kb.get_document("last").content == "still there" and not kb.verify()["damaged"] and not big.verify()["damaged"]
    whole = all(kb.get_document(document.id).content for document in kb.list_documents())
    kb.close()
    big.close()
    print(json.dumps({"sound": sound and whole, "calls": took}))


if __name__ == "__main__":
    main()
