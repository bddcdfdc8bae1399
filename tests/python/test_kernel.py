"""RAGKernel with a model: texts in, hits and documents out."""

import datetime
import inspect
import json
import os
import pickle

import memalloy
import pytest


def test_a_text_is_found_and_read_back(kb):
    document_id = kb.add_document("Green tea is steeped for two minutes.", {"topic": "tea"})
    kb.add_document("A chain is oiled after every ride.")
    hits = kb.search("how long does tea brew?", top_k=1)
    assert len(hits) == 1
    hit = hits[0]
    assert hit.content == "Green tea is steeped for two minutes."
    assert hit.metadata == {"topic": "tea"}
    assert hit.document.id == document_id
    assert hit.document.content == hit.content
    assert hit.path is None
    assert hit.spans.bytes == (0, 37)
    assert hit.spans.lines == (1, 1)
    assert hit.spans.pages is None
    assert hit.ordinal == 0
    assert 0.3 < hit.score < 1.0
    document = kb.get_document(document_id)
    assert document.content == "Green tea is steeped for two minutes."
    assert document.metadata == {"topic": "tea"}
    assert document.altered is False


def test_hits_unpack_as_document_and_score(kb):
    kb.add_document("one")
    for document, score in kb.search("one"):
        assert isinstance(document, memalloy.Document)
        assert isinstance(score, float)
        assert score == pytest.approx(1.0, abs=1e-3)
    hit = kb.search("one")[0]
    assert len(hit) == 2
    assert hit[0] is hit.document and hit[1] == hit.score and hit[-1] == hit.score
    with pytest.raises(IndexError):
        hit[2]
    with pytest.raises(AttributeError):
        hit.score = 2.0
    with pytest.raises(TypeError):
        memalloy.Hit()


def clear_as_the_collector_does(made):
    """By tp_clear, on what is in a dead cycle; what is freed by that may run code that still sees it."""
    ctypes = pytest.importorskip("ctypes")
    slot = ctypes.pythonapi.PyType_GetSlot
    slot.argtypes, slot.restype = [ctypes.py_object, ctypes.c_int], ctypes.c_void_p
    assert ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(slot(type(made), 51))(made) == 0


def test_a_report_that_the_collector_cleared_is_an_empty_shell(kb, folder):
    report = kb.sync(folder)
    clear_as_the_collector_does(report)
    with pytest.raises(AttributeError):
        report.skipped
    assert report.to_dict()["skipped"] == [] and report.to_dict()["added"] == 3 and "skipped=0" in repr(report)


def test_a_hit_that_the_collector_cleared_is_an_empty_shell(vectors):
    vectors.add_vectors(["north"], [[0, 1, 0, 0, 0, 0]])
    (hit,) = vectors.search_vector([0, 1, 0, 0, 0, 0], 1)
    document, score = hit
    assert (document.content, score) == ("north", 1.0)
    clear_as_the_collector_does(hit)
    assert list(hit) == []
    with pytest.raises(ValueError):
        document, score = hit
    with pytest.raises(IndexError):
        hit[0]
    with pytest.raises(AttributeError):
        hit.document
    assert hit.score == 1.0 and hit.content is None and "None" in repr(hit)


def test_hits_come_best_first(kb):
    for text in ("the cat sat on the mat", "stock markets fell", "a kitten on a rug", "tax law"):
        kb.add_document(text)
    scores = [score for _, score in kb.search("a cat on a carpet", top_k=4)]
    assert scores == sorted(scores, reverse=True)
    assert "a kitten on a rug" in [hit.content for hit in kb.search("a cat on a carpet", 2)]


def test_an_empty_store_gives_an_empty_result(kb):
    assert kb.search("anything") == []
    assert kb.list_documents() == []
    assert kb.count() == 0
    assert kb.status()["documents"] == 0


def test_top_k_beyond_the_store_gives_all(kb):
    for i in range(3):
        kb.add_document(f"text {i}")
    for top_k in (3, 4, 1000, 2**31 - 1, 2**31, 2**40, 2**63 - 1):
        assert len(kb.search("text", top_k=top_k)) == 3
    assert len(kb.search("text", 2)) == 2


