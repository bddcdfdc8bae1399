"""Models for ONNX Runtime: a folder with model.onnx and tokenizer.json. The models here are tiny and random; what the
library must do, it does for real."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading

import memalloy
import pytest
from memalloy import _model

numpy = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")
if _model.runtime_path("/") is None:
    pytest.skip("the package onnxruntime is not there", allow_module_level=True)

DIM = 16
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *("##" + letter for letter in LETTERS)]
# In any number of a vector, between a text alone and among others: docs/NUMERICS.md.
BOUND = 1e-5


def make_model(name="last_hidden_state", external=False):
    """Rows of a table with positions, mixed over all real pieces of the text by attention: so that padding that is not
    masked, or numbers from another text, would change every vector."""
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(1)
    constants = [
        numpy_helper.from_array(random.standard_normal((len(PIECES), DIM)).astype("f4"), "words"),
        numpy_helper.from_array(random.standard_normal((512, DIM)).astype("f4"), "positions"),
        numpy_helper.from_array(random.standard_normal((DIM, 8 * DIM)).astype("f4"), "inner"),
        numpy_helper.from_array(random.standard_normal((8 * DIM, DIM)).astype("f4"), "outer"),
        numpy_helper.from_array(numpy.array([0], "i8"), "zero"),
        numpy_helper.from_array(numpy.array([1], "i8"), "one"),
        numpy_helper.from_array(numpy.array([2], "i8"), "two"),
        numpy_helper.from_array(numpy.array(1, "f4"), "unit"),
        numpy_helper.from_array(numpy.array(-1e9, "f4"), "masked"),
    ]
    if external:
        onnx.external_data_helper.set_external_data(constants[0], location="../../secret")
        constants[0].ClearField("raw_data")
    node = helper.make_node
    nodes = [
        node("Gather", ["words", "input_ids"], ["rows"]),
        node("Shape", ["input_ids"], ["shape"]),
        node("Slice", ["shape", "one", "two"], ["width"]),
        node("Slice", ["positions", "zero", "width"], ["places"]),
        node("Add", ["rows", "places"], ["x"]),
        node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["x", "turned"], ["scores"]),
        node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
        node("Sub", ["unit", "real"], ["padding"]),
        node("Mul", ["padding", "masked"], ["far"]),
        node("Unsqueeze", ["far", "one"], ["mask"]),
        node("Add", ["scores", "mask"], ["seen"]),
        node("Softmax", ["seen"], ["shares"], axis=-1),
        node("MatMul", ["shares", "x"], ["mixed"]),
        node("MatMul", ["mixed", "inner"], ["wide"]),
        node("Tanh", ["wide"], ["bent"]),
        node("MatMul", ["bent", "outer"], [name]),
    ]
    shape = ["texts", "pieces"]
    inputs = [helper.make_tensor_value_info(i, TensorProto.INT64, shape) for i in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [*shape, DIM])
    graph = helper.make_graph(nodes, "tiny", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


TOKENIZER = {
    "added_tokens": [{"id": i, "content": PIECES[i], "special": True} for i in range(5)],
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {piece: i for i, piece in enumerate(PIECES)},
    },
}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "a tiny model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(make_model().SerializeToString())
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return folder


def reference(texts, pieces_max=512):
    """The same by ONNX's own reference evaluator, a text at a time, mean and unit length."""
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(make_model())
    rows = []
    for text in texts:
        ids = [i for word in text.split() for i in (PIECES.index(p if k == 0 else "##" + p) for k, p in enumerate(word))]
        ids = numpy.array([[2, *ids[: pieces_max - 2], 3]], "i8")
        mean = session.run(None, {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})[0][0].mean(axis=0)
        rows.append(mean / numpy.linalg.norm(mean))
    return numpy.array(rows)


TEXTS = ["a", "abc def", "z " * 700, "the quick brown fox " * 9, "hello", "x y z", "", "padding " * 30] * 12


