"""Programs in Python that end in the middle of writing: SIGKILL, SIGINT, SIGTERM, os._exit. Whatever they were told is
stored is there when the store is opened again, twice, and nothing is there in part."""

import os
import random
import signal
import subprocess
import sys
import time

import memalloy

KILLS = 300 if os.environ.get("MEMALLOY_TEST_LONG") else 50
DOCUMENTS = 12

# What operation n does follows from n. Says "b n" before, "a n" after it, "r 0" when it may be ended: at once, or late,
# after the first operation, which loads the model.
PROGRAM = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[5])
import memalloy
import test_kills as plan

store, model, first, exit_after = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
late = sys.argv[6] == "late"

def leave():
    time.sleep(exit_after)
    os._exit(7)

with memalloy.open(store, model=model) as kb:
    n = first
    if not late:
        os.write(1, b"r 0\\n")
        if exit_after:
            threading.Thread(target=leave, daemon=True).start()
    while True:
        n += 1
        os.write(1, b"b %d\\n" % n)
        plan.do(kb, n)
        os.write(1, b"a %d\\n" % n)
        if late and n == first + 1:
            os.write(1, b"r 0\\n")
            if exit_after:
                threading.Thread(target=leave, daemon=True).start()
"""


def kind(n):
    return ["text", "vectors", "text", "remove", "long", "vectors"][n * 7 % 6]


def text(n):
    chance = random.Random(n)
    words = 400 if kind(n) == "long" else chance.randrange(3, 60)
    return " ".join("".join(chance.choices("abcdefghij", k=chance.randrange(1, 8))) for _ in range(words))


def targets(n):
    chance = random.Random(-n)
    return [f"d{i}" for i in chance.sample(range(DOCUMENTS), 3 if kind(n) == "vectors" else 1)]


def do(kb, n):
    ids = targets(n)
    if kind(n) == "remove":
        kb.remove_document(ids[0])
    elif kind(n) == "vectors":
        chance = random.Random(n)
        vectors = [[chance.uniform(-1, 1) for _ in range(384)] for _ in ids]
        kb.add_vectors([text(n)] * 3, vectors, metadata=[{"n": n}] * 3, ids=ids)
    else:
        kb.add_document(text(n), {"n": n}, ids[0])


def after(state, n):
    """The number that wrote each document, operation n done."""
    written = 0 if kind(n) == "remove" else n
    return {**state, **dict.fromkeys(targets(n), written)}


def look(path, model):
    with memalloy.open(path, model=model) as kb:
        documents = kb.list_documents()
        state = dict.fromkeys((f"d{i}" for i in range(DOCUMENTS)), 0)
        chunks = 0
        for listed in documents:
            document = kb.get_document(listed.id)
            assert document.content == text(document.metadata["n"])
            assert not document.altered
            assert document.chunk_count == listed.chunk_count
            chunks += document.chunk_count
            state[document.id] = document.metadata["n"]
        status = kb.status()
        assert (status["documents"], status["chunks"]) == (len(documents), chunks)
        for hit in kb.search_vector([0.5] * 384, top_k=5):
            start, end = hit.spans.bytes
            assert text(hit.metadata["n"]).encode()[start:end].decode() == hit.content
    return state


def end(child, how, chance):
    """Lets it write a while and ends it; the highest numbers that it began and was told of."""
    if how == "exit":
        output, _ = child.communicate(timeout=60)
    else:
        output = b""
        while not output.endswith(b"r 0\n"):
            line = child.stdout.readline()
            assert line, child.stderr.read().decode()
            output += line
        time.sleep(chance.uniform(0, 0.2))
        child.send_signal(how)
        output += child.communicate(timeout=60)[0]
    began = told = 0
    for line in output.splitlines(keepends=True):
        what, number = line.split()
        if what == b"b" and line.endswith(b"\n"):
            began = int(number)
        elif what == b"a" and line.endswith(b"\n"):
            told = int(number)
    return began, told


def test_what_python_was_told_is_stored_survives_its_end(tmp_path, model_path, record_property):
    seed = int(os.environ.get("MLY_TEST_SEED", time.time()))
    chance = random.Random(seed)
    path = tmp_path / "kb"
    state, number, told_of = dict.fromkeys((f"d{i}" for i in range(DOCUMENTS)), 0), 0, 0
    ends = {"SIGKILL": signal.SIGKILL, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "os._exit": "exit"}
    for cycle in range(KILLS):
        name = list(ends)[cycle % 4]
        exit_after = chance.uniform(0.001, 0.2) if name == "os._exit" else 0
        command = [sys.executable, "-c", PROGRAM, str(path), str(model_path), str(number), str(exit_after), os.path.dirname(__file__)]
        command.append("late" if chance.random() < 0.6 else "early")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as child:
            began, told = end(child, ends[name], chance)
        expected = -ends[name] if name in ("SIGKILL", "SIGTERM") else (-2, 1) if name == "SIGINT" else 7
        assert child.returncode in (expected if isinstance(expected, tuple) else (expected,)), (seed, cycle, name)
        while number < told:
            number += 1
            state = after(state, number)
        told_of += told > 0
        found = look(path, model_path)
        if found != state:
            different = {key: (found.get(key), state.get(key)) for key in found if found.get(key) != state.get(key)}
            assert began > number, (seed, cycle, name, began, "something acknowledged is lost: (is, should be)", different)
            number += 1
            state = after(state, number)
        assert found == state, (seed, cycle, name)
        assert look(path, model_path) == state, (seed, cycle, name, "opened again")
    record_property("ran", f"{KILLS} ends, {number} operations acknowledged (seed {seed})")
    assert told_of > KILLS // 4  # some are ended before they are told anything
