"""What a caller may ask of a store beside its work: how durable, how much memory, many documents at once."""

import inspect
import itertools
import os
import stat
import subprocess
import sys
import textwrap

import memalloy
import pytest

LEVELS = ["full", "normal", "off"]
WRITING = ["add_document", "add_file", "add_documents", "add_vectors", "sync", "remove_document", "update_metadata"]


def add_one(store, **options):
    return store.add_vectors(["a text"], [[1.0, 0, 0, 0, 0, 0]], **options)[0]


# ---- durability ----


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_what_is_acknowledged_is_there_after_a_close_at_every_level(tmp_path, level):
    with memalloy.open(tmp_path / "kb", dim=6, durability=level) as kb:
        made = add_one(kb)
        assert kb.count() == 1
    with memalloy.open(tmp_path / "kb", dim=6, read_only=True) as kb:
        assert kb.get_document(made).content == "a text"


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_every_writing_call_takes_a_durability(kb, folder, level):
    first = kb.add_document("one", durability=level)
    kb.add_file(folder / "tea.md", durability=level)
    many = kb.add_documents(["two", ("three", {"n": 3})], durability=level)
    kb.sync(folder, durability=level)
    assert kb.remove_document(first, durability=level)
    assert kb.count() == 5
    assert len(many) == 2
    kb.flush()
    kb.checkpoint()


def test_every_writing_call_names_a_durability_that_it_does_not_know(kb):
    for name in WRITING:
        method = getattr(kb, name)
        given = [parameter for parameter in inspect.signature(method).parameters.values() if parameter.default is parameter.empty]
        arguments = [{} if parameter.name == "metadata" else "x" for parameter in given]
        with pytest.raises(memalloy.InvalidArgumentError, match="durability must be 'full', 'normal', 'off' or 'memory', not 'fast'"):
            method(*arguments, durability="fast")
        with pytest.raises(TypeError, match="durability must be a str or None, not int"):
            method(*arguments, durability=1)
    assert kb.count() == 0


def test_a_store_is_not_opened_with_a_durability_that_has_no_name(tmp_path):
    with pytest.raises(ValueError, match="durability must be"):
        memalloy.open(tmp_path / "kb", durability="")
    with pytest.raises(ValueError, match="durability must be"):
        memalloy.RAGKernel(tmp_path / "kb", durability="FULL")
    assert not (tmp_path / "kb").exists()


def test_a_closed_store_neither_flushes_nor_checkpoints(vectors):
    vectors.close()
    for method in (vectors.flush, vectors.checkpoint):
        with pytest.raises(memalloy.ClosedError):
            method()


def test_a_checkpoint_is_seen_by_other_programs(tmp_path):
    lancedb = pytest.importorskip("lancedb")
    with memalloy.open(tmp_path / "kb", dim=6) as kb:
        add_one(kb)
        kb.checkpoint()
        assert lancedb.connect(str(tmp_path / "kb")).open_table("chunks").count_rows() == 1


def test_files_are_private_whatever_the_umask(tmp_path):
    old = os.umask(0)
    try:
        with memalloy.open(tmp_path / "kb", dim=6) as kb:
            add_one(kb)
            kb.checkpoint()
            add_one(kb)
    finally:
        os.umask(old)
    for root, folders, files in os.walk(tmp_path / "kb"):
        assert all(stat.S_IMODE(os.stat(os.path.join(root, each)).st_mode) == 0o700 for each in folders)
        assert all(stat.S_IMODE(os.stat(os.path.join(root, each)).st_mode) == 0o600 for each in files)


def test_a_store_that_ended_well_has_nothing_to_report(tmp_path):
    for _ in range(2):
        with memalloy.open(tmp_path / "kb", dim=6) as kb:
            assert kb.open_report == {"records": 0, "dropped_bytes": 0, "kept": False, "reason": ""}
            add_one(kb)
    with pytest.raises(memalloy.ClosedError):
        _ = kb.open_report


