"""A store that was made through Python, in the hands of lancedb and pylance: they read all of it, they change it, and
we read on."""

import datetime
import hashlib
import json
import uuid

import pytest

lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed")
lance = pytest.importorskip("lance", reason="pylance is not installed")
np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")

import memalloy  # noqa: E402
from memalloy import _model  # noqa: E402

TEXTS = {
    "tea": ("# Tea\n\nGreen tea is steeped for two minutes.\n\n## Black\n\nFour minutes.\n", {"kind": "drink", "n": 1}),
    "bike": ("A chain is oiled after every ride in the rain. " * 60, {}),
    "日本": ("東京は日本の首都です。😀\n" * 40, {"ü": [None, {"a": 1.5}]}),
    "blank": ("   ", {"empty": None}),
    "o'brien": ("A quote ' and a NUL \0 inside.", {"q": "'"}),
}


@pytest.fixture
def path(tmp_path):
    if _model.default_path() is None:
        pytest.skip("the model is not there: make model")
    return tmp_path / "kb"


@pytest.fixture
def kb(path, tmp_path):
    root = tmp_path / "notes"
    root.mkdir()
    (root / "bread.md").write_text("# Bread\n\nThe dough rests over night.\n")
    (root / "bad.txt").write_bytes(b"not \xff UTF-8")
    with memalloy.open(path) as store:
        for document_id, (text, metadata) in TEXTS.items():
            store.add_document(text, metadata, document_id)
        store.add_document("to be removed", document_id="gone")
        store.add_document("to be replaced", document_id="bike")
        store.add_document(*TEXTS["bike"], "bike")
        store.remove_document("gone")
        store.sync(root)
        store.checkpoint()
        yield store


def rows(path, table):
    return lance.dataset(str(path / f"{table}.lance")).to_table().to_pylist()


def test_lancedb_lists_both_tables(kb, path):
    names = lancedb.connect(str(path)).list_tables().tables
    assert sorted(names) == ["chunks", "documents"]


def test_pylance_validates_both_tables(kb, path):
    for table in ("chunks", "documents"):
        dataset = lance.dataset(str(path / f"{table}.lance"))
        dataset.validate()
        for fragment in dataset.get_fragments():
            fragment.validate()
        assert dataset.data_storage_version == "2.0"


def test_the_schema_is_the_promised_one(kb, path):
    schema = lance.dataset(str(path / "chunks.lance")).schema
    assert schema.names[:5] == ["id", "vector", "document_id", "content", "metadata"]
    assert schema.field("vector").type == pa.list_(pa.float32(), 384)
    for name in ("id", "document_id", "content", "metadata", "heading"):
        assert schema.field(name).type == pa.string()
    for name in ("ordinal", "byte_start", "byte_end", "line_start", "line_end", "page_start", "page_end"):
        assert schema.field(name).type == pa.int64() and schema.field(name).nullable
    assert schema.field("created_at").type == pa.timestamp("us")
    documents = lance.dataset(str(path / "documents.lance")).schema
    for name in ("path", "title", "metadata", "content_hash", "byte_count", "chunk_count", "status", "reason", "created_at", "updated_at"):
        assert documents.field(name).nullable, name


def test_counts_agree(kb, path):
    status = kb.status()
    db = lancedb.connect(str(path))
    assert db.open_table("chunks").count_rows() == status["chunks"]
    assert db.open_table("documents").count_rows("status = 'ok'") == status["documents"] == kb.count() == 6
    skipped = [row for row in rows(path, "documents") if row["status"] != "ok"]
    assert len(skipped) == status["skipped"] == 1
    assert skipped[0]["path"].endswith("bad.txt") and "UTF-8" in skipped[0]["reason"]


def test_every_row_of_the_chunks_value_for_value(kb, path):
    chunks = rows(path, "chunks")
    by_document = {}
    for row in chunks:
        by_document.setdefault(row["document_id"], []).append(row)
    documents = {document.id: document for document in kb.list_documents()}
    assert set(by_document) == set(documents)
    assert len({row["id"] for row in chunks}) == len(chunks)
    for document_id, document in documents.items():
        ordered = sorted(by_document[document_id], key=lambda row: row["ordinal"])
        raw = document.content.encode()
        assert [row["ordinal"] for row in ordered] == list(range(len(ordered))) and len(ordered) == document.chunk_count
        assert ordered[0]["byte_start"] == 0 and ordered[-1]["byte_end"] == len(raw)
        for row, following in zip(ordered, ordered[1:] + [None]):
            assert following is None or row["byte_end"] == following["byte_start"]
            assert raw[row["byte_start"] : row["byte_end"]].decode() == row["content"]
            assert row["line_start"] == raw[: row["byte_start"]].count(b"\n") + 1 <= row["line_end"]
            assert row["page_start"] is None and row["page_end"] is None
            assert json.loads(row["metadata"]) == document.metadata
            assert uuid.UUID(row["id"]).version == 8
            assert abs(row["created_at"] - datetime.datetime.utcnow()) < datetime.timedelta(minutes=10)
    embedded = np.asarray(memalloy.embed([row["content"] for row in chunks]))
    stored = np.array([row["vector"] for row in chunks], dtype=np.float32)
    assert np.array_equal(embedded, stored)
    headings = {row["heading"] for row in by_document["tea"]}
    assert headings & {"Tea", "Tea > Black"}