def test_the_signature_is_the_ancestors(kb):
    parameters = inspect.signature(memalloy.RAGKernel).parameters
    positional = [name for name, parameter in parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY]
    assert positional == ["db_path", "chunk_size", "overlap"]
    assert all(not parameter.default for parameter in parameters.values())
    assert inspect.signature(kb.search).parameters["top_k"].default == 5


def test_the_default_path_is_the_ancestors(tmp_path, monkeypatch, model_path):
    monkeypatch.chdir(tmp_path)
    with memalloy.RAGKernel() as store:
        store.add_document("x")
    assert (tmp_path / ".memalloy_data" / "chunks.lance").is_dir()


def test_a_store_is_found_again_by_another_handle(tmp_path, model_path):
    with memalloy.RAGKernel(str(tmp_path / "kb")) as store:
        document_id = store.add_document("kept", {"n": 1})
    with memalloy.RAGKernel(os.fsencode(tmp_path / "kb")) as store:
        assert store.count() == 1
        assert store.get_document(document_id).content == "kept"
        assert store.search("kept")[0].metadata == {"n": 1}


def test_sizes_choose_the_sentence_strategy(tmp_path, model_path):
    with memalloy.RAGKernel(tmp_path / "a", 100, 10) as store:
        assert store.status()["chunking"] == {"kind": "sentence", "chunk_size": 100, "overlap": 10}
    with memalloy.RAGKernel(tmp_path / "b", chunk_size=600) as store:
        assert store.status()["chunking"] == {"kind": "sentence", "chunk_size": 600, "overlap": 50}
    with memalloy.RAGKernel(tmp_path / "c") as store:
        assert store.status()["chunking"]["kind"] == "heading"


def test_an_id_of_the_callers_is_kept_and_replaced(kb):
    assert kb.add_document("first", document_id="my id/ü") == "my id/ü"
    assert kb.add_document("second", {"v": 2}, "my id/ü") == "my id/ü"
    assert kb.count() == 1
    assert kb.get_document("my id/ü").content == "second"
    assert [hit.content for hit in kb.search("first")] == ["second"]


def test_the_same_text_under_the_same_id_changes_nothing(kb):
    kb.add_document("same", {"a": 1}, "x")
    before = kb.status()
    kb.add_document("same", {"a": 1}, "x")
    after = kb.status()
    assert after["chunks_version"] == before["chunks_version"]
    assert after["chunks"] == before["chunks"] == 1


def test_ids_have_1_to_512_bytes(kb):
    assert kb.add_document("x", document_id="i" * 512) == "i" * 512
    for wrong in ("", "i" * 513, "ü" * 257):
        with pytest.raises(memalloy.InvalidArgumentError, match="512"):
            kb.add_document("x", document_id=wrong)
    assert kb.count() == 1


def test_ids_with_quotes_nul_and_wildcards_are_only_ids(kb):
    ids = ["a'b", 'a"b', "a\\b", "a\0b", "a%", "_", "日本", "-- ;", "' OR '1'='1"]
    for i, document_id in enumerate(ids):
        assert kb.add_document(f"text {i}", document_id=document_id) == document_id
    assert kb.count() == len(ids)
    for i, document_id in enumerate(ids):
        assert kb.get_document(document_id).content == f"text {i}"
    assert kb.remove_document("' OR '1'='1") is True
    assert kb.count() == len(ids) - 1
    assert kb.remove_document("a\0b") is True
    with pytest.raises(memalloy.NotFoundError):
        kb.get_document("a\0b")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"s": "text", "ü": "日本 😀"},
        {"int": 1, "negative": -5, "big": 2**53 + 1, "float": 0.1, "null": None, "yes": True},
        {"list": [1, "two", None, [3, {}]], "dict": {"a": {"b": {"c": []}}}},
        {"": "empty key", "nul": "a\0b", "quote": "\"'\\", "lines": "\r\n\t\u2028"},
    ],
)
def test_metadata_comes_back_as_it_was(kb, metadata):
    document_id = kb.add_document("text", metadata)
    assert kb.get_document(document_id).metadata == metadata
    assert kb.search("text")[0].metadata == metadata
    assert kb.list_documents()[0].metadata == metadata


