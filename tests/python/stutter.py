"""A program for test_stutter.py: how long other Python code waits while four threads add and search, or spin in C instead.

    stutter.py FOLDER SECONDS ROUNDS

Prints a line of JSON for each round: the 99.9th percentile of a ticker thread's gaps in seconds, and the longest, of both.
"""

import hashlib
import json
import sys
import threading
import time
from pathlib import Path

import memalloy

TEXT = "A sentence of some length, with words in it, that says nothing. " * 20


def ticks(seconds, works):
    """The gaps between the ticks of one thread, sorted, while others work."""
    stop, gaps = threading.Event(), []

    def repeat(work):
        while not stop.is_set():
            work()

    def tick():
        last = time.perf_counter()
        while not stop.is_set():
            time.sleep(0.0003)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works] + [threading.Thread(target=tick)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sorted(gaps)


def spin():
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 50_000)  # some 15 ms in C, without the GIL


def main():
    root, seconds, rounds = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    with memalloy.open(root / "kb", durability="normal") as kb:
        kb.add_document(TEXT)
        kb.search("warm")
        add, search = lambda: kb.add_document(TEXT), lambda: kb.search("words that say nothing", 5)
        for _ in range(rounds):
            said = {}
            for name, works in (("control", [spin] * 4), ("memalloy", [add, add, search, search])):
                gaps = ticks(seconds, works)
                said[name] = {"ticks": len(gaps), "p999": gaps[int(len(gaps) * 0.999)], "longest": gaps[-1]}
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
