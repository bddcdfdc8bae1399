"""The index that make_index(lance=True) puts into the table of chunks, in the hands of lancedb and pylance: they plan with
it, find what is near, keep it up, and what was added or removed since is right."""

import os

os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")

import pytest

lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed")
lance = pytest.importorskip("lance", reason="pylance is not installed")
np = pytest.importorskip("numpy")

import memalloy  # noqa: E402

DIM = 48
ROWS = 9_000
K = 10


def clustered(count, seed, dim=DIM):
    """Unit vectors round 100 centres."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((100, dim))
    made = centres[random.integers(0, 100, count)] + 0.7 * random.standard_normal((count, dim))
    made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    made.flags.writeable = False
    return made


class Base:
    """A store, and beside it what is in it."""

    def __init__(self, path, dim=DIM):
        self.path, self.dim = path, dim
        self.store = memalloy.open(path, dim=dim)
        self.vectors, self.ids, self.dead = np.empty((0, dim), np.float32), [], set()

    def add(self, count, seed):
        made = clustered(count, seed, self.dim)
        first = len(self.ids)
        self.ids += self.store.add_vectors([f"text {first + i}" for i in range(count)], made)
        self.vectors = np.concatenate([self.vectors, made])
        self.store.checkpoint()

    def remove(self, numbers):
        for number in numbers:
            self.store.remove_document(self.ids[number])
            self.dead.add(number)
        self.store.checkpoint()

    def exact(self, query):
        scores = self.vectors @ query
        scores[sorted(self.dead)] = -2
        return set(np.argsort(-scores)[:K].tolist())

    def table(self):
        return lancedb.connect(str(self.path)).open_table("chunks")

    def dataset(self):
        return lance.dataset(str(self.path / "chunks.lance"))

    def find(self, query, nprobes=20, refine=10):
        search = self.table().search(query).distance_type("cosine").limit(K).nprobes(nprobes).refine_factor(refine)
        return [int(row["content"].split()[1]) for row in search.to_list()]

    def recall(self, queries=40, **how):
        """Of what lancedb finds; none of it dead, none twice, and always enough."""
        hits = 0
        for query in clustered(queries, 1234, self.dim):
            found = self.find(query, **how)
            assert len(found) == len(set(found)) == K
            assert not self.dead & set(found)
            hits += len(self.exact(query) & set(found))
        return hits / (queries * K)

    def stats(self):
        stats = self.table().index_stats("vector_idx")
        return stats.num_indexed_rows, stats.num_unindexed_rows


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / "kb")
    with base.store:
        yield base


def test_lancedb_plans_with_it_and_finds_what_is_near(base):
    for seed in range(3):
        base.add(ROWS // 3, seed)
    assert base.store.index_status()["has_lance"] is False
    assert base.table().list_indices() == []
    assert base.store.make_index(lance=True) is True
    assert base.store.make_index(lance=True, check=True) is False
    status = base.store.index_status()
    assert (status["has_lance"], status["lance_rows"], status["lance_pending"]) == (True, ROWS, 0)
    (index,) = base.table().list_indices()
    assert (index.name, index.index_type, index.columns) == ("vector_idx", "IvfPq", ["vector"])
    assert index.size_bytes == status["lance_bytes"]
    stats = base.table().index_stats("vector_idx")
    assert (stats.index_type, stats.distance_type) == ("IVF_PQ", "cosine")
    assert base.stats() == (ROWS, 0)
    query = clustered(1, 5)[0]
    search = base.table().search(query).distance_type("cosine").limit(K)
    assert "ANNSubIndex: name=vector_idx" in search.explain_plan()
    assert "ANNSubIndex" in search.analyze_plan()
    assert "ANN" not in search.bypass_vector_index().explain_plan()
    assert base.recall() >= 0.9
    base.dataset().validate()
    details = base.dataset().stats.index_stats("vector_idx")["indices"][0]
    assert details["num_partitions"] == 2
    assert details["sub_index"]["num_sub_vectors"] == DIM // 8
    # The distances of codes are near those of the vectors: twice the cosine's, as lancedb's own.
    rows = base.table().search(query).distance_type("cosine").limit(K).to_list()
    for row in rows:
        true = 2 * (1 - float(np.dot(row["vector"], query)))
        assert abs(row["_distance"] - true) < 0.45


def test_what_is_added_and_removed_afterwards_is_right(base):
    base.add(5_000, 1)
    for seed in range(3):
        base.add(600, 10 + seed)
    assert base.store.make_index(lance=True)
    assert base.recall(refine=20) >= 0.95
    base.add(500, 20)  # and four small fragments become one
    assert base.stats()[1] >= 500
    assert base.recall(refine=20) >= 0.95
    query = base.vectors[-1]
    assert base.find(query)[0] == len(base.ids) - 1
    base.remove(range(4_900, 5_300))
    assert base.recall(refine=20) >= 0.95
    for seed in range(3):
        base.add(300, 30 + seed)
    assert base.recall(refine=20) >= 0.95
    indexed, unindexed = base.stats()
    status = base.store.index_status()
    assert (status["lance_rows"], status["lance_pending"]) == (indexed, unindexed)
    assert indexed + unindexed == len(base.ids) - len(base.dead)
    assert not base.store.verify()["damaged"]
    base.dataset().validate()


def test_lancedb_keeps_it_up_and_we_go_on(base):
    base.add(5_000, 1)
    base.store.make_index(lance=True)
    base.add(700, 2)
    base.remove(range(50))
    base.table().optimize()
    assert base.stats() == (5_650, 0)
    assert base.store.index_status()["lance_pending"] == 0
    assert base.recall(refine=20) >= 0.95
    for hit in base.store.search_vector(base.vectors[-1], top_k=1):
        assert hit.content == f"text {len(base.ids) - 1}"
    base.add(900, 3)
    status = base.store.index_status()
    assert status["lance_pending"] == 900
    assert base.store.make_index(lance=True) is True  # so much is outside that it is made anew
    assert base.stats() == (6_550, 0)
    assert base.recall(refine=20) >= 0.95
    base.dataset().optimize.compact_files()
    assert base.stats()[1] == 0
    assert base.recall(refine=20) >= 0.95
    base.dataset().validate()
    assert not base.store.verify()["damaged"]


def test_an_index_of_lancedbs_own_is_seen_and_replaced_only_when_it_is_behind(base):
    base.add(4_000, 1)
    base.dataset().create_index("vector", "IVF_PQ", metric="cosine", num_partitions=2, num_sub_vectors=6)
    status = base.store.index_status()
    assert (status["has_lance"], status["lance_rows"]) == (True, 4_000)
    assert base.store.make_index(lance=True) is False
    base.add(1_000, 2)
    assert base.store.make_index(lance=True) is True
    assert base.dataset().stats.index_stats("vector_idx")["indices"][0]["sub_index"]["num_sub_vectors"] == DIM // 8
    assert len(base.table().list_indices()) == 1
    assert base.recall(refine=20) >= 0.95


def test_one_of_another_kind_is_left_to_those_who_made_it(base):
    base.add(4_000, 1)
    base.dataset().create_index("vector", "IVF_HNSW_SQ", metric="cosine", num_partitions=1)
    assert base.store.make_index(lance=True) is False
    base.add(1_000, 2)
    with pytest.raises(memalloy.MemalloyError, match="another kind than IVF_PQ, and 1000 rows are not in it"):
        base.store.make_index(lance=True)
    assert [index.index_type for index in base.table().list_indices()] == ["IvfHnswSq"]


def test_indices_of_other_columns_stay(base):
    base.add(3_000, 1)
    base.dataset().create_scalar_index("ordinal", "BTREE")
    base.store.make_index(lance=True)
    base.add(100, 2)
    assert sorted(index.name for index in base.table().list_indices()) == ["ordinal_idx", "vector_idx"]
    assert base.dataset().scanner(filter="ordinal = 0").count_rows() == 3_100
    base.table().optimize()
    assert base.stats() == (3_100, 0)


@pytest.mark.parametrize("dim", [8, 20, 100, 384])
def test_every_dimension_is_read(tmp_path, dim):
    base = Base(tmp_path / "kb", dim)
    with base.store:
        base.add(1_500, 1)
        base.store.make_index(lance=True)
        assert base.recall(queries=15, refine=30) >= 0.9
        base.dataset().validate()


def test_damage_is_told_and_the_index_made_anew(base):
    base.add(2_000, 1)
    base.store.make_index(lance=True)
    (file,) = (base.path / "chunks.lance" / "_indices").glob("*/auxiliary.idx")
    whole = file.read_bytes()
    file.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert [str(file)] == [path for path, _ in base.store.verify()["damaged"]]
    assert base.store.make_index(lance=True) is False
    assert base.store.make_index(lance=True, check=True) is True
    assert not base.store.verify()["damaged"]
    assert base.recall(refine=20) >= 0.95
