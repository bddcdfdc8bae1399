"""model add, ls, info, verify, rm; and a model with prefixes from its making to a search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli_tools import CORRUPT, FAILED, NOTHING, OK, PARTIAL, USAGE, Command
from tiny_snapshot import write_snapshot

PROMPTS = {"query": "q: ", "passage": "p: "}


@pytest.fixture
def small(bare: Command) -> Command:
    """The command with one small model of two prefixes in its models' folder, and no default."""
    write_snapshot(bare.home / "source/small-en", PROMPTS)
    bare.ok("model", "add", "source/small-en")
    return bare


def folder_of(command: Command) -> Path:
    return command.home / ".local/share/memalloy/models"


def vector(command: Command, kind: str, text: str) -> list[float]:
    return json.loads(command.ok("embed", "--model", "small-en", "--kind", kind, text))


def test_add_makes_a_model_that_can_be_used_by_its_name(small: Command) -> None:
    path = folder_of(small) / "small-en.safetensors"
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder_of(small).stat().st_mode & 0o777 == 0o700
    info = small.json("model", "info", "small-en")
    assert info["tokenizer"] == "word pieces"
    assert (info["id"], info["dim"], info["layers"], info["pieces_max"], info["pooling"]) == ("small-en", 64, 1, 48, "mean")
    assert (info["query_prefix"], info["passage_prefix"], info["quantisation"]) == ("q: ", "p: ", "int8")
    assert info["path"] == str(path) and info["file_bytes"] == path.stat().st_size
    assert small.json("model", "info", path) == {**info, "path": str(path)}
    assert small.json("model", "info", env={"MEMALLOY_MODEL": "small-en"}) == info
    text = small.ok("model", "info", "small-en")
    assert 'queries    "q: "' in text and "int8, 1 layer," in text


def test_add_reports_what_it_did(bare: Command) -> None:
    write_snapshot(bare.home / "models--them--tiny-model/snapshots/0123abcd", PROMPTS)
    report = bare.json("model", "add", "models--them--tiny-model/snapshots/0123abcd", "--precision", "f32")
    assert (report["name"], report["id"], report["quantisation"]) == ("tiny-model", "tiny-model", "f32")
    assert report["prefix_from"] == "config_sentence_transformers.json"
    assert report["hash"] == bare.json("model", "info", "tiny-model")["hash"]
    for kind in ("passages", "queries"):
        assert report["quality"][kind]["texts"] > 10
        assert 0.9999 < report["quality"][kind]["cosine_min"] <= report["quality"][kind]["cosine_mean"] <= 1.0001
    done = bare.run("model", "add", "models--them--tiny-model/snapshots/0123abcd", "--name", "other", "--query-prefix", "ask: ", "--pooling", "cls")
    assert done.returncode == OK
    text = done.stdout.decode()
    assert text.startswith("added      other\n") and '"ask: "' in text and "cosine to the published weights" in text
    info = bare.json("model", "info", "other")
    assert (info["query_prefix"], info["passage_prefix"], info["pooling"]) == ("ask: ", "p: ", "cls")
    quick = bare.json("model", "add", "models--them--tiny-model/snapshots/0123abcd", "--name", "third", "--no-quality")
    assert quick["quality"] == {"passages": None, "queries": None}


def test_add_replaces_only_where_that_is_wanted(small: Command) -> None:
    before = (folder_of(small) / "small-en.safetensors").read_bytes()
    write_snapshot(small.home / "again/small-en", PROMPTS, seed=2)
    done = small.run("model", "add", "again/small-en")
    assert (done.returncode, done.stdout) == (FAILED, b"") and b"--force" in done.stderr
    assert (folder_of(small) / "small-en.safetensors").read_bytes() == before
    small.ok("model", "add", "again/small-en", "--force")
    assert (folder_of(small) / "small-en.safetensors").read_bytes() != before
    assert [path.name for path in folder_of(small).iterdir()] == ["small-en.safetensors"]


