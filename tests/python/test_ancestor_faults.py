"""Every fault that was found in memalloy 0.1.0 (the table of its probes), one by one: none is left."""

import os
import resource
import subprocess
import sys
import textwrap
import time

import memalloy
import pytest


def test_its_names_still_work():
    assert memalloy.PyDocument is memalloy.Document
    assert memalloy.PyChunkingStrategy is memalloy.ChunkingStrategy
    document = memalloy.PyDocument("text", {"a": "b"})
    assert document.content == "text" and document.metadata == {"a": "b"} and len(document.id) == 36
    chunks = memalloy.PyChunkingStrategy.fixed(10, 2).chunk("hello world this is a text")
    assert chunks == ["hello worl", "rld this i", " is a text"]


def test_sentence_chunks_do_not_triple_the_text():
    text = "".join(f"This is sentence number {i} of a longer text. " for i in range(200))
    chunks = memalloy.ChunkingStrategy.sentence(500, 0).chunk(text)
    assert "".join(chunks) == text
    assert max(map(len, chunks)) <= 500
    overlapped = memalloy.ChunkingStrategy.sentence(500, 50).chunk(text)
    assert len(text) <= sum(map(len, overlapped)) <= 1.15 * len(text)
    assert max(map(len, overlapped)) <= 500


def test_sync_stores_the_content_of_files(kb, folder):
    kb.sync(folder)
    for path in folder.rglob("*.*"):
        hits = kb.search(path.read_text(), top_k=1)
        assert hits[0].content == path.read_text()


def test_sync_in_a_new_process_makes_no_duplicates(tmp_path, folder, model_path):
    code = "import sys, memalloy\nwith memalloy.open(sys.argv[1]) as kb: print(kb.sync(sys.argv[2]).added, kb.count())"
    counts = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "kb", folder], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert counts == [["3", "3"], ["0", "3"]]


def test_rows_of_changed_deleted_and_renamed_files_go(kb, folder):
    kb.sync(folder)
    (folder / "tea.md").write_text("# Tea\n\nBlack tea takes four minutes.\n")
    (folder / "bike.txt").unlink()
    (folder / "deep" / "bread.md").rename(folder / "bread.md")
    kb.sync(folder)
    contents = sorted(hit.content for hit in kb.search("tea", 100))
    assert contents == [
        "# Bread\n\nThe dough rests over night in the cold.\n",
        "# Tea\n\nBlack tea takes four minutes.\n",
    ]


def test_many_short_adds_are_all_found(vectors):
    for i in range(60):
        vectors.add_vectors([f"text {i}"], [[1.0 + i, 1, 1, 1, 1, 1]])
    assert len(vectors.search_vector([1, 1, 1, 1, 1, 1], 100)) == 60


def test_list_documents_lists(kb):
    kb.add_document("a", document_id="a")
    assert [document.content for document in kb.list_documents()] == ["a"]


def test_removing_an_unknown_id_is_false(kb):
    kb.add_document("a")
    assert kb.remove_document("no such id") is False
    assert kb.count() == 1


def test_an_id_is_never_a_filter(kb):
    for i in range(3):
        kb.add_document(f"text {i}", document_id=f"d{i}")
    for hostile in ("x' OR '1'='1", "d0' --", "'; DROP TABLE chunks; --", "d%", "*", "d0\0"):
        assert kb.remove_document(hostile) is False
    assert kb.count() == 3
    assert kb.status()["chunks"] == 3


def test_count_counts_documents(kb):
    kb.add_document("word " * 3000)
    assert kb.count() == 1
    assert kb.status()["chunks"] > 1


def test_the_chunking_strategy_has_an_effect(kb):
    text = "word " * 200
    kb.set_chunking_strategy(memalloy.ChunkingStrategy.fixed(100, 0))
    kb.add_document(text, document_id="a")
    assert kb.status()["chunks"] == 10