# ---- memory ----


def test_a_memory_limit_is_an_error_and_not_growth(tmp_path):
    limit = 4 << 20
    with memalloy.open(tmp_path / "kb", dim=6, memory_limit=limit) as kb:
        made = add_one(kb)
        row = [[1.0, 2, 3, 4, 5, 6]]
        with pytest.raises(memalloy.OutOfMemoryError, match=f"the memory limit is {limit} bytes, of which [0-9]+ are in use"):
            kb.add_vectors(["word " * (1 << 20)], row)
        with pytest.raises(MemoryError):
            kb.add_vectors(["x" * 100] * 50000, row * 50000)
        assert kb.count() == 1
        assert kb.get_document(made).content == "a text"
        assert add_one(kb) != made
    with memalloy.open(tmp_path / "kb", dim=6) as kb:
        assert kb.count() == 2


def test_results_outlive_the_store_whose_memory_is_limited(tmp_path):
    kb = memalloy.open(tmp_path / "kb", dim=6, memory_limit=64 << 20)
    add_one(kb)
    hits = kb.search_vector([1, 0, 0, 0, 0, 0])
    listed = kb.list_documents()
    kb.close()
    assert hits[0].content == "a text"
    assert len(listed) == 1


def test_a_limit_that_nothing_fits_in_is_told_at_once(tmp_path):
    with pytest.raises(memalloy.OutOfMemoryError, match="the memory limit is 1 bytes"):
        memalloy.open(tmp_path / "kb", memory_limit=1)
    with pytest.raises(memalloy.InvalidArgumentError, match="memory_limit"):
        memalloy.open(tmp_path / "kb", memory_limit=0)
    with pytest.raises(TypeError, match="memory_limit"):
        memalloy.open(tmp_path / "kb", memory_limit="1G")


# ---- many documents ----


def test_documents_come_from_any_iterable_in_their_order(kb):
    given = memalloy.Document("third", {"n": 3}, id="mine")
    made = kb.add_documents(iter(["first", ("second", {"n": 2}), given, ("fourth", None, "four"), ("fifth",)]))
    assert len(made) == 5
    assert made[2:4] == ["mine", "four"]
    assert [kb.get_document(each).content for each in made] == ["first", "second", "third", "fourth", "fifth"]
    assert kb.get_document(made[1]).metadata == {"n": 2}
    assert kb.get_document("mine").metadata == {"n": 3}
    assert kb.add_documents([]) == []


def test_documents_of_one_store_go_into_another(kb, tmp_path):
    made = kb.add_documents([("one", {"a": 1}), "two"])
    with memalloy.open(tmp_path / "other") as other:
        assert other.add_documents(kb.list_documents()) == sorted(made)
        assert other.get_document(made[0]).metadata == {"a": 1}


def test_an_id_that_comes_again_replaces_what_came_before(kb):
    assert kb.add_documents([("one", None, "x"), ("two", None, "y"), ("three", None, "x")]) == ["x", "y", "x"]
    assert kb.get_document("x").content == "three"
    assert kb.count() == 2


def test_an_endless_generator_is_stored_as_it_comes(kb):
    seen = []

    def texts():
        for number in itertools.count():
            if number == 600:
                seen.append(kb.count())
                raise RuntimeError("the source broke")
            yield f"text {number}"

    with pytest.raises(RuntimeError, match="the source broke"):
        kb.add_documents(texts())
    assert seen == [512]
    assert kb.count() == 512


