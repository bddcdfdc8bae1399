"""The vector index: stores of more than 20,000 passages, vectors of 16 numbers, exact search as the measure."""

import os
import threading
import time

import memalloy
import pytest

np = pytest.importorskip("numpy")

DIM = 16
ROWS = 30_000


def clustered(count, seed):
    """Unit vectors round 200 centres, as those of texts lie; read-only, so that they are taken as they are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((200, DIM))
    made = centres[random.integers(0, 200, count)] + 0.5 * random.standard_normal((count, DIM))
    made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    made.flags.writeable = False
    return made


def fill(store, count=ROWS, seed=1, prefix="text"):
    """Adds count vectors in loads of 10,000."""
    rows = clustered(count, seed)
    for first in range(0, count, 10_000):
        block = rows[first : first + 10_000]
        store.add_vectors([f"{prefix} {first + i}" for i in range(len(block))], block)
    return rows


def plain(hits):
    return [(hit.content, hit.score) for hit in hits]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)


def recall_of(found, exact):
    parts = [len({h.chunk_id for h in a} & {h.chunk_id for h in b}) / len(b) for a, b in zip(found, exact)]
    return sum(parts) / len(parts)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store with an index, for tests that only read; with its path and vectors."""
    path = tmp_path_factory.mktemp("large") / "kb"
    with memalloy.open(path, dim=DIM, durability="off") as store:
        rows = fill(store)
        store.make_index()
        assert store.index_status()["rows"] == ROWS
        yield store, path, rows


def copy_of(path, place):
    import shutil

    shutil.copytree(path, place)
    return place


def segments(path):
    return sorted((path / "_memalloy" / "index" / "vectors").glob("*.vec"))


def test_an_index_comes_by_itself_beside_adding(tmp_path):
    with memalloy.open(tmp_path / "kb", dim=DIM, durability="off") as store:
        before = store.index_status()
        assert (before["rows"], before["pending"], before["cells"], before["is_due"]) == (0, 0, 0, False)
        assert before["recall"] == 0.95
        rows = fill(store)
        wait_for(lambda: store.index_status()["rows"] == ROWS)
        wait_for(lambda: not store.index_status()["is_running"])
        status = store.index_status()
        assert (status["pending"], status["is_due"], status["done"]) == (0, False, 0.0)
        assert status["cells"] > 1 and status["index_bytes"] > 0 and status["record_bytes"] > ROWS * DIM
        own = {"rows", "pending", "cells", "index_bytes", "record_bytes", "is_due", "is_running", "done", "recall"}
        own |= {"measured_recall", "samples", "effort_steps"}
        assert set(status) == own | {"has_lance", "lance_rows", "lance_pending", "lance_bytes"}
        assert store.make_index() is False
        told = store.explain(rows[7])
        assert told["scanned_rows"] == 0 and 0 < told["cells_read"] <= told["cells"] == status["cells"]