def test_fixed_chunks_of_cjk_and_emoji_break_between_characters(kb):
    for text in ("日本語" * 700, "😀👩‍👩‍👧‍👦" * 500, "é" * 1999):
        chunks = memalloy.ChunkingStrategy.fixed(100, 0).chunk(text)
        assert "".join(chunks) == text
        assert max(map(len, chunks)) <= 100
    kb.set_chunking_strategy(memalloy.ChunkingStrategy.fixed(500, 50))
    document_id = kb.add_document("日本語" * 700)
    assert kb.get_document(document_id).content == "日本語" * 700


def test_cjk_without_spaces_is_not_one_chunk(kb):
    text = "東京都は日本の首都である" * 500
    document_id = kb.add_document(text)
    hits = kb.search("首都", 1000)
    assert len(hits) > 10
    for hit in hits:
        assert len(memalloy.tokenize(hit.content, special_tokens=True)) <= 256
    assert kb.get_document(document_id).content == text


@pytest.mark.parametrize("kind", ["heading", "sentence", "fixed", "token"])
@pytest.mark.parametrize("size, overlap", [(10, 10), (10, 11), (0, 0), (50, 60), (1, 1), (-1, 0), (10, -1), (0, -5)])
def test_impossible_sizes_name_both_numbers_and_allocate_nothing(kind, size, overlap):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError) as error:
        getattr(memalloy.ChunkingStrategy, kind)(size, overlap)
    assert isinstance(error.value, memalloy.InvalidArgumentError)
    assert str(size) in str(error.value) and str(overlap) in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("size, overlap", [(50, 60), (50, 50), (0, 0), (-1, 0), (50, -1)])
def test_impossible_sizes_of_a_kernel_name_both_numbers(tmp_path, size, overlap):
    with pytest.raises(memalloy.InvalidArgumentError) as error:
        memalloy.RAGKernel(tmp_path / "kb", size, overlap)
    assert str(size) in str(error.value) and str(overlap) in str(error.value)


def test_a_path_that_begins_with_db_is_a_path(tmp_path, monkeypatch, model_path):
    monkeypatch.chdir(tmp_path)
    for path in ("db", "db://x", "dbase"):
        with memalloy.RAGKernel(path) as store:
            store.add_document("x")
            assert store.count() == 1
    assert (tmp_path / "db" / "chunks.lance").is_dir()