def test_add_says_what_is_wrong_and_leaves_nothing(bare: Command) -> None:
    good = write_snapshot(bare.home / "source/good")
    for name, code, message in [("missing", FAILED, "missing"), ("source", FAILED, "config.json")]:
        done = bare.run("model", "add", name)
        assert (done.returncode, message in done.stderr.decode()) == (code, True), done
    config = json.loads((good / "config.json").read_text())
    (good / "config.json").write_text(json.dumps({**config, "hidden_act": "silu"}))
    done = bare.run("model", "add", good)
    assert done.returncode == FAILED and b"silu" in done.stderr and b"--precision onnx" in done.stderr
    (good / "config.json").write_text(json.dumps(config))
    raw = (good / "model.safetensors").read_bytes()
    (good / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    assert bare.run("model", "add", good).returncode in (CORRUPT, FAILED)
    (good / "model.safetensors").write_bytes(raw)
    for arguments, message in [(["--precision", "int4"], "int4"), (["--pooling", "max"], "max"), (["--name", "../x"], "no name"),
                               (["--name", ".x"], "no name"), (["--name", ""], "no name")]:
        done = bare.run("model", "add", good, *arguments)
        assert (done.returncode, message in done.stderr.decode()) == (USAGE, True), done
    assert not folder_of(bare).exists() or list(folder_of(bare).iterdir()) == []
    assert bare.run("model", "add").returncode == USAGE


def test_an_interrupted_add_leaves_nothing(bare: Command) -> None:
    write_snapshot(bare.home / "source/slow")
    config = json.loads((bare.home / "source/slow/config.json").read_text())
    text = "\n\n".join(f"some words {i} to calibrate with, and more of them " * 4 for i in range(18000))
    (bare.home / "calibration.txt").write_text(text)
    assert config["hidden_size"] == 64
    process = subprocess.Popen([bare.path, "model", "add", "source/slow", "--calibration", "calibration.txt"], env=bare.env, cwd=bare.home,
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode == OK:
        pytest.skip("this machine was faster than the signal")
    assert process.returncode in (130, -signal.SIGINT), errors
    assert not folder_of(bare).exists() or list(folder_of(bare).iterdir()) == []


def test_ls_shows_what_is_broken_as_such(small: Command) -> None:
    folder = folder_of(small)
    (folder / "half.safetensors").write_bytes((folder / "small-en.safetensors").read_bytes()[:20000])
    (folder / "gone").symlink_to("/nowhere")
    (folder / "notes.txt").write_text("not a model")
    listing = small.json("model", "ls", env={"MEMALLOY_MODEL": "small-en"})
    assert listing["folder"] == str(folder)
    models = {model["name"]: model for model in listing["models"]}
    assert list(models) == ["gone", "half", "small-en"]
    assert models["gone"]["info"] is None and models["gone"]["error"]
    assert "cut off" in models["half"]["error"]
    assert models["small-en"]["default"] is True and models["small-en"]["info"]["dim"] == 64
    lines = small.ok("model", "ls").splitlines()
    assert lines[2].split("\t")[1:] == ["small-en", "small-en", "int8", "64", "48", lines[2].split("\t")[-1]]
    assert lines[1].startswith("\thalf\tcannot be used: ")


def test_ls_of_no_models_but_the_one_that_was_installed(bare: Command) -> None:
    done = bare.run("model", "ls")
    assert done.returncode == OK and all(line.startswith(b"*") for line in done.stdout.splitlines())
    assert (b"no models in" in done.stderr) == (done.stdout == b"")
    assert [model for model in bare.json("model", "ls")["models"] if not model["default"]] == []
    assert list(bare.home.iterdir()) == []


def test_verify_reads_all_weights(small: Command) -> None:
    assert small.ok("model", "verify", "small-en") == "small-en: whole\n"
    path = folder_of(small) / "small-en.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-2000] ^= 1
    (folder_of(small) / "bad.safetensors").write_bytes(raw)
    assert small.run("embed", "--model", "bad", "x").returncode == OK  # opening does not read them
    done = small.run("model", "verify")
    assert done.returncode == CORRUPT and b"bad.safetensors" in done.stderr and b"checksum" in done.stderr
    assert f"{path}: whole" in done.stdout.decode().splitlines() and b"bad.safetensors" not in done.stdout
    document = small.json("model", "verify", "small-en", "bad", code=CORRUPT)
    assert [model["whole"] for model in document["models"]] == [True, False]
    assert small.run("model", "verify", "none").returncode == FAILED


def test_rm_removes_files_and_links(small: Command) -> None:
    (folder_of(small) / "link").symlink_to(small.home / "source/small-en")
    assert small.ok("model", "rm", "link") == "removed link\n"
    assert (small.home / "source/small-en/config.json").exists()
    assert small.json("model", "rm", "small-en", "unknown", code=PARTIAL) == {"removed": ["small-en"], "unknown": ["unknown"]}
    assert small.run("model", "rm", "small-en").returncode == NOTHING
    assert small.run("model", "rm", "../models").returncode == USAGE
    assert list(folder_of(small).iterdir()) == []


def test_prefixes_go_from_the_model_into_searches(small: Command) -> None:
    """The score of a hit is the cosine of the query with its prefix and the passage with its own."""
    passage, query = "a passage to be found", "what is found?"
    (small.home / "notes").mkdir()
    (small.home / "notes/a.txt").write_text(passage)
    small.ok("sync", "--model", "small-en", "notes", "--quiet")
    hit = small.json("search", "--model", "small-en", query)["hits"][0]
    assert hit["content"] == passage and (hit["byte_start"], hit["byte_end"]) == (0, len(passage))
    wanted = sum(a * b for a, b in zip(vector(small, "query", query), vector(small, "passage", passage)))
    assert abs(hit["score"] - wanted) < 1e-5
    other = sum(a * b for a, b in zip(vector(small, "passage", query), vector(small, "passage", passage)))
    assert abs(hit["score"] - other) > 1e-4
    status = small.json("status", "--model", "small-en")
    assert (status["model_pooling"], status["model_quantisation"]) == ("mean", "int8")
    # Chunks leave room for the prefix: 48 pieces, two around, "p" and ":" in front.
    (small.home / "notes/b.txt").write_text("a b c d e f g h " * 100)
    small.ok("sync", "--model", "small-en", "notes", "--quiet")
    for hit in small.json("search", "--model", "small-en", "-k", "100", "a")["hits"]:
        assert len(small.ok("tokenize", "--model", "small-en", hit["content"]).split()) <= 44


def test_a_mismatch_names_the_model_to_use(small: Command) -> None:
    write_snapshot(small.home / "again/other", seed=2)
    small.ok("model", "add", "again/other")
    (small.home / "notes").mkdir()
    (small.home / "notes/a.txt").write_text("a passage")
    small.ok("sync", "--model", "small-en", "notes", "--quiet")
    done = small.run("search", "--model", "other", "a")
    assert done.returncode == FAILED
    assert b"made with model small-en int8" in done.stderr and b"open it with the model small-en" in done.stderr
    assert b"memalloy search --model small-en" in done.stderr
    assert small.json("search", "--model", "other", "a", code=FAILED)["error"]["code"] == "MISMATCH"
    (small.home / "notes/b.txt").write_text("another passage")
    done = small.run("sync", "--model", "other", "notes")
    assert done.returncode == FAILED and b"memalloy sync --model other --db" in done.stderr


def test_a_pipe_is_no_model_and_is_not_waited_for(small: Command) -> None:
    pipe = folder_of(small) / "pipe.safetensors"
    os.mkfifo(pipe)
    for verb in (["embed", "--model", "pipe", "a"], ["model", "verify", str(pipe)]):
        done = small.run(*verb)
        assert done.returncode == FAILED and b"is neither a file nor a folder" in done.stderr
    assert "small-en" in small.ok("model", "ls")


def test_a_damaged_tokenizer_is_told_with_the_model(small: Command) -> None:
    path = folder_of(small) / "small-en.safetensors"
    whole = path.read_bytes()
    header_bytes = int.from_bytes(whole[:8], "little")
    start = json.loads(whole[8 : 8 + header_bytes])["tokenizer"]["data_offsets"][0] + 8 + header_bytes
    path.write_bytes(whole[:start] + bytes(8) + whole[start + 8 :])
    done = small.run("embed", "--model", "small-en", "a")
    assert done.returncode == CORRUPT and f"{path}: ".encode() in done.stderr