def test_vectors_are_those_of_the_reference_evaluator(model):
    vectors = memalloy.embed(TEXTS, model=model)
    assert vectors.shape == (len(TEXTS), DIM) and vectors.truncated == 12
    assert numpy.abs(numpy.asarray(vectors)[:8] - reference(TEXTS[:8])).max() < 1e-4
    for row in vectors.tolist():
        assert math.isclose(sum(x * x for x in row), 1.0, abs_tol=1e-5)


def test_a_vector_depends_on_the_texts_beside_it_by_rounding_only(model):
    together = numpy.asarray(memalloy.embed(TEXTS, model=model))
    turned = numpy.asarray(memalloy.embed(TEXTS[::-1], model=model))[::-1]
    alone = numpy.array([memalloy.embed([text], model=model).tolist()[0] for text in TEXTS[:8]])
    assert numpy.abs(together - turned).max() < BOUND
    assert numpy.abs(together[:8] - alone).max() < BOUND


def test_one_model_serves_many_threads(model):
    wanted = numpy.asarray(memalloy.embed(TEXTS, model=model))
    wrong = []

    def work():
        for _ in range(5):
            if numpy.abs(numpy.asarray(memalloy.embed(TEXTS, model=model)) - wanted).max() >= BOUND:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_store_and_its_searches_use_it(model, tmp_path):
    with memalloy.open(tmp_path / "kb", model=model) as kb:
        kb.add_document("the quick brown fox")
        kb.add_document("zzz zzz zzz")
        found = kb.search("zzz zzz", top_k=1)
        assert found[0].content == "zzz zzz zzz"
    with memalloy.open(tmp_path / "kb", model=model) as kb:
        assert kb.count() == 2
    (model / "tokenizer.json").write_text(json.dumps({**TOKENIZER, "version": "2"}))
    with memalloy.open(tmp_path / "kb", model=model) as kb:
        with pytest.raises(memalloy.ModelMismatchError):
            kb.search("zzz")


