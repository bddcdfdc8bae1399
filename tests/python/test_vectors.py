"""Ready vectors: add_vectors and search_vector, with and without numpy."""

import array
import math
import threading

import memalloy
import pytest

CONTENTS = ["east", "north", "up"]
ROWS = [[1, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0], [0, 0, 0.5, 0, 0, 0]]


def test_vectors_are_found_by_vectors(vectors):
    ids = vectors.add_vectors(CONTENTS, ROWS, metadata=[{"n": 1}, None, {}], ids=["e", None, "u"])
    assert ids[0] == "e" and ids[2] == "u" and len(ids[1]) == 36
    assert vectors.count() == 3
    hits = vectors.search_vector([1, 1, 0, 0, 0, 0], top_k=3)
    assert [round(hit.score, 5) for hit in hits] == [0.70711, 0.70711, 0.0]
    assert {hit.content for hit in hits[:2]} == {"east", "north"}
    assert vectors.search_vector([3, 0, 0, 0, 0, 0], 1)[0].metadata == {"n": 1}
    assert vectors.get_document("u").content == "up"


def test_every_form_of_the_same_numbers_gives_the_same(vectors, tmp_path):
    numpy = pytest.importorskip("numpy")
    single = numpy.array(ROWS, dtype=numpy.float32)
    wide = numpy.zeros((6, 12), dtype=numpy.float64)
    wide[::2, ::2] = single
    forms = {
        "lists": ROWS,
        "tuples": tuple(map(tuple, ROWS)),
        "float32": single,
        "float64": single.astype(numpy.float64),
        "column-major": numpy.asfortranarray(single),
        "strided": wide[::2, ::2],
        "negative strides": single[::-1][::-1],
        "read-only": memoryview(single).toreadonly(),
        "little-endian": single.astype("<f4"),
        "unaligned": numpy.frombuffer(b"x" + single.tobytes(), dtype=numpy.uint8)[1:].view(numpy.float32).reshape(3, 6),
        "rows of float32": list(single),
        "rows of array": [array.array("d", row) for row in ROWS],
        "memoryview": memoryview(single),
    }
    for name, form in forms.items():
        with memalloy.open(tmp_path / name, dim=6) as store:
            store.add_vectors(CONTENTS, form, ids=CONTENTS)
            hits = store.search_vector(single[1])
            assert [hit.document.id for hit in hits][0] == "north", name
            assert hits[0].score == pytest.approx(1.0, abs=1e-6), name
    vectors.add_vectors(CONTENTS, single)
    assert numpy.array_equal(single, numpy.array(ROWS, dtype=numpy.float32))


def test_queries_take_the_same_forms(vectors):
    numpy = pytest.importorskip("numpy")
    vectors.add_vectors(CONTENTS, ROWS)
    row = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    for form in (
        row, tuple(row), array.array("f", row), array.array("d", row), numpy.array(row), numpy.float32(row),
        numpy.repeat(numpy.float32(row), 2)[::2], iter(row),
    ):
        assert vectors.search_vector(form, 1)[0].content == "north"


def test_a_float32_matrix_is_not_copied_where_nobody_can_write_it(vectors):
    numpy = pytest.importorskip("numpy")
    tracemalloc = pytest.importorskip("tracemalloc")
    rows = numpy.ones((4000, 6), dtype=numpy.float32)
    rows.flags.writeable = False
    contents = ["x"] * 4000
    tracemalloc.start()
    vectors.add_vectors(contents, rows)
    float32_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    vectors.add_vectors(contents, rows.astype(numpy.float64))
    float64_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert float64_peak - float32_peak > 0.8 * rows.nbytes


def test_what_another_thread_writes_into_the_vectors_is_never_stored_unchecked(tmp_path):
    count, dim = 4, 65536
    rows = array.array("f", [1.0]) * (count * dim)
    matrix = memoryview(rows).cast("B").cast("f", (count, dim))
    ids = [str(i) for i in range(count)]
    stop = threading.Event()

    def spoil():
        at = (count - 1) * dim
        while not stop.is_set():
            for _ in range(100):
                rows[at] = math.nan
                rows[at] = 1.0

    with memalloy.open(tmp_path / "kb", dim=dim) as store:
        thread = threading.Thread(target=spoil)
        thread.start()
        try:
            for i in range(100):
                try:
                    store.add_vectors([f"text {i}"] * count, matrix, ids=ids)
                except memalloy.InvalidArgumentError as error:
                    assert "vector 3 " in str(error)
                else:
                    hits = store.search_vector([1.0] * dim, count)
                    assert len(hits) == count and not any(math.isnan(hit.score) for hit in hits)
        finally:
            stop.set()
            thread.join()