def test_every_row_of_the_documents_value_for_value(kb, path):
    table = {row["id"]: row for row in rows(path, "documents") if row["status"] == "ok"}
    for document in kb.list_documents():
        row = table[document.id]
        assert row["path"] == document.path
        assert json.loads(row["metadata"]) == document.metadata
        assert row["byte_count"] == len(document.content.encode()) == document.byte_count
        assert row["chunk_count"] == document.chunk_count
        assert row["created_at"].replace(tzinfo=datetime.timezone.utc) == document.created_at
        assert row["updated_at"].replace(tzinfo=datetime.timezone.utc) == document.updated_at
        assert row["content_hash"]
    for document_id, (text, metadata) in TEXTS.items():
        assert kb.get_document(document_id).content == text
        assert kb.get_document(document_id).metadata == metadata
    hashes = {row["content_hash"] for row in table.values()}
    assert len(hashes) == len(table) and all(len(value) >= hashlib.sha256().digest_size for value in hashes)


def test_sql_filters_find_what_they_name(kb, path):
    table = lancedb.connect(str(path)).open_table("chunks")
    found = table.search().where("document_id = 'tea'").limit(100).to_list()
    assert found and "".join(sorted_contents(found)) == TEXTS["tea"][0]
    assert table.search().where("document_id = 'o''brien'").limit(10).to_list()[0]["content"] == TEXTS["o'brien"][0]
    assert table.count_rows("ordinal = 0") == 6
    assert table.count_rows("heading IS NULL AND document_id = 'blank'") == 1
    assert table.count_rows("document_id = 'gone'") == 0
    documents = lancedb.connect(str(path)).open_table("documents")
    assert documents.count_rows("path IS NOT NULL AND status = 'ok'") == 1


def sorted_contents(found):
    return [row["content"] for row in sorted(found, key=lambda row: row["ordinal"])]


def test_nearest_is_the_same_as_ours(kb, path):
    table = lancedb.connect(str(path)).open_table("chunks")
    for query in ("how long does green tea brew?", "rain on a bicycle", "日本の首都"):
        vector = memalloy.embed([query])[0]
        theirs = table.search(vector).metric("cosine").limit(5).to_list()
        ours = kb.search_vector(vector, 5)
        assert [1 - row["_distance"] for row in theirs] == pytest.approx([hit.score for hit in ours], abs=1e-5)
        assert ours[0].chunk_id == theirs[0]["id"]
        assert ours[0].content == theirs[0]["content"]


def test_we_read_on_after_lancedb_appends(kb, path):
    table = lancedb.connect(str(path)).open_table("chunks")
    before = kb.status()["chunks"]
    row = dict(rows(path, "chunks")[0])
    content = "A row that another program wrote about zeppelins."
    row.update(id=str(uuid.uuid4()), document_id="foreign", content=content, ordinal=0, byte_start=0, byte_end=len(content))
    row.update(line_start=1, line_end=1, metadata='{"by": "lancedb"}', vector=memalloy.embed([content])[0])
    table.add(pa.Table.from_pylist([row], schema=table.schema))
    assert kb.status()["chunks"] == before + 1
    hit = kb.search("zeppelins", 1)[0]
    assert hit.content == content and hit.document.id == "foreign" and hit.metadata == {"by": "lancedb"}
    kb.add_document("ours goes on", document_id="later")
    assert kb.search("ours goes on", 1)[0].document.id == "later"
    assert lancedb.connect(str(path)).open_table("chunks").count_rows() == before + 1
    kb.checkpoint()
    assert lancedb.connect(str(path)).open_table("chunks").count_rows() == before + 2


def test_we_read_on_after_lancedb_deletes(kb, path):
    db = lancedb.connect(str(path))
    before = kb.status()["chunks"]
    gone = db.open_table("chunks").count_rows("document_id = 'tea'")
    db.open_table("chunks").delete("document_id = 'tea'")
    assert kb.status()["chunks"] == before - gone
    assert all(hit.document.id != "tea" for hit in kb.search("green tea", 100))
    document = kb.get_document("tea")
    assert document.altered is True
    db.open_table("documents").delete("id = 'tea'")
    with pytest.raises(memalloy.NotFoundError):
        kb.get_document("tea")
    assert kb.count() == 5
    kb.add_document(*TEXTS["tea"], "tea")
    assert kb.get_document("tea").content == TEXTS["tea"][0]


def test_a_document_that_lost_one_row_is_said_to_be_altered(kb, path):
    assert kb.get_document("bike").altered is False
    db = lancedb.connect(str(path))
    assert db.open_table("chunks").count_rows("document_id = 'bike'") > 1
    db.open_table("chunks").delete("document_id = 'bike' AND ordinal = 1")
    assert kb.get_document("bike").altered is True
    kb.add_document(*TEXTS["bike"], "bike")


