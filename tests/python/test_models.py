"""memalloy.models: the models' folder from Python."""

import os
import sys
from pathlib import Path

import memalloy
import pytest
from memalloy import models

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
from tiny_snapshot import write_snapshot  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMALLOY_MODELS", str(tmp_path / "models"))
    return tmp_path


def names():
    return [model["name"] for model in models.list() if not model["default"]]


def test_a_model_is_made_listed_used_and_removed(folder):
    source = write_snapshot(folder / "small-en", {"query": "q: ", "passage": "p: "})
    assert names() == []
    steps = []
    report = models.add(source, progress=lambda step, share: steps.append((step, share)))
    assert report["name"] == "small-en" and report["quantisation"] == "int8" and report["dim"] == 64
    assert report["quality"]["passages"]["cosine_min"] > 0.99
    assert steps and all(isinstance(step, str) and 0 <= share <= 1 for step, share in steps)
    assert names() == ["small-en"]
    assert models.info("small-en")["query_prefix"] == "q: "
    entry = models.list()[0]
    assert entry["error"] is None and entry["info"] == models.info("small-en")
    one = memalloy.embed(["a text"], model="small-en", kind="query")
    assert one[0] != memalloy.embed(["a text"], model="small-en")[0]
    with memalloy.open(folder / "kb", model="small-en") as kb:
        kb.add_document("a text")
        passage = memalloy.embed(["a text"], "small-en")[0]
        assert kb.search("a text")[0].score == pytest.approx(sum(a * b for a, b in zip(one[0], passage)), abs=1e-5)
        assert kb.status()["model_pooling"] == "mean" and kb.status()["model_quantisation"] == "int8"
    models.verify("small-en")
    models.remove("small-en")
    assert names() == []
    with pytest.raises(memalloy.NotFoundError):
        models.remove("small-en")


def test_options_go_over_what_the_folder_says(folder):
    source = write_snapshot(folder / "small-en")
    report = models.add(os.fsencode(source), "mine", precision="bf16", pooling="cls", query_prefix="ask ", pieces_max=32, quality=False)
    assert (report["name"], report["pooling"], report["query_prefix"], report["pieces_max"]) == ("mine", "cls", "ask ", 32)
    assert report["quality"] == {"passages": None, "queries": None}
    with pytest.raises(memalloy.ConflictError):
        models.add(source, "mine")
    models.add(source, "mine", overwrite=True, quality=False)


def test_what_is_wrong_is_told(folder):
    source = write_snapshot(folder / "small-en")
    for call, error in [
        (lambda: models.add(folder / "missing"), memalloy.NotFoundError),
        (lambda: models.add(source, "a/b"), memalloy.InvalidArgumentError),
        (lambda: models.add(source, precision="int4"), memalloy.InvalidArgumentError),
        (lambda: models.add(3), TypeError),
        (lambda: models.add(source, 3), TypeError),
        (lambda: models.add(source, progress=3), TypeError),
        (lambda: models.info("none"), memalloy.ModelError),
        (lambda: models.remove("../x"), memalloy.InvalidArgumentError),
        (lambda: models.remove(3), TypeError),
    ]:
        with pytest.raises(error):
            call()
    with pytest.raises(memalloy.CancelledError):
        models.add(source, progress=lambda step, share: False)
    with pytest.raises(ZeroDivisionError):
        models.add(source, progress=lambda step, share: 1 / 0)
    assert names() == []


def test_broken_ones_are_listed_as_such(folder):
    models.add(write_snapshot(folder / "small-en"), quality=False)
    raw = (folder / "models/small-en.safetensors").read_bytes()
    (folder / "models/half.safetensors").write_bytes(raw[: len(raw) // 2])
    (folder / "models/flipped.safetensors").write_bytes(raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:])
    found = {model["name"]: model for model in models.list()}
    assert "cut off" in found["half"]["error"] and found["half"]["info"] is None
    assert found["flipped"]["error"] is None
    with pytest.raises(memalloy.CorruptError, match="checksum"):
        models.verify("flipped")


def test_a_sync_with_another_model_is_a_mismatch_though_nothing_changed(folder):
    models.add(write_snapshot(folder / "one"), quality=False)
    models.add(write_snapshot(folder / "two", seed=2), quality=False)
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("a text")
    for _ in range(2):
        with memalloy.open(folder / "kb", model="one") as kb:
            kb.sync(folder / "notes")
    with memalloy.open(folder / "kb", model="two") as kb:
        with pytest.raises(memalloy.ModelMismatchError, match="open it with the model one"):
            kb.sync(folder / "notes")
        assert kb.count() == 1


def test_a_precision_that_is_none_is_told_with_all_there_are(folder):
    with pytest.raises(memalloy.InvalidArgumentError, match="int4 is none of int8, bf16, f32 and onnx"):
        models.add(write_snapshot(folder / "one"), precision="int4")


def test_a_mismatch_names_the_model(folder):
    models.add(write_snapshot(folder / "one"), quality=False)
    models.add(write_snapshot(folder / "two", seed=2), quality=False)
    with memalloy.open(folder / "kb", model="one") as kb:
        kb.add_document("a text")
    with memalloy.open(folder / "kb", model="two") as kb:
        with pytest.raises(memalloy.ModelMismatchError, match="made with model one int8.*not two.*open it with the model one"):
            kb.search("a text")