def test_wrong_shapes_name_both_numbers(vectors):
    numpy = pytest.importorskip("numpy")
    for contents, rows, words in [
        (["a"], ROWS, "3 rows for 1 contents"),
        (CONTENTS, ROWS[:2], "2 rows for 3 contents"),
        (["a"], [[1, 2, 3]], "3.*6|6.*3"),
        (["a", "b"], [[1, 2], [1]], r"vectors\[1\] has 1 numbers, vectors\[0\] has 2"),
        (["a"], numpy.zeros(6, numpy.float32), "2 dimensions, not 1"),
        (["a"], numpy.zeros((1, 1, 6), numpy.float32), "2 dimensions, not 3"),
        (["a"], numpy.zeros((1, 0), numpy.float32), "0|dim"),
        (["a"], [[]], "0|dim"),
    ]:
        with pytest.raises(memalloy.InvalidArgumentError, match=words):
            vectors.add_vectors(contents, rows)
    for vector in ([1.0] * 5, [1.0] * 7, [], numpy.ones((1, 6), numpy.float32)):
        with pytest.raises(memalloy.InvalidArgumentError):
            vectors.add_vectors(["there"], [[1, 0, 0, 0, 0, 0]])
            vectors.search_vector(vector)


def test_side_lists_are_as_long_as_the_contents(vectors):
    with pytest.raises(memalloy.InvalidArgumentError, match="ids has 2 items for 3 contents"):
        vectors.add_vectors(CONTENTS, ROWS, ids=["a", "b"])
    with pytest.raises(memalloy.InvalidArgumentError, match="metadata has 1 items for 3 contents"):
        vectors.add_vectors(CONTENTS, ROWS, metadata=[{}])
    assert vectors.count() == 0


def test_wrong_types_are_refused_by_place(vectors):
    numpy = pytest.importorskip("numpy")
    good = [[1, 0, 0, 0, 0, 0]]
    for call, words in [
        (lambda: vectors.add_vectors("a", good), "^contents must be a sequence of str, not str"),
        (lambda: vectors.add_vectors([1], good), r"^contents\[0\] must be a str, not int"),
        (lambda: vectors.add_vectors(["a"], [[1, "x", 0, 0, 0, 0]]), r"^vectors\[0\]\[1\] must be a number, not str"),
        (lambda: vectors.add_vectors(["a"], [1]), r"^vectors\[0\] must be a buffer or a sequence of numbers, not int"),
        (lambda: vectors.add_vectors(["a"], 5), "^vectors must be"),
        (lambda: vectors.add_vectors(["a"], b"123456"), "^vectors must be"),
        (lambda: vectors.add_vectors(["a"], numpy.zeros((1, 6), int)), "float32 or float64"),
        (lambda: vectors.add_vectors(["a"], numpy.zeros((1, 6), ">f4")), "float32 or float64"),
        (lambda: vectors.add_vectors(["a"], numpy.zeros((1, 6), object)), "float32 or float64"),
        (lambda: vectors.add_vectors(["a"], good, ids=[1]), r"^ids\[0\] must be"),
        (lambda: vectors.add_vectors(["a"], good, ids="a"), "^ids must be"),
        (lambda: vectors.add_vectors(["a"], good, metadata={"a": 1}), "^metadata must be"),
        (lambda: vectors.add_vectors(["a"], good, metadata=[{1: 1}]), r"^metadata\[0\]"),
        (lambda: vectors.search_vector("abcdef"), "^vector must be"),
        (lambda: vectors.search_vector([1, 2, None, 4, 5, 6]), r"^vector\[2\] must be a number, not NoneType"),
        (lambda: vectors.search_vector(bytearray(24)), "^vector must be"),
    ]:
        with pytest.raises(TypeError, match=words):
            call()
    assert vectors.count() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(vectors, bad):
    with pytest.raises(memalloy.InvalidArgumentError):
        vectors.add_vectors(["a", "b"], [[1, 0, 0, 0, 0, 0], [1, bad, 0, 0, 0, 0]])
    assert vectors.count() == 0
    vectors.add_vectors(["a"], [[1, 0, 0, 0, 0, 0]])
    with pytest.raises(memalloy.InvalidArgumentError):
        vectors.search_vector([bad, 0, 0, 0, 0, 0])