def test_a_path_that_is_a_file_is_said_to_be_one(tmp_path, model_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(memalloy.MemalloyError, match="file"):
        with memalloy.RAGKernel(path) as store:
            store.add_document("x")
    assert path.read_text() == "mine"


def test_a_missing_nested_folder_is_made(tmp_path, model_path):
    with memalloy.RAGKernel(tmp_path / "a" / "b" / "c") as store:
        store.add_document("x")
    assert (tmp_path / "a" / "b" / "c" / "documents.lance").is_dir()


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t \u3000\n", "\0"])
def test_blank_contents_are_stored_or_refused_but_never_lost(kb, blank):
    document_id = kb.add_document(blank)
    assert kb.count() == 1
    assert kb.get_document(document_id).content == blank
    assert [document.id for document in kb.list_documents()] == [document_id]
    assert kb.remove_document(document_id) is True
    assert kb.count() == 0


def test_top_k_zero_negative_and_huge_are_told_the_limit(kb):
    kb.add_document("x")
    for top_k in (0, -1, -(2**70)):
        with pytest.raises(ValueError, match=f"top_k must be at least 1, not {top_k}"):
            kb.search("x", top_k)
    with pytest.raises(ValueError, match=f"not {2**64}"):
        kb.search("x", 2**64)
    assert len(kb.search("x", 2**40)) == 1


def test_a_query_of_20000_words_is_answered(kb):
    kb.add_document("a short text")
    assert len(kb.search("word " * 20_000)) == 1


def test_lone_surrogate_nul_and_bytes(kb):
    with pytest.raises(UnicodeEncodeError, match="content"):
        kb.add_document("a\ud800b")
    with pytest.raises(UnicodeEncodeError, match="query"):
        kb.search("a\ud800b")
    with pytest.raises(TypeError, match="content must be a str, not bytes"):
        kb.add_document(b"abc")
    assert kb.get_document(kb.add_document("a\0b")).content == "a\0b"
    assert kb.count() == 1


def test_an_invalid_file_is_skipped_with_its_reason_and_not_counted(kb, folder, capfd):
    (folder / "bad.txt").write_bytes(b"abc\xff\xfe")
    report = kb.sync(folder)
    assert report.added == 3
    assert len(report.skipped) == 1
    path, reason = report.skipped[0]
    assert path.endswith("bad.txt") and "UTF-8" in reason and "3" in reason
    assert kb.count() == 3
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def test_a_missing_folder_is_a_file_not_found_error(kb, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        kb.sync(tmp_path / "nowhere")


def test_symlinks_out_and_hidden_files_are_left_out(kb, folder, tmp_path):
    (tmp_path / "secret.txt").write_text("the secret of the outside")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden.txt").write_text("hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.txt").write_text("hidden too")
    kb.sync(folder)
    assert kb.count() == 3


def test_a_pattern_matches_what_it_says(kb, folder):
    (folder / "UPPER.TXT").write_text("capital letters")
    report = kb.sync(folder, include=["*.txt"])
    assert report.added >= 1
    assert kb.sync(folder, include=["*.md"]).added == 2


def test_two_kernels_of_a_process_see_each_other(tmp_path, model_path):
    with memalloy.RAGKernel(tmp_path / "kb") as one, memalloy.RAGKernel(tmp_path / "kb") as two:
        one.add_document("from one", document_id="1")
        two.add_document("from two", document_id="2")
        assert one.count() == two.count() == 2
        assert len(one.search("from")) == len(two.search("from")) == 2


def test_an_idle_store_uses_no_processor_time(tmp_path, model_path):
    with memalloy.RAGKernel(tmp_path / "kb") as store:
        store.add_document("x")
        store.search("x")
        before = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before < 0.05


def test_everything_is_given_back_at_close(tmp_path, model_path):
    fds = len(os.listdir("/proc/self/fd"))
    for i in range(5):
        with memalloy.RAGKernel(tmp_path / "kb") as store:
            store.add_document(f"text {i}")
            store.search("text")
    assert len(os.listdir("/proc/self/fd")) <= fds + 2


def test_a_kill_loses_no_acknowledged_add(tmp_path, model_path):
    code = textwrap.dedent(
        """
        import sys, memalloy
        kb = memalloy.open(sys.argv[1])
        for i in range(10000):
            print(kb.add_document(f"text {i}"), flush=True)
        """
    )
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "kb"], stdout=subprocess.PIPE, text=True)
        seen = [child.stdout.readline().strip() for _ in range(12)]
        child.kill()
        seen += child.stdout.read().split("\n")[:-1]
        child.stdout.close()
        child.wait()
        with memalloy.open(tmp_path / "kb") as store:
            for document_id in filter(None, seen):
                assert store.get_document(document_id).content.startswith("text ")


def test_ctrl_c_gives_up_a_long_add_and_stores_nothing(tmp_path, model_path):
    code = textwrap.dedent(
        """
        import os, signal, sys, threading, time, memalloy
        kb = memalloy.open(sys.argv[1])
        kb.add_document("before")
        text = "".join(f"Sentence number {i} of a text that is very long. " for i in range(40_000))
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.perf_counter()
        try:
            kb.add_document(text)
        except KeyboardInterrupt:
            took = time.perf_counter() - start
        assert kb.count() == 1 and kb.status()["chunks"] == 1
        assert kb.add_document("after")
        print("interrupted", took < 15)
        """
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "kb"], capture_output=True, text=True)
    assert done.stdout == "interrupted True\n", done.stdout + done.stderr