def test_metadata_that_is_no_json_object_is_refused_by_name(kb):
    cyclic = {}
    cyclic["self"] = cyclic
    for wrong, error in [
        ("text", TypeError),
        (["a"], TypeError),
        (1, TypeError),
        ({1: "a"}, TypeError),
        ({"a": {None: 1}}, TypeError),
        ({"a": [{2: 1}]}, TypeError),
        ({"a": {1, 2}}, TypeError),
        ({"a": b"bytes"}, TypeError),
        ({"a": float("nan")}, ValueError),
        ({"a": float("inf")}, ValueError),
        (cyclic, ValueError),
    ]:
        with pytest.raises(error, match="metadata"):
            kb.add_document("x", wrong)
    with pytest.raises(UnicodeEncodeError):
        kb.add_document("x", {"a": "\ud800"})
    assert kb.count() == 0


def test_metadata_that_changes_while_it_is_read_is_read_or_refused():
    made = []

    class Clearing(list):
        def __getitem__(self, index):
            outer.clear()
            outer.update((str(i), [i]) for i in range(100))
            return super().__getitem__(index)

        def __len__(self):
            return 1_000_000_000

        def __iter__(self):
            held = list.__getitem__(self, slice(None))
            outer.clear()
            return iter(held)

    class Items(dict):
        def items(self):
            outer.clear()
            made.append([("a", ["kept"] * 50), ("b", {"c": 1})])
            return made[-1]

    class NoPairs(dict):
        def items(self):
            return [("a", 1), ("b",)] if made else [("a", 1)]

    class Endless(dict):
        asked = 0

        def items(self):
            Endless.asked += 1
            return [("a", 1)] if Endless.asked < 2 else [("a", self)]

    for _ in range(20):
        outer = {}
        outer.update(a=Clearing([1, 2, 3, 4]), b=[Clearing([{}])], c={"d": Clearing([])})
        kept = memalloy.Document("x", metadata=outer).metadata
        assert kept["a"] == [1, 2, 3, 4] and kept["b"] == [[{}]]
        outer = {"x": Items(a=1), "y": [1, 2, 3]}
        assert memalloy.Document("x", metadata=outer).metadata["x"] == {"a": ["kept"] * 50, "b": {"c": 1}}
    with pytest.raises((TypeError, ValueError), match="metadata"):
        memalloy.Document("x", metadata={"a": NoPairs(b=1)})
    with pytest.raises(RecursionError):
        memalloy.Document("x", metadata={"a": Endless(b=1)})


def test_metadata_beyond_what_every_reader_takes_is_refused(kb):
    with pytest.raises(memalloy.InvalidArgumentError, match="metadata"):
        kb.add_document("x", {"nul\0key": 1})
    with pytest.raises(memalloy.LimitError, match="1048576"):
        kb.add_document("x", {"a": "x" * 2**20})
    for number in (2**63 - 1, 2**64, -(10**40)):
        assert kb.get_document(kb.add_document("x", {"a": number})).metadata == {"a": number}


def test_metadata_of_a_document_is_parsed_once(kb):
    document = kb.get_document(kb.add_document("x", {"a": 1}))
    assert document.metadata is document.metadata


def test_listing_pages_through_the_ids(kb):
    ids = sorted(kb.add_document(f"text {i}", document_id=f"d{i:02}") for i in range(10))
    assert [document.id for document in kb.list_documents()] == ids
    assert [document.id for document in kb.list_documents(limit=3)] == ids[:3]
    assert [document.id for document in kb.list_documents(3, ids[2])] == ids[3:6]
    assert [document.id for document in kb.list_documents(after="d055")] == ids[6:]
    assert kb.list_documents(after=ids[-1]) == []
    assert kb.list_documents(limit=0) == []
    assert len(kb.list_documents(limit=2**63 - 1)) == 10
    with pytest.raises(memalloy.InvalidArgumentError, match="limit"):
        kb.list_documents(limit=-1)


