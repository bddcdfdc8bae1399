"""memalloy.embed, memalloy.tokenize, ChunkingStrategy."""

import os
import subprocess
import sys

import memalloy
import pytest
from memalloy import _model


def test_vectors_are_float32_of_count_by_dim(model_path):
    vectors = memalloy.embed(["one", "two", "three"])
    assert vectors.shape == (3, 384) and len(vectors) == 3 and vectors.truncated == 0
    view = memoryview(vectors)
    assert (view.format, view.shape, view.itemsize, view.ndim) == ("f", (3, 384), 4, 2)
    assert view.contiguous and view.nbytes == 3 * 384 * 4
    for row in vectors.tolist():
        assert sum(x * x for x in row) == pytest.approx(1.0, abs=1e-5)
    assert vectors[0] == vectors[-3] == vectors.tolist()[0]
    assert vectors[1:] == vectors.tolist()[1:] and vectors[::-2] == vectors.tolist()[::-2]
    assert [row for row in vectors] == vectors.tolist()
    for wrong, error in [(3, IndexError), (-4, IndexError), (2**80, IndexError), ("a", TypeError), (1.0, TypeError)]:
        with pytest.raises(error):
            vectors[wrong]


def test_numpy_shares_the_memory(model_path):
    numpy = pytest.importorskip("numpy")
    vectors = memalloy.embed(["one", "two"])
    matrix = numpy.asarray(vectors)
    assert matrix.dtype == numpy.float32 and matrix.shape == (2, 384)
    assert numpy.shares_memory(matrix, numpy.asarray(vectors))
    rows = vectors.tolist()
    del vectors
    assert matrix.tolist() == rows


def test_nothing_gives_no_rows(model_path):
    vectors = memalloy.embed([])
    assert vectors.shape == (0, 384) and vectors.tolist() == [] and memoryview(vectors).nbytes == 0


def test_a_vector_does_not_depend_on_the_texts_beside_it(model_path):
    texts = ["short", "a longer text " * 30, "", "日本語", "x" * 5000, "a b c"] * 60
    together = memalloy.embed(texts).tolist()
    assert together == memalloy.embed(tuple(reversed(texts))).tolist()[::-1]
    for i in range(6):
        assert memalloy.embed([texts[i]]).tolist()[0] == together[i]


def test_a_long_text_is_cut_off_and_counted(model_path):
    vectors = memalloy.embed(["word " * 300, "short", "word " * 254, "word " * 255])
    assert vectors.truncated == 2
    assert vectors[0] == vectors[2]


def test_tokens_are_the_models(model_path):
    assert memalloy.tokenize("hello world") == [7592, 2088]
    assert memalloy.tokenize("hello world", special_tokens=True) == [101, 7592, 2088, 102]
    assert memalloy.tokenize("") == [] and memalloy.tokenize("", True) == [101, 102]
    assert memalloy.tokenize("HÉLLO") == memalloy.tokenize("hello")
    assert len(memalloy.tokenize("word " * 10_000)) == 10_000
    assert memalloy.tokenize("a\0b") == memalloy.tokenize("ab")


def test_chunks_cover_the_text(model_path):
    text = "# One\n\nFirst. Second.\n\n## Two\n\n" + "A sentence here. " * 300 + "\n\n終わり。"
    for strategy in (
        memalloy.ChunkingStrategy.heading(),
        memalloy.ChunkingStrategy.heading(64, 0),
        memalloy.ChunkingStrategy.sentence(200, 0),
        memalloy.ChunkingStrategy.fixed(100, 0),
        memalloy.ChunkingStrategy.token(50, 0),
    ):
        chunks = strategy.chunk(text)
        assert "".join(chunks) == text, strategy
        assert len(chunks) > 3
    assert all(len(memalloy.tokenize(chunk)) <= 50 for chunk in memalloy.ChunkingStrategy.token(50, 10).chunk(text))
    assert all(len(chunk) <= 100 for chunk in memalloy.ChunkingStrategy.fixed(100, 20).chunk(text))


def test_a_named_model_splits_what_it_could_not_read(model_path):
    text = "日本語" * 400
    strategy = memalloy.ChunkingStrategy.fixed(1200, 0)
    assert strategy.chunk(text) == [text]
    split = strategy.chunk(text, model=model_path)
    assert len(split) > 1 and "".join(split) == text


def test_strategies_are_values():
    fixed = memalloy.ChunkingStrategy.fixed
    assert fixed() == fixed(500, 50) == fixed(chunk_size=500, overlap=50) == fixed(None, None)
    assert fixed(100, 0) != fixed(100, 1) and fixed() != memalloy.ChunkingStrategy.sentence()
    assert len({fixed(), fixed(500, 50), fixed(100, 0)}) == 2
    assert repr(fixed(10, 2)) == "ChunkingStrategy.fixed(chunk_size=10, overlap=2)"
    strategy = memalloy.ChunkingStrategy.token(100, 5)
    assert (strategy.kind, strategy.chunk_size, strategy.overlap) == ("token", 100, 5)
    with pytest.raises(AttributeError):
        strategy.overlap = 6
    with pytest.raises(TypeError):
        memalloy.ChunkingStrategy()
    assert fixed() != 5


def test_a_missing_model_is_named(tmp_path):
    for call in (
        lambda: memalloy.embed(["x"], model=tmp_path / "none"),
        lambda: memalloy.tokenize("x", model=str(tmp_path / "none")),
        lambda: memalloy.ChunkingStrategy.token().chunk("x", model=os.fsencode(tmp_path / "none")),
    ):
        with pytest.raises(memalloy.ModelError, match="none"):
            call()


def test_without_any_model_the_error_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.delenv("MEMALLOY_MODEL", raising=False)
    monkeypatch.setattr(_model, "_INSIDE", "nowhere.safetensors")
    assert _model.default_path() is None
    calls = [lambda: memalloy.embed(["x"]), lambda: memalloy.open(tmp_path / "kb").add_document("x")]
    for call in calls:
        with pytest.raises(memalloy.ModelError, match="make model.*MEMALLOY_MODEL"):
            call()


def test_a_damaged_model_is_refused(tmp_path, model_path):
    with open(model_path, "rb") as file:
        good = file.read()
    for name, bad in [("empty", b""), ("short", good[:1000]), ("half", good[: len(good) // 2]), ("noise", b"\xff" * 4096)]:
        path = tmp_path / name
        path.write_bytes(bad)
        with pytest.raises(memalloy.MemalloyError) as error:
            memalloy.embed(["x"], model=path)
        assert isinstance(error.value, (memalloy.ModelError, memalloy.CorruptError))


def test_the_variable_names_the_model(tmp_path, model_path):
    code = "import memalloy; print(memalloy.embed(['x']).shape)"
    env = {**os.environ, "MEMALLOY_MODEL": str(tmp_path / "nowhere")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "ModelError" in done.stderr and "nowhere" in done.stderr
    for value in (str(model_path), ""):
        env["MEMALLOY_MODEL"] = value
        assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True) == "(1, 384)\n"


def test_many_models_do_not_pile_up(tmp_path, model_path):
    for i in range(8):
        link = tmp_path / f"model-{i}"
        link.symlink_to(model_path)
        assert memalloy.embed(["x"], model=link)[0] == memalloy.embed(["x"])[0]
    with open("/proc/self/maps") as maps:
        mapped = {line.split()[0] for line in maps if "all-minilm" in line}
    assert len(mapped) <= 3 * 6