def test_small_stores_have_none(vectors):
    vectors.add_vectors(["one", "two"], [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
    assert vectors.make_index() is False
    assert vectors.index_status()["rows"] == 0
    told = vectors.explain([1, 0, 0, 0, 0, 0], top_k=1)
    assert plain(told["hits"]) == [("one", 1.0)]
    assert (told["scanned_rows"], told["cells"], told["codes_read"]) == (2, 0, 0)
    assert [plain(hits) for hits in vectors.search_vectors([[0, 1, 0, 0, 0, 0]], 1)] == [[("two", 1.0)]]


def test_a_search_may_be_among_some_documents(tmp_path):
    rows = clustered(ROWS, 3)
    with memalloy.open(tmp_path / "kb", dim=DIM, durability="off") as store:
        for first in range(0, ROWS, 10_000):
            names = [str(i) for i in range(first, first + 10_000)]
            store.add_vectors(names, rows[first : first + 10_000], ids=names)
        queries = clustered(40, 8)
        for indexed in (False, True):
            if indexed:
                store.make_index()
                assert store.index_status()["rows"] == ROWS
                store.add_vectors(["tail"], rows[5:6], ids=["tail"])  # a row outside of it
            for count in (15_000, 10_000, 3_000, 300, 30, 3):
                chosen = np.random.default_rng(count).choice(ROWS, count, replace=False)
                named = [str(i) for i in chosen]
                exact = [[named[i] for i in np.argsort(-(rows[chosen] @ q), kind="stable")[:10]] for q in queries]
                found = [
                    [hit.content for hit in hits]
                    for hits in store.search_vectors(queries, 10, documents=[*named, "nobody", named[0]])
                ]
                parts = [len(set(a) & set(b)) / len(b) for a, b in zip(found, exact)]
                assert sum(parts) / len(parts) >= 0.95, (indexed, count)
                assert [h.content for h in store.search_vector(queries[0], 10, documents=iter(named))] == found[0]
                assert set(map(len, found)) == {min(10, count)}
            if indexed:
                assert [hit.content for hit in store.search_vector(rows[5], documents={"tail", "6"})] == ["tail", "6"]
            assert store.remove_document("7") is True
            assert store.search_vector(rows[7], documents=["7"]) == []
            store.add_vectors(["7"], rows[7:8], ids=["7"])
        told = store.explain(queries[0], documents=named)
        assert (told["records_read"], told["cells_read"]) == (3, 0)
        assert store.search_vector(queries[0], documents=[]) == []
        assert store.search_vectors(queries[:2], documents=("nobody",)) == [[], []]
        with pytest.raises(TypeError):
            store.search_vector(queries[0], documents="12")
        with pytest.raises(TypeError):
            store.search_vector(queries[0], documents=[12])


def test_recall_1_looks_at_every_vector(large):
    store, _, rows = large
    queries = clustered(50, 5)
    for query in queries:
        told = store.explain(query, 10, recall=1)
        assert (told["scanned_rows"], told["cells_read"]) == (ROWS, 0)
        products = rows @ query
        best = np.argsort(-products, kind="stable")[:10]
        assert [hit.content for hit in told["hits"]] == [f"text {i}" for i in best]
        assert [hit.score for hit in told["hits"]] == pytest.approx(products[best].tolist(), abs=1e-6)


def test_recall_is_kept_and_scores_are_exact(large):
    store, _, rows = large
    queries = clustered(300, 6)
    exact = store.search_vectors(queries, 10, recall=1)
    for recall in (0.9, 0.95, 0.99):
        found = store.search_vectors(queries, 10, recall=recall)
        assert recall_of(found, exact) >= recall
        known = {hit.chunk_id: hit.score for hits in exact for hit in hits}
        for query, hits in zip(queries, found):
            scores = [hit.score for hit in hits]
            assert scores == sorted(scores, reverse=True) and len(hits) == 10
            for hit in hits:
                own = float(rows[int(hit.content.split()[1])] @ query)
                assert hit.score == pytest.approx(own, abs=1e-6)
        assert known


def test_many_at_once_find_what_one_by_one_does(large):
    store, _, _ = large
    queries = clustered(100, 7)
    for recall in (None, 0.9, 1):
        one_by_one = [plain(store.search_vector(query, 7, recall=recall)) for query in queries]
        assert [plain(hits) for hits in store.search_vectors(queries, 7, recall=recall)] == one_by_one
    doubles = queries.astype(np.float64)
    assert [plain(hits) for hits in store.search_vectors(doubles[::2], 7)] == [
        plain(store.search_vector(query, 7)) for query in queries[::2]
    ]
    assert [plain(hits) for hits in store.search_vectors(queries[:2].tolist(), 7)] == [
        plain(store.search_vector(query, 7)) for query in queries[:2]
    ]
    assert store.search_vectors([]) == store.search_vectors(np.empty((0, DIM), np.float32)) == []


def test_top_k_beyond_the_store_gives_all(large):
    store, _, rows = large
    assert len(store.search_vector(rows[0], ROWS + 10)) == ROWS


def test_recall_of_the_store_is_taken_where_a_search_says_nothing(large):
    _, path, rows = large
    with memalloy.open(path, dim=DIM, read_only=True, recall=1) as store:
        assert store.index_status()["recall"] == 1.0
        assert store.explain(rows[0])["scanned_rows"] == ROWS
        assert store.explain(rows[0], recall=0.95)["scanned_rows"] == 0
        assert len(store.search_vectors(rows[:3], recall=0.5)) == 3


def test_a_class_of_ones_own_takes_recall(tmp_path):
    with memalloy.RAGKernel(tmp_path / "kb", recall=0.5) as store:
        assert store.index_status()["recall"] == 0.5


@pytest.mark.parametrize("recall", [0, 0.49, 1.01, -1, float("nan"), float("inf")])
def test_recall_out_of_range_is_refused_with_its_value(large, tmp_path, recall):
    store, _, rows = large
    for call in (
        lambda: store.search_vector(rows[0], recall=recall),
        lambda: store.search_vectors(rows[:2], recall=recall),
        lambda: store.search("x", recall=recall),
        lambda: store.explain(rows[0], recall=recall),
        lambda: memalloy.open(tmp_path / "kb", dim=DIM, recall=recall),
        lambda: memalloy.RAGKernel(tmp_path / "kb", recall=recall),
    ):
        with pytest.raises(memalloy.InvalidArgumentError, match=f"recall must be from 0.5 to 1, not {recall}"):
            call()


def test_bad_arguments_are_named(large):
    store, _, rows = large
    with pytest.raises(TypeError, match="recall must be a number or None, not str"):
        store.search_vector(rows[0], recall="0.9")
    with pytest.raises(TypeError):
        store.search_vector(rows[0], 5, 0.9)
    with pytest.raises(memalloy.InvalidArgumentError, match="vectors must have 2 dimensions, not 1"):
        store.search_vectors(rows[0])
    with pytest.raises(memalloy.InvalidArgumentError, match="vectors have 3 numbers, the store's have 16"):
        store.search_vectors([[1, 2, 3]])
    with pytest.raises(memalloy.InvalidArgumentError, match="vector 1 is all zero"):
        store.search_vectors([rows[0].tolist(), [0] * DIM])
    with pytest.raises(memalloy.InvalidArgumentError, match="vector 1 has no finite number at position 2"):
        store.search_vectors([rows[0].tolist(), [1, 1, float("nan")] + [0] * (DIM - 3)])
    with pytest.raises(TypeError, match="vectors"):
        store.search_vectors("text")
    with pytest.raises(memalloy.InvalidArgumentError, match="top_k must be at least 1"):
        store.search_vectors(rows[:2], 0)
    with pytest.raises(TypeError, match="progress must be True, a callable or None"):
        store.make_index(progress=3)


def test_a_closed_store_says_so(tmp_path):
    store = memalloy.open(tmp_path / "kb", dim=DIM)
    store.close()
    row = [1.0] * DIM
    for call in (store.make_index, store.index_status, lambda: store.explain(row), lambda: store.search_vectors([row])):
        with pytest.raises(memalloy.ClosedError):
            call()


def test_a_read_only_store_uses_an_index_and_makes_none(large, tmp_path):
    _, path, rows = large
    place = copy_of(path, tmp_path / "copy")
    with memalloy.open(place, dim=DIM, read_only=True) as store:
        assert store.explain(rows[0])["scanned_rows"] == 0
        with pytest.raises(memalloy.ReadOnlyError):
            store.make_index()
        for file in segments(place):
            file.unlink()
        wait_for(lambda: store.explain(rows[0])["scanned_rows"] == ROWS)
        time.sleep(0.3)
        assert segments(place) == []


def test_removed_is_never_found_and_new_at_once(large, tmp_path):
    _, path, rows = large
    with memalloy.open(copy_of(path, tmp_path / "copy"), dim=DIM, durability="off") as store:
        for query in rows[:20]:
            hits = store.search_vector(query, 3)
            assert store.remove_document(hits[0].document.id)
            after = store.search_vector(query, 3)
            assert [hit.chunk_id for hit in after[:2]] == [hit.chunk_id for hit in hits[1:]]
        query = clustered(1, 77)[0]
        (new,) = store.add_vectors(["quite new"], [query.tolist()])
        told = store.explain(query, 2)
        assert (told["hits"][0].document.id, told["hits"][0].content) == (new, "quite new")
        assert told["scanned_rows"] == 1 and told["cells_read"] > 0
        store.remove_document(new)
        assert store.search_vector(query, 1)[0].content != "quite new"


def test_an_index_grows_with_the_store(large, tmp_path):
    _, path, _ = large
    with memalloy.open(copy_of(path, tmp_path / "copy"), dim=DIM, durability="off") as store:
        fill(store, 10_000, seed=2, prefix="more")
        wait_for(lambda: store.index_status()["rows"] == ROWS + 10_000)
        queries = clustered(100, 8)
        exact = store.search_vectors(queries, 10, recall=1)
        assert any(hit.content.startswith("more") for hits in exact for hit in hits)
        assert recall_of(store.search_vectors(queries, 10), exact) >= 0.95


def test_another_store_sees_the_index_and_what_was_added(tmp_path):
    path = tmp_path / "kb"
    with memalloy.open(path, dim=DIM, durability="off") as first:
        first.add_vectors(["one"], [[1.0] * DIM])
        with memalloy.open(path, dim=DIM, read_only=True) as second:
            assert second.explain([1.0] * DIM)["scanned_rows"] == 1
            rows = fill(first)
            first.make_index()
            wait_for(lambda: second.index_status()["rows"] >= ROWS)
            told = second.explain(rows[3], 1)
            assert told["cells_read"] > 0 and told["scanned_rows"] <= 1
            assert told["hits"][0].content == "text 3"


def flip(file, place):
    with open(file, "r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte[0] ^ 0x10]))


def test_damage_is_told_by_explain_and_answers_stay_right(large, tmp_path):
    _, path, rows = large
    for share in (0.3, 0.6, 0.9):  # of the file: somewhere in its cells
        place = copy_of(path, tmp_path / f"copy {share}")
        (file,) = segments(place)
        flip(file, int(os.path.getsize(file) * share))
        damaged = 0
        with memalloy.open(place, dim=DIM) as store:
            for query in rows[:: ROWS // 400]:
                told = store.explain(query, 5)
                if told["index_was_damaged"]:
                    damaged += 1
                    assert told["scanned_rows"] == ROWS
                    assert plain(told["hits"]) == plain(store.search_vector(query, 5, recall=1))
                assert told["hits"][0].score == pytest.approx(1.0, abs=1e-6)
            assert damaged == 1, share
            assert file.name not in [each.name for each in segments(place)]
            wait_for(lambda: store.index_status()["rows"] == ROWS)


def test_what_is_damaged_can_be_looked_for(large, tmp_path):
    _, path, rows = large
    place = copy_of(path, tmp_path / "copy")
    (file,) = segments(place)
    flip(file, os.path.getsize(file) * 3 // 4)
    with memalloy.open(place, dim=DIM) as store:
        assert store.make_index() is False  # nothing is missing
        assert store.make_index(check=True) is True
        assert file not in segments(place) and len(segments(place)) == 1
        assert store.make_index(check=True) is False
        told = [store.explain(query, 5) for query in rows[:: ROWS // 400]]
        assert not any(each["index_was_damaged"] or each["scanned_rows"] for each in told)
    (records, *_) = sorted((place / "_memalloy" / "index" / "records").glob("*.q8"))
    flip(records, os.path.getsize(records) // 2)
    with memalloy.open(place, dim=DIM) as store:
        assert store.make_index(check=True) is True
        assert store.make_index(check=True) is False
        assert store.explain(rows[5], 1)["hits"][0].content == "text 5"


@pytest.mark.parametrize("what", ["cut", "empty", "rubbish", "header"])
def test_a_segment_that_cannot_be_opened_is_as_good_as_none(large, tmp_path, what):
    _, path, rows = large
    place = copy_of(path, tmp_path / "copy")
    (file,) = segments(place)
    if what == "cut":
        os.truncate(file, os.path.getsize(file) // 2)
    elif what == "header":
        flip(file, 9)
    else:
        file.write_bytes(b"" if what == "empty" else os.urandom(5000))
    with memalloy.open(place, dim=DIM, read_only=True) as store:
        told = store.explain(rows[11], 5)
        assert told["scanned_rows"] == ROWS and told["hits"][0].content == "text 11"
    with memalloy.open(place, dim=DIM) as store:
        store.make_index()
        assert store.index_status()["rows"] == ROWS
        assert store.explain(rows[11], 5)["scanned_rows"] == 0


def test_progress_is_told_and_can_cancel(large, tmp_path):
    _, path, rows = large
    place = copy_of(path, tmp_path / "copy")
    for file in segments(place):
        file.unlink()
    with memalloy.open(place, dim=DIM) as store:
        with pytest.raises(memalloy.CancelledError):
            store.make_index(progress=lambda progress: False)

        def complain(progress):
            raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            store.make_index(progress=complain)
        assert segments(place) == [] and store.index_status()["rows"] == 0
        seen = []
        assert store.make_index(progress=seen.append) is True
        assert {progress.stage for progress in seen} == {"vectors"}
        shares = [progress.items_done for progress in seen]
        assert shares == sorted(shares) and 0 <= shares[0] and shares[-1] <= 1000
        assert {progress.items_total for progress in seen} == {1000}
        assert store.explain(rows[0])["scanned_rows"] == 0
        assert store.make_index(progress=True) is False


def test_a_store_may_be_closed_while_its_index_is_made(tmp_path):
    store = memalloy.open(tmp_path / "kb", dim=DIM, durability="off")
    rows = fill(store)
    store.close()  # gives up the thread's work
    with memalloy.open(tmp_path / "kb", dim=DIM) as store:
        begun, errors = threading.Event(), []

        def look(progress):
            begun.set()

        def make():
            try:
                store.make_index(progress=look)
            except memalloy.ClosedError as error:
                errors.append(error)

        for file in segments(tmp_path / "kb"):
            file.unlink()
        thread = threading.Thread(target=make)
        thread.start()
        begun.wait(10)
        store.close()
        thread.join(30)
        assert not thread.is_alive()
    with memalloy.open(tmp_path / "kb", dim=DIM) as store:
        assert plain(store.search_vector(rows[5], 1))[0][0] == "text 5"


def test_other_threads_run_meanwhile(large):
    store, _, _ = large
    queries = clustered(3000, 9)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        begin = time.monotonic()
        store.search_vectors(queries, 1, recall=1)  # 3,000 times 30,000 vectors: long enough to see it
        end = time.monotonic()
    finally:
        stop.set()
        thread.join()
    assert len([at for at in ticks if begin < at < end]) >= 10


def test_searches_from_threads_while_it_is_made_and_made_again(large, tmp_path):
    _, path, rows = large
    place = copy_of(path, tmp_path / "copy")
    with memalloy.open(place, dim=DIM, durability="off") as store:
        stop, wrong, done = threading.Event(), [], []

        def search(seed):
            picks = np.random.default_rng(seed).integers(0, ROWS, 100_000)
            for i in picks:
                if stop.is_set():
                    return
                hit = store.search_vector(rows[i], 1)[0]
                if hit.score < 0.999999:
                    wrong.append((i, hit.content, hit.score))
                done.append(1)

        threads = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                for file in segments(place):
                    file.unlink(missing_ok=True)
                store.make_index()
                fill(store, 2_000, seed=3, prefix="again")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert wrong == [] and len(done) > 100


def test_texts_are_explained_too(kb):
    kb.add_document("Green tea is steeped for two minutes.")
    told = kb.explain("how long does tea brew?", top_k=1)
    assert told["hits"][0].content == "Green tea is steeped for two minutes."
    assert told["hits"][0].score == kb.search("how long does tea brew?", top_k=1, recall=1)[0].score
    assert told["scanned_rows"] == 1
    assert set(told["seconds"]) == {"rank", "scan", "record", "vector", "exact"}


def test_lance_is_asked_for_by_name_and_told_in_the_status(tmp_path):
    with memalloy.open(tmp_path / "kb", dim=DIM, durability="off") as store:
        assert store.make_index(lance=True) is False
        assert store.index_status()["has_lance"] is False
        store.add_vectors(["few"] * 255, clustered(255, 1))
        assert store.make_index(lance=True) is False
        store.add_vectors(["more"], clustered(1, 2))
        seen = []
        assert store.make_index(seen.append, lance=True) is True
        assert seen and all(0 <= p.items_done <= p.items_total for p in seen)
        status = store.index_status()
        assert (status["has_lance"], status["lance_rows"], status["lance_pending"]) == (True, 256, 0)
        files = list((tmp_path / "kb" / "chunks.lance" / "_indices").glob("*/*.idx"))
        assert status["lance_bytes"] == sum(file.stat().st_size for file in files)
        store.add_vectors(["one more"], clustered(1, 3))
        status = store.index_status()
        assert (status["lance_rows"], status["lance_pending"]) == (256, 1)
    with memalloy.open(tmp_path / "kb", read_only=True) as store:
        assert store.index_status()["has_lance"] is True
        with pytest.raises(memalloy.ReadOnlyError):
            store.make_index(lance=True)


def test_lance_is_cancelled_by_its_callback(tmp_path):
    with memalloy.open(tmp_path / "kb", dim=DIM, durability="off") as store:
        store.add_vectors(["text"] * 3000, clustered(3000, 1))

        def stop(progress):
            raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            store.make_index(stop, lance=True)
        assert store.index_status()["has_lance"] is False
        assert not list((tmp_path / "kb" / "chunks.lance").glob("_indices/*"))
        assert store.make_index(lance=True) is True