def test_we_read_on_after_lancedb_compacts(kb, path):
    before = sorted((hit.chunk_id, hit.content, hit.score) for hit in kb.search("tea", 1000))
    for name in ("chunks", "documents"):
        dataset = lance.dataset(str(path / f"{name}.lance"))
        dataset.optimize.compact_files()
    assert kb.status()["chunks_fragments"] == 1
    assert sorted((hit.chunk_id, hit.content, hit.score) for hit in kb.search("tea", 1000)) == before
    for document_id, (text, _) in TEXTS.items():
        document = kb.get_document(document_id)
        assert document.content == text and document.altered is False
    assert kb.remove_document("bike") is True
    kb.add_document("after the compaction", document_id="bike")
    assert kb.get_document("bike").content == "after the compaction"
    lance.dataset(str(path / "chunks.lance")).validate()


def test_a_new_handle_reads_what_all_have_written(kb, path):
    db = lancedb.connect(str(path))
    db.open_table("chunks").delete("document_id = 'blank'")
    lance.dataset(str(path / "chunks.lance")).optimize.compact_files()
    kb.add_document("the last word", document_id="last")
    kb.close()
    with memalloy.open(path, read_only=True) as store:
        assert store.get_document("last").content == "the last word"
        assert store.get_document("tea").content == TEXTS["tea"][0]
        ids = {hit.document.id for hit in store.search("word", 1000)}
        assert "blank" not in ids and {"last", "tea", "bike", "日本"} <= ids


def test_ready_vectors_of_six_numbers_open_too(tmp_path):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((500, 6), dtype=np.float32)
    with memalloy.open(tmp_path / "six", dim=6) as store:
        store.add_vectors([f"text {i}" for i in range(500)], vectors, ids=[f"{i:03}" for i in range(500)])
        store.checkpoint()
        table = lancedb.connect(str(tmp_path / "six")).open_table("chunks")
        assert table.count_rows() == 500
        assert table.schema.field("vector").type == pa.list_(pa.float32(), 6)
        query = rng.standard_normal(6, dtype=np.float32)
        theirs = [row["document_id"] for row in table.search(query).metric("cosine").limit(20).to_list()]
        assert [hit.document.id for hit in store.search_vector(query, 20)] == theirs
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        stored = {row["document_id"]: row["vector"] for row in table.to_arrow().to_pylist()}
        assert np.allclose([stored[f"{i:03}"] for i in range(500)], unit, atol=1e-6)


def test_sync_mends_what_another_program_deleted(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.md").write_text("# One\n\nThe first part.\n\n# Two\n\nThe second part.\n")
    (folder / "b.md").write_text("Another text.\n")
    with memalloy.open(tmp_path / "kb") as store:
        assert store.sync(folder).chunks == 3
        store.checkpoint()
        table = lancedb.connect(str(tmp_path / "kb")).open_table("chunks")
        table.delete("content LIKE '%first%'")
        report = store.sync(folder)
        assert (report.replaced, report.unchanged, report.chunks_embedded) == (1, 1, 1)
        assert "first" in store.search("the first part", top_k=1)[0].content
        assert all(document.altered is False for document in map(store.get_document, ids_of(store)))


def ids_of(store):
    return [document.id for document in store.list_documents()]


def test_passages_without_a_document_can_be_read_and_removed(tmp_path):
    with memalloy.open(tmp_path / "kb") as store:
        store.add_document("The boiler is serviced in May.", document_id="boiler")
        store.checkpoint()
        lancedb.connect(str(tmp_path / "kb")).open_table("documents").delete("id = 'boiler'")
        assert store.count() == 0
        assert [hit.document.id for hit in store.search("boiler")] == ["boiler"]
        document = store.get_document("boiler")
        assert document.content == "The boiler is serviced in May." and document.altered is True
        assert store.remove_document("boiler") is True
        assert len(store.search("boiler")) == 0
        assert store.remove_document("boiler") is False


def test_a_version_that_lancedb_restored_is_read_on(tmp_path):
    with memalloy.open(tmp_path / "kb") as store:
        store.add_document("The first text.", document_id="a")
        store.checkpoint()
        tables = [lance.dataset(str(tmp_path / "kb" / f"{name}.lance")) for name in ("chunks", "documents")]
        versions = [table.version for table in tables]
        for table, version in zip(tables, versions):
            table.tags.create("then", version)
        for number in range(4):
            store.add_document(f"Text {number}.", document_id=f"b{number}")
            store.checkpoint()
        for name, version in zip(("chunks", "documents"), versions):
            lancedb.connect(str(tmp_path / "kb")).open_table(name).restore(version)
        assert ids_of(store) == ["a"]
        store.add_document("Later.", document_id="c")
        assert sorted(ids_of(store)) == ["a", "c"]
    with memalloy.open(tmp_path / "kb", read_only=True) as store:
        assert sorted(ids_of(store)) == ["a", "c"]
        assert store.status()["chunks"] == 2
