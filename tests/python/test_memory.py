"""Nothing leaks: references, blocks, resident memory, file descriptors, on good paths and bad ones."""

import gc
import os
import subprocess
import sys

import memalloy
import pytest


def resident_kb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)


def ignore(call):
    try:
        call()
    except Exception:
        pass


def calls(store, tmp_path):
    """Every method, and every way in which its arguments can be wrong."""
    row = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    document_id = store.add_vectors(["text"], [row], [{"a": [1, {"b": None}]}], ["kept"])[0]
    (tmp_path / "empty").mkdir()
    return [
        lambda: store.add_vectors(["a", "b"], [row, row[:5]]),
        lambda: store.add_vectors(["a"], [row], [{1: 2}]),
        lambda: store.add_vectors(["a"], [row], [{"x": float("nan")}]),
        lambda: store.add_vectors(["a"], [row], [{"x": {1}}], ["i"]),
        lambda: store.add_vectors(["a"], [row], None, [5]),
        lambda: store.add_vectors(["a\ud800"], [row]),
        lambda: store.add_vectors(["a"], [[*row[:5], "x"]]),
        lambda: store.add_vectors(["a"], memoryview(b"123456")),
        lambda: store.add_document("x"),
        lambda: store.add_document("x", {"a": object()}),
        lambda: store.add_file(tmp_path / "none"),
        lambda: store.search("x"),
        lambda: store.search_vector(row),
        lambda: [hit.document.metadata for hit in store.search_vector(row)],
        lambda: [tuple(hit) + (hit.spans, hit.heading, hit.path, repr(hit)) for hit in store.search_vector(row)],
        lambda: store.search_vector(row, 0),
        lambda: store.search_vector(row[:3]),
        lambda: store.search_vector(iter(row)),
        lambda: store.get_document(document_id).created_at,
        lambda: store.get_document("none"),
        lambda: [document.content for document in store.list_documents()],
        lambda: [document.metadata for document in store.list_documents(5, "a")],
        lambda: store.remove_document("none"),
        lambda: store.remove_document(5),
        lambda: store.count(),
        lambda: store.status(),
        lambda: store.sync(tmp_path / "none", include=["a", "b"], exclude=["c"]),
        lambda: store.sync(tmp_path / "empty", include=["a", 5]),
        lambda: store.sync(tmp_path / "empty", progress=lambda progress: repr(progress)).to_dict(),
        lambda: store.sync(tmp_path / "empty", progress=lambda progress: 1 / 0),
        lambda: store.set_chunking_strategy(memalloy.ChunkingStrategy.fixed(100, 3)),
        lambda: store.set_chunking_strategy(None),
        lambda: store.__init__(tmp_path),
        lambda: memalloy.open(tmp_path / "none", read_only=True),
        lambda: memalloy.open(tmp_path / "other", dim=3, chunking=memalloy.ChunkingStrategy.token()).close(),
        lambda: memalloy.open(tmp_path / "other", dim=-3),
        lambda: memalloy.RAGKernel(tmp_path / "other", 10, 20),
        lambda: memalloy.RAGKernel(5),
        lambda: memalloy.Document("text", {"a": 1}).metadata,
        lambda: memalloy.Document("text", {"a": {1}}),
        lambda: memalloy.Document("text", id="\ud800"),
        lambda: memalloy.ChunkingStrategy.fixed(10, 0).chunk("a text " * 10),
        lambda: memalloy.ChunkingStrategy.fixed(10, 10),
        lambda: hash(memalloy.ChunkingStrategy.sentence()),
        lambda: memalloy.embed(["a"], model=tmp_path / "none"),
        lambda: memalloy.embed(["a", 5]),
        lambda: memalloy.tokenize("a", model=tmp_path / "none"),
    ]


def test_no_call_leaves_blocks_behind(vectors, tmp_path):
    work = calls(vectors, tmp_path)
    for call in work:
        for _ in range(3):
            ignore(call)
    def growth(call, times):
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(times):
            ignore(call)
        gc.collect()
        return sys.getallocatedblocks() - before

    # A cache of the interpreter's fills and is full, a leak goes on: who is suspected runs long.
    suspects = [(number, call) for number, call in enumerate(work) if growth(call, 30) >= 15]
    leaks = {number: grown for number, call in suspects if (grown := growth(call, 600)) >= 300}
    assert leaks == {}


def test_no_call_keeps_its_arguments(vectors):
    content, query, metadata = "text " * 3, [1.0] * 6, {"a": ["b"]}
    counts = [sys.getrefcount(x) for x in (content, query, metadata, metadata["a"])]
    for _ in range(20):
        vectors.add_vectors([content], [query], [metadata], ["x"])
        vectors.search_vector(query)
        ignore(lambda: vectors.add_vectors([content], [query[:2]], [metadata]))
    gc.collect()
    assert [sys.getrefcount(x) for x in (content, query, metadata, metadata["a"])] == counts


def test_resident_memory_stays_level_over_texts_and_queries(kb):
    def round_of_work():
        for i in range(10):
            kb.add_document(f"text number {i % 5} " * 40, {"n": i}, f"d{i % 5}")
            kb.search("text number", 5)
            kb.list_documents()
            memalloy.embed(["a text", "another " * 100])
            memalloy.tokenize("some words " * 100)

    for _ in range(3):
        round_of_work()
    before = resident_kb()
    for _ in range(6):
        round_of_work()
    assert resident_kb() - before < 12_000


def test_open_and_close_give_everything_back(tmp_path, model_path):
    def once():
        with memalloy.open(tmp_path / "kb") as store:
            store.add_document("x", document_id="x")
            store.search("x")
            store.sync(tmp_path / "empty")

    (tmp_path / "empty").mkdir()
    for _ in range(5):
        once()
    memory, fds, tasks = resident_kb(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for _ in range(25):
        once()
    assert resident_kb() - memory < 8_000
    assert len(os.listdir("/proc/self/fd")) == fds
    assert len(os.listdir("/proc/self/task")) <= tasks


HOW_LONG_VECTORS_LIVE = """
import memalloy
def resident_kb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
texts = ["x"] * 4000  # 6 MB of numbers
memalloy.embed(texts)
before = resident_kb()
vectors = memalloy.embed(texts)
assert resident_kb() - before >= 5_000
view = memoryview(vectors)
del vectors
assert resident_kb() - before >= 5_000
assert view[0, 0] == view[3999, 0] != 0.0
del view
assert resident_kb() - before < 2_000
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_vectors_live_as_long_as_a_view_and_are_freed_then(model_path):
    # With a threshold of its own, glibc gives large pieces back at once.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", HOW_LONG_VECTORS_LIVE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_cycle_through_a_store_is_collected(tmp_path, model_path):
    class Notes(memalloy.RAGKernel):
        pass

    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        store = Notes(tmp_path / "kb")
        store.add_document("x", document_id="x")
        store.self = store
        store.documents = store.list_documents()
        store.documents[0].metadata["cycle"] = store.documents[0]
    del store
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= fds + 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_fresh_module_per_interpreter_leaves_little(tmp_path):
    interpreters = pytest.importorskip("_xxsubinterpreters")

    def once():
        interpreter = interpreters.create()
        interpreters.run_string(interpreter, "import memalloy; memalloy.Document('x', {'a': 1}).metadata")
        interpreters.destroy(interpreter)

    for _ in range(3):
        once()
    before = resident_kb()
    for _ in range(10):
        once()
    assert resident_kb() - before < 15_000