def test_a_vector_of_zeros_has_no_direction(vectors):
    with pytest.raises(memalloy.InvalidArgumentError, match="zero"):
        vectors.add_vectors(["a", "b"], [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert vectors.count() == 0


def test_nothing_to_add_adds_nothing(vectors):
    assert vectors.add_vectors([], []) == []
    assert vectors.count() == 0


def test_an_id_twice_in_one_call_leaves_one_document_or_none(vectors):
    try:
        vectors.add_vectors(["a", "b"], ROWS[:2], ids=["x", "x"])
    except memalloy.InvalidArgumentError:
        assert vectors.count() == 0
    else:
        assert vectors.count() == 1
        assert len(vectors.search_vector([1, 1, 1, 1, 1, 1], 10)) == 1


def test_ids_are_replaced(vectors):
    vectors.add_vectors(CONTENTS, ROWS, ids=CONTENTS)
    vectors.add_vectors(["west"], [[-1, 0, 0, 0, 0, 0]], ids=["east"])
    assert vectors.count() == 3
    assert vectors.get_document("east").content == "west"
    assert len(vectors.search_vector([1, 0, 0, 0, 0, 0], 10)) == 3


def test_the_dimension_is_the_stores(tmp_path, vectors):
    vectors.add_vectors(["a"], [[1, 0, 0, 0, 0, 0]])
    vectors.close()
    with pytest.raises(memalloy.MemalloyError, match="6"):
        memalloy.open(tmp_path / "vectors", dim=7).add_vectors(["a"], [[1] * 7])
    with memalloy.open(tmp_path / "vectors", dim=6) as store:
        assert store.status()["dim"] == 6


@pytest.mark.parametrize("dim", [1, 3, 16, 385, 1536, 4096])
def test_any_dimension(tmp_path, dim):
    with memalloy.open(tmp_path / "kb", dim=dim) as store:
        rows = [[float((i + j) % 7 + 1) for j in range(dim)] for i in range(5)]
        store.add_vectors([str(i) for i in range(5)], rows)
        hits = store.search_vector(rows[3], 5)
        assert hits[0].score == pytest.approx(1.0, abs=1e-6)
        assert len(hits) == 5


def test_vectors_of_another_length_than_the_model_are_refused(kb):
    kb.remove_document(kb.add_document("loads the model"))
    with pytest.raises(memalloy.InvalidArgumentError, match="384.*6|6.*384"):
        kb.add_vectors(["a"], [[1, 0, 0, 0, 0, 0]])
    assert kb.count() == 0
    kb.add_vectors(["a"], memalloy.embed(["a"]))
    assert kb.search("a")[0].score == pytest.approx(1.0, abs=1e-5)
    kb.add_document("b")
    assert kb.count() == 2


def test_a_new_store_takes_the_length_of_its_first_vectors(tmp_path):
    with memalloy.open(tmp_path / "kb") as store:
        store.add_vectors(["a"], [[1, 0, 0]])
        assert store.status()["dim"] == 3
        with pytest.raises(memalloy.InvalidArgumentError):
            store.add_vectors(["a"], [[1, 0]])


def test_text_needs_a_model(vectors):
    with pytest.raises(memalloy.ModelError):
        vectors.add_document("x")
    vectors.add_vectors(["a"], [[1, 0, 0, 0, 0, 0]])
    with pytest.raises(memalloy.ModelError):
        vectors.search("x")


def test_a_missing_model_is_said_at_first_need(tmp_path):
    with pytest.raises(memalloy.ModelError, match="none.safetensors"):
        with memalloy.open(tmp_path / "kb", model=tmp_path / "none.safetensors") as store:
            store.add_document("x")


def test_vectors_of_another_model_do_not_mix(tmp_path, vectors, model_path):
    vectors.add_vectors(["a"], [[1, 0, 0, 0, 0, 0]])
    vectors.close()
    with pytest.raises(memalloy.ModelMismatchError):
        with memalloy.open(tmp_path / "vectors") as store:
            store.search("a")
