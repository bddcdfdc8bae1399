"""Our own vector index beside lancedb: rows that its compaction moves are followed, not indexed anew."""

import struct

import memalloy
import pytest

np = pytest.importorskip("numpy")
lance = pytest.importorskip("lance")

DIM = 16
ROWS = 24_000


def vectors(count, seed):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((200, DIM))
    made = centres[random.integers(0, 200, count)] + 0.5 * random.standard_normal((count, DIM))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def centroids(path):
    """The bytes of the only segment that say where its cells are: a build anew finds others."""
    (segment,) = (path / "_memalloy" / "index" / "vectors").glob("*.vec")
    data = segment.read_bytes()
    start, end = struct.unpack_from("<QQ", data, 96)
    return np.frombuffer(data[start:end], dtype=np.uint8)


def recall_of(store, queries):
    found = exact = 0
    for query in queries:
        near = {hit.chunk_id: hit.score for hit in store.search_vector(query, 10, recall=1)}
        got = {hit.chunk_id: hit.score for hit in store.search_vector(query, 10)}
        assert all(got[chunk] == near[chunk] for chunk in got.keys() & near.keys())
        found += len(got.keys() & near.keys())
        exact += len(near)
    return found / exact


def test_rows_that_a_compaction_moves_are_followed(tmp_path):
    path = tmp_path / "kb"
    rows, queries = vectors(ROWS, 1), vectors(30, 2)
    with memalloy.open(path, dim=DIM, durability="off") as store:
        for first in range(0, ROWS, 8_000):
            block = range(first, first + 8_000)
            store.add_vectors([f"text {i}" for i in block], rows[first : first + 8_000], ids=[f"d{i}" for i in block])
        store.make_index()
        gone = [*range(0, 6_000, 37), *range(9_000, 9_400)]
        for i in gone:
            store.remove_document(f"d{i}")
    before = centroids(path)

    dataset = lance.dataset(str(path / "chunks.lance"))
    dataset.optimize.compact_files(target_rows_per_fragment=1_000_000, materialize_deletions=True, materialize_deletions_threshold=0.0)
    assert len(lance.dataset(str(path / "chunks.lance")).get_fragments()) == 1

    with memalloy.open(path, dim=DIM, durability="off") as store:
        assert recall_of(store, queries) >= 0.95  # by the vectors, until the index has come after
        store.make_index()
        status = store.index_status()
        assert status["rows"] == ROWS - len(gone) and status["pending"] == 0
        assert recall_of(store, queries) >= 0.95
        for i in gone[::40]:
            assert f"text {i}" not in {hit.content for hit in store.search_vector(rows[i], 10)}
        kept = [i for i in range(ROWS) if i not in set(gone)]
        for i in kept[::1_000]:
            assert store.search_vector(rows[i], 1)[0].content == f"text {i}"
    after = centroids(path)
    assert len(after) == len(before) and np.mean(after == before) > 0.9

    # What is built anew of the same rows has other cells: the comparison tells the two apart.
    for file in (path / "_memalloy" / "index" / "vectors").iterdir():
        file.unlink()
    with memalloy.open(path, dim=DIM, durability="off") as store:
        store.make_index()
    anew = centroids(path)
    assert len(anew) != len(before) or np.mean(anew == before) < 0.5