def test_listed_documents_read_their_content_when_asked(kb):
    kb.add_document("early", document_id="a")
    kb.add_document("late", document_id="b")
    first, second = kb.list_documents()
    assert first.byte_count == 5 and first.chunk_count == 1
    kb.remove_document("b")
    assert first.content == "early"
    with pytest.raises(memalloy.NotFoundError):
        second.content
    kb.remove_document("a")
    assert first.content == "early"


def test_a_listed_document_of_a_closed_store_says_so(tmp_path, model_path):
    with memalloy.open(tmp_path / "kb") as store:
        store.add_document("x")
        document = store.list_documents()[0]
    with pytest.raises(memalloy.ClosedError):
        document.content


def test_documents_know_when_they_were_made(kb):
    before = datetime.datetime.now(datetime.timezone.utc)
    document = kb.get_document(kb.add_document("x"))
    after = datetime.datetime.now(datetime.timezone.utc)
    slack = datetime.timedelta(milliseconds=50)
    assert before - slack <= document.created_at <= after + slack
    assert document.updated_at >= document.created_at


def test_times_that_are_not_there_or_beyond_every_calendar_are_none(tmp_path):
    lancedb = pytest.importorskip("lancedb")
    pyarrow = pytest.importorskip("pyarrow")
    with memalloy.open(tmp_path / "kb", dim=2) as store:
        store.add_vectors(["ours"], [[1.0, 0]], ids=["ours"])
    table = lancedb.connect(tmp_path / "kb").open_table("documents")
    times = pyarrow.array([None, 2**62, 1_000_000], pyarrow.timestamp("us"))
    rows = {"id": pyarrow.array(["none", "beyond", "early"]), "created_at": times, "updated_at": times}
    nulls = {field.name: pyarrow.nulls(3, field.type) for field in table.schema if field.name not in rows}
    table.add(pyarrow.table({**rows, **nulls}).select(table.schema.names).cast(table.schema))
    with memalloy.open(tmp_path / "kb", dim=2) as store:
        for document in (*store.list_documents(), *map(store.get_document, ("none", "beyond", "early", "ours"))):
            seen = (document.created_at, document.updated_at)
            if document.id == "ours":
                assert all(time.tzinfo is datetime.timezone.utc for time in seen)
            elif document.id == "early":
                assert seen == (datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.timezone.utc),) * 2
            else:
                assert seen == (None, None)


def test_removing_takes_the_document_and_its_passages(kb):
    document_id = kb.add_document("alpha. " * 600)
    other = kb.add_document("beta")
    assert kb.status()["chunks"] > 2
    assert kb.remove_document(document_id) is True
    assert kb.remove_document(document_id) is False
    assert kb.count() == 1
    assert kb.status()["chunks"] == 1
    assert [hit.document.id for hit in kb.search("alpha", 100)] == [other]
    with pytest.raises(KeyError):
        kb.get_document(document_id)


def test_passages_are_the_bytes_that_their_spans_name(kb):
    text = "# Über\n\nErster Absatz.\n\n## 日本語\n\n東京は日本の首都です。" + "😀 wörter. " * 800 + "\n"
    document_id = kb.add_document(text)
    raw = text.encode()
    hits = kb.search("首都", top_k=10_000)
    assert len(hits) > 3
    for hit in hits:
        start, end = hit.spans.bytes
        assert raw[start:end].decode() == hit.content
        first, last = hit.spans.lines
        assert raw[:start].count(b"\n") + 1 == first
        assert first <= last <= text.count("\n") + 1
    spans = sorted(hit.spans.bytes for hit in hits)
    assert spans[0][0] == 0 and spans[-1][1] == len(raw)
    assert all(left[1] == right[0] for left, right in zip(spans, spans[1:]))
    assert kb.get_document(document_id).content == text
    assert any(hit.heading == "Über > 日本語" for hit in hits)


def test_text_with_nul_crlf_and_bom_comes_back_whole(kb):
    for text in ("a\0b", "a\r\nb\r\n", "\ufeffabc", "\n\n x \n\n", "e\u0301\u200b"):
        assert kb.get_document(kb.add_document(text)).content == text