@pytest.mark.parametrize(
    ("documents", "error", "message"),
    [
        ("one text", TypeError, "documents must be an iterable of documents, not str"),
        ({"a": "b"}, TypeError, "documents must be an iterable of documents, not dict"),
        (7, TypeError, "not iterable"),
        (["a", 7], TypeError, r"documents\[1\] must be a str, a Document or a tuple"),
        (["a", ()], TypeError, r"documents\[1\] must be"),
        ([("a", {}, "id", 4)], TypeError, r"documents\[0\] must be"),
        ([("a", [1])], TypeError, r"documents\[0\] must be a dict or None"),
        ([(None, {})], TypeError, r"documents\[0\] must be a str"),
        ([("a", None, 5)], TypeError, r"documents\[0\] must be a str"),
        ([("a", None, "")], ValueError, "document id"),
        (["a", "\ud800"], UnicodeEncodeError, r"documents\[1\]|surrogates"),
    ],
)
def test_documents_that_are_none_are_named_and_nothing_is_stored(kb, documents, error, message):
    with pytest.raises(error, match=message):
        kb.add_documents(documents)
    assert kb.count() == 0


def test_memory_stays_bounded_however_many_documents_come(tmp_path):
    """In a process of its own: more text passes through a store than it may hold."""
    program = textwrap.dedent(
        f"""
        import memalloy
        with memalloy.open({str(tmp_path / "kb")!r}, memory_limit=40 << 20, threads=1) as kb:
            kb.add_documents(("word " * 2000, {{"n": n}}, "id") for n in range(300))
            assert kb.count() == 1
            made = kb.add_documents("%d %s" % (n, "word " * 20) for n in range(600))
            assert kb.count() == 601, kb.count()
            assert len(set(made)) == 600
        """
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


# ---- metadata ----


def test_metadata_is_changed_and_nothing_else(kb):
    made = kb.add_document("The boiler is serviced in May.", {"by": "Ada"})
    before = kb.get_document(made)
    score = kb.search("boiler")[0].score
    kb.update_metadata(made, {"by": "Grace", "n": 1})
    after = kb.get_document(made)
    assert after.metadata == {"by": "Grace", "n": 1}
    assert (after.content, after.created_at, after.altered) == (before.content, before.created_at, False)
    assert after.updated_at > before.updated_at
    hit = kb.search("boiler")[0]
    assert (hit.metadata, hit.score) == ({"by": "Grace", "n": 1}, score)
    kb.checkpoint()
    assert kb.get_document(made).metadata == {"by": "Grace", "n": 1}


def test_metadata_of_what_is_not_there_is_not_found(kb, tmp_path):
    with pytest.raises(memalloy.NotFoundError):
        kb.update_metadata("nobody", {})
    assert not (tmp_path / "kb").exists()
    with pytest.raises(TypeError, match="metadata must be a dict, not NoneType"):
        kb.update_metadata("nobody", None)
    with pytest.raises(TypeError, match="metadata"):
        kb.update_metadata("nobody", {1: 2})


# ---- verify ----


def largest_file(folder):
    files = [os.path.join(root, each) for root, _, names in os.walk(folder) for each in names]
    return max(files, key=os.path.getsize)


def test_verify_reads_every_file_and_finds_nothing_where_all_is_well(tmp_path):
    with memalloy.open(tmp_path / "kb", dim=6) as kb:
        assert kb.verify() == {"files": 0, "bytes": 0, "without_sums": 0, "damaged": []}
        add_one(kb)
        in_the_log = kb.verify()
        kb.checkpoint()
        in_tables = kb.verify()
    assert in_the_log["damaged"] == in_tables["damaged"] == []
    assert in_tables["files"] >= 4
    assert in_tables["bytes"] >= os.path.getsize(largest_file(tmp_path / "kb" / "chunks.lance" / "data"))


def test_verify_names_a_file_that_was_damaged(tmp_path):
    with memalloy.open(tmp_path / "kb", dim=6) as kb:
        add_one(kb)
    with memalloy.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.verify()["damaged"] == []
        damaged = largest_file(tmp_path / "kb" / "chunks.lance" / "data")
        with open(damaged, "r+b") as file:
            file.seek(-20, os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-20, os.SEEK_END)
            file.write(bytes([byte ^ 1]))
        [(path, reason)] = kb.verify()["damaged"]
        assert path == damaged
        assert reason