def test_the_package_is_found_but_not_imported(model):
    code = (
        "import sys, memalloy\n"
        "assert memalloy.embed(['a'], model=sys.argv[1]).shape == (1, 16)\n"
        "print('onnxruntime' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code, str(model)], text=True) == "False\n"


def test_both_may_live_in_one_process(model):
    code = (
        "import sys, onnxruntime, memalloy\n"
        "one = onnxruntime.InferenceSession(sys.argv[1] + '/model.onnx')\n"
        "assert memalloy.embed(['a'], model=sys.argv[1]).shape == (1, 16)\n"
        "del one\n"
        "assert memalloy.embed(['a'], model=sys.argv[1]).shape == (1, 16)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(model)], check=True)


def test_a_child_opens_its_own(model):
    code = (
        "import os, sys, memalloy\n"
        "one = memalloy.embed(['a b c'] * 50, model=sys.argv[1]).tolist()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if memalloy.embed(['a b c'] * 50, model=sys.argv[1]).tolist() == one else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(model)], check=True, timeout=120)


def test_memory_stays_bounded(model):
    code = (
        "import resource, sys, memalloy\n"
        "texts = ['a b c d e f g h ' * n for n in (1, 4, 16, 60)] * 200\n"
        "memalloy.embed(texts[:4], model=sys.argv[1])\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\n"
        "for _ in range(3):\n"
        "    memalloy.embed(texts, model=sys.argv[1])\n"
        "print(peak() - before)"
    )
    assert int(subprocess.check_output([sys.executable, "-c", code, str(model)], text=True)) < 200


@pytest.mark.parametrize("named", ["", "/nowhere/libonnxruntime.so"])
def test_without_the_library_the_error_says_what_to_do(model, named):
    code = (
        "import sys, memalloy\n"
        "from memalloy import _model\n"
        "_model.runtime_path = lambda model: None\n"
        "try:\n"
        "    memalloy.embed(['a'], model=sys.argv[1])\n"
        "except memalloy.ModelError as error:\n"
        "    print(error)\n"
    )
    env = {**os.environ, "MEMALLOY_ONNXRUNTIME": named}
    said = subprocess.check_output([sys.executable, "-c", code, str(model)], env=env, text=True)
    if named:
        assert named in said
    elif said:  # a system may have the library
        assert "pip install onnxruntime" in said and "MEMALLOY_ONNXRUNTIME" in said


def test_weights_in_other_files_are_refused(model):
    (model / "model.onnx").write_bytes(make_model(external=True).SerializeToString())
    with pytest.raises(memalloy.UnsupportedError, match="external data"):
        memalloy.embed(["a"], model=model)


def test_the_librarys_own_complaints_come_through(model):
    broken = make_model()
    broken.graph.node[0].op_type = "Nonsense"
    (model / "model.onnx").write_bytes(broken.SerializeToString())
    with pytest.raises(memalloy.ModelError, match="Nonsense"):
        memalloy.embed(["a"], model=model)
    (model / "model.onnx").write_bytes(b"this is no model")
    with pytest.raises(memalloy.CorruptError, match="model.onnx"):
        memalloy.embed(["a"], model=model)


def test_another_tokenizer_is_refused_by_name(model):
    other = json.loads(json.dumps(TOKENIZER))
    other["pre_tokenizer"] = {"type": "UnicodeScripts"}
    (model / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(memalloy.UnsupportedError, match="UnicodeScripts"):
        memalloy.embed(["a"], model=model)


def test_a_folder_that_is_no_model_says_so(tmp_path):
    with pytest.raises(memalloy.ModelError, match="neither model.onnx"):
        memalloy.embed(["a"], model=tmp_path)


def test_the_command_takes_a_folder(model):
    start = "from memalloy._command import main; main()"
    command = [sys.executable, "-c", start, "embed", "--model", str(model), "a b c"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(memalloy.embed(["a b c"], model=model).tolist()[0], abs=1e-6)


def test_a_folder_is_linked_under_a_name(model, tmp_path, monkeypatch):
    from memalloy import models

    monkeypatch.setenv("MEMALLOY_MODELS", str(tmp_path / "models"))
    report = models.add(model, "linked", precision="onnx")
    assert (report["name"], report["quantisation"], report["dim"]) == ("linked", "onnx", DIM)
    assert (tmp_path / "models/linked").is_symlink()
    entry = next(each for each in models.list() if each["name"] == "linked")
    assert entry["error"] is None and entry["info"]["hash"] == report["hash"]
    assert memalloy.embed(["a"], model="linked")[0] == memalloy.embed(["a"], model=model)[0]
    with pytest.raises(memalloy.InvalidArgumentError, match="its own files"):
        models.add(model, "other", precision="onnx", query_prefix="q: ")
    with pytest.raises(memalloy.ConflictError):
        models.add(model, "linked", precision="onnx")
    other = tmp_path / "other"
    shutil.copytree(model, other)
    models.add(other, "linked", precision="onnx", overwrite=True)
    assert os.readlink(tmp_path / "models/linked") == os.path.realpath(other)
    assert os.listdir(tmp_path / "models") == ["linked"]
    models.remove("linked")
    assert model.is_dir()


def test_a_long_name_is_cut_between_characters(model, tmp_path, monkeypatch):
    from memalloy import models

    monkeypatch.setenv("MEMALLOY_MODELS", str(tmp_path / "models"))
    for shift in range(3):
        config = json.loads((model / "config.json").read_text()) if (model / "config.json").exists() else {}
        config["_name_or_path"] = "x" * shift + "\u20ac" * 400
        (model / "config.json").write_text(json.dumps(config))
        report = models.add(model, "long", precision="onnx", overwrite=True)
        assert set(report["id"].lstrip("x")) == {"\u20ac"}
        assert set(models.info("long")["id"].lstrip("x")) == {"\u20ac"}


def test_prompts_of_a_folder_are_put_in_front(model):
    plain = memalloy.embed(["ask a b", "told a b"], model=model)
    (model / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "ask ", "document": "told "}}))
    prefixed = memalloy.Model(model)
    assert prefixed.info()["query_prefix"] == "ask " and prefixed.info()["passage_prefix"] == "told "
    for row, kind in ((0, "query"), (1, "passage")):
        assert prefixed.embed(["a b"], kind=kind)[0] == pytest.approx(plain[row], abs=BOUND)