def test_a_file_keeps_its_id(kb, tmp_path):
    path = tmp_path / "note.md"
    path.write_text("# One\n\nfirst version\n")
    document_id = kb.add_file(path, {"kind": "note"})
    path.write_text("# One\n\nsecond version\n")
    assert kb.add_file(str(path), {"kind": "note"}) == document_id
    assert kb.count() == 1
    document = kb.get_document(document_id)
    assert document.content == "# One\n\nsecond version\n"
    assert document.path == str(path)
    assert document.metadata == {"kind": "note"}
    hit = kb.search("version")[0]
    assert hit.path == str(path)
    assert hit.heading == "One"


def test_files_that_are_not_text_are_refused(kb, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_bytes(b"good so far \xff\xfe bad")
    with pytest.raises(memalloy.ParseError, match="UTF-8") as error:
        kb.add_file(path)
    assert isinstance(error.value, ValueError)
    with pytest.raises(FileNotFoundError) as error:
        kb.add_file(tmp_path / "nowhere.txt")
    assert isinstance(error.value, memalloy.MemalloyError)
    assert error.value.errno == 2
    with pytest.raises(memalloy.MemalloyError):
        kb.add_file(tmp_path)
    assert kb.count() == 0
    assert kb.search("good") == []


def test_strategies_change_what_is_added_from_then_on(kb):
    text = "0123456789" * 30
    kb.set_chunking_strategy(memalloy.ChunkingStrategy.fixed(100, 0))
    kb.add_document(text)
    assert kb.status()["chunks"] == 3
    kb.set_chunking_strategy(memalloy.ChunkingStrategy.fixed(50, 0))
    kb.add_document(text)
    assert kb.status()["chunks"] == 9
    for wrong in (None, "fixed", memalloy.ChunkingStrategy):
        with pytest.raises(TypeError, match="strategy"):
            kb.set_chunking_strategy(wrong)


def test_status_can_be_written_as_json(kb):
    kb.add_document("x")
    status = kb.status()
    assert json.loads(json.dumps(status)) == status
    assert status["dim"] == 384
    assert status["model_id"] == "all-MiniLM-L6-v2"
    assert len(status["model_hash"]) == 64
    assert status["documents"] == status["chunks"] == 1
    assert status["read_only"] is False


def test_read_only_writes_nothing(tmp_path, model_path):
    with pytest.raises(memalloy.NotFoundError):
        memalloy.open(tmp_path / "kb", read_only=True)
    assert not (tmp_path / "kb").exists()
    with memalloy.open(tmp_path / "kb") as store:
        document_id = store.add_document("x")
    with memalloy.open(tmp_path / "kb", read_only=True) as store:
        assert store.count() == 1
        assert store.search("x")[0].document.id == document_id
        for write in (
            lambda: store.add_document("y"),
            lambda: store.remove_document(document_id),
            lambda: store.sync(tmp_path),
        ):
            with pytest.raises(memalloy.ReadOnlyError):
                write()
        assert store.status()["read_only"] is True


def test_opening_alone_makes_no_folder(tmp_path, model_path):
    with memalloy.open(tmp_path / "a" / "b") as store:
        assert store.count() == 0
        assert not (tmp_path / "a").exists()
        store.add_document("x")
    assert (tmp_path / "a" / "b" / "documents.lance").is_dir()


def test_a_closed_store_refuses_everything(tmp_path, model_path):
    store = memalloy.open(tmp_path / "kb")
    assert store.closed is False
    with store as same:
        assert same is store
    assert store.closed is True
    store.close()
    for call in (
        lambda: store.add_document("x"),
        lambda: store.add_file(tmp_path),
        lambda: store.add_vectors(["x"], [[1.0]]),
        lambda: store.sync(tmp_path),
        lambda: store.search("x"),
        lambda: store.search_vector([1.0]),
        lambda: store.get_document("x"),
        lambda: store.list_documents(),
        lambda: store.remove_document("x"),
        lambda: store.count(),
        lambda: store.status(),
        lambda: store.set_chunking_strategy(memalloy.ChunkingStrategy.fixed()),
        lambda: store.__enter__(),
    ):
        with pytest.raises(memalloy.ClosedError) as error:
            call()
        assert isinstance(error.value, ValueError)


def test_a_subclass_may_have_its_own_init(tmp_path, model_path):
    class Notes(memalloy.RAGKernel):
        def __init__(self, where):
            super().__init__(where, chunk_size=200)
            self.extra = 1

    with Notes(tmp_path / "kb") as store:
        store.add_document("x")
        assert store.extra == 1 and store.count() == 1


def test_a_kernel_is_opened_once(tmp_path, model_path):
    with memalloy.RAGKernel(tmp_path / "kb") as store:
        with pytest.raises(memalloy.InvalidArgumentError, match="open already"):
            store.__init__(tmp_path / "other")
    never = memalloy.RAGKernel.__new__(memalloy.RAGKernel)
    with pytest.raises(memalloy.ClosedError):
        never.count()
    never.close()


def test_documents_can_be_made_and_pickled():
    document = memalloy.Document("text", {"a": [1]}, id="x", path="/p")
    assert (document.id, document.content, document.metadata, document.path) == ("x", "text", {"a": [1]}, "/p")
    again = pickle.loads(pickle.dumps(document))
    assert (again.id, again.content, again.metadata, again.path) == ("x", "text", {"a": [1]}, "/p")
    fresh = memalloy.Document("text")
    assert fresh.metadata == {} and fresh.id != memalloy.Document("text").id
    assert fresh.created_at is None
    for wrong in (lambda: memalloy.Document(1), lambda: memalloy.Document("a", "b"), lambda: memalloy.Document("a", {1: 2})):
        with pytest.raises(TypeError):
            wrong()


def test_arguments_of_the_wrong_type_are_refused_by_name(kb, tmp_path):
    for call, name in [
        (lambda: kb.add_document(b"x"), "content"),
        (lambda: kb.add_document(None), "content"),
        (lambda: kb.add_document("x", document_id=5), "document_id"),
        (lambda: kb.add_file(5), "path"),
        (lambda: kb.search(b"x"), "query"),
        (lambda: kb.search("x", top_k="5"), "top_k"),
        (lambda: kb.search("x", top_k=1.0), "top_k"),
        (lambda: kb.get_document(5), "document_id"),
        (lambda: kb.remove_document(None), "document_id"),
        (lambda: kb.list_documents(limit="1"), "limit"),
        (lambda: kb.list_documents(after=1), "after"),
        (lambda: kb.sync(tmp_path, include="*.md"), "include"),
        (lambda: kb.sync(tmp_path, exclude=[1]), r"exclude\[0\]"),
        (lambda: kb.sync(tmp_path, progress=5), "progress"),
        (lambda: kb.sync(tmp_path, max_file_bytes="1"), "max_file_bytes"),
        (lambda: memalloy.open(5), "path"),
        (lambda: memalloy.open(tmp_path, model=5), "model"),
        (lambda: memalloy.open(tmp_path, chunking="fixed"), "chunking"),
        (lambda: memalloy.open(tmp_path, lock_timeout="1"), "lock_timeout"),
        (lambda: memalloy.RAGKernel(tmp_path, chunk_size="5"), "chunk_size"),
        (lambda: memalloy.tokenize(5), "text"),
        (lambda: memalloy.embed("text"), "texts"),
        (lambda: memalloy.embed([1]), r"texts\[0\]"),
    ]:
        with pytest.raises(TypeError, match=f"^{name} "):
            call()


def test_numbers_out_of_range_are_refused_by_value_and_limit(tmp_path):
    for call, words in [
        (lambda: memalloy.open(tmp_path, threads=0), "threads must be at least 1, not 0"),
        (lambda: memalloy.open(tmp_path, dim=0), "dim must be at least 1, not 0"),
        (lambda: memalloy.open(tmp_path, dim=2**40), "dim must be at most"),
        (lambda: memalloy.open(tmp_path, lock_timeout=-1), "lock_timeout must be from 0"),
        (lambda: memalloy.open(tmp_path, lock_timeout=float("nan")), "lock_timeout must be from 0"),
        (lambda: memalloy.RAGKernel(tmp_path, chunk_size=2**70), "chunk_size must be at most"),
    ]:
        with pytest.raises(memalloy.InvalidArgumentError, match=words):
            call()
