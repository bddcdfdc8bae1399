"""The exceptions: what they are children of, their codes, their text."""

import copy
import os
import pickle
import re
from pathlib import Path

import memalloy
import pytest

BASES = {
    "OutOfMemoryError": MemoryError,
    "InvalidArgumentError": ValueError,
    "LimitError": ValueError,
    "StoreIOError": OSError,
    "NotFoundError": KeyError,
    "CorruptError": Exception,
    "LockedError": TimeoutError,
    "ReadOnlyError": PermissionError,
    "ClosedError": ValueError,
    "ForkedError": RuntimeError,
    "ModelError": Exception,
    "ModelMismatchError": memalloy.ModelError,
    "UnsupportedError": NotImplementedError,
    "CancelledError": Exception,
    "ConflictError": Exception,
    "ParseError": ValueError,
    "InternalError": RuntimeError,
}


@pytest.mark.parametrize("name", BASES)
def test_each_is_also_the_natural_builtin(name):
    error = getattr(memalloy, name)
    assert issubclass(error, memalloy.MemalloyError) and issubclass(error, BASES[name])
    assert error.__module__ == "memalloy" and error.__doc__
    assert str(error("the message")) == "the message"


def test_every_code_of_the_header_has_its_exception():
    header = Path(__file__).parents[2] / "include" / "memalloy.h"
    rows = re.findall(r"^\s+X\((\w+), (\d+), (\w+),", header.read_text(), re.M)
    assert len(rows) == 18
    for name, value, exception in rows:
        if name == "OK":
            continue
        assert getattr(memalloy, exception).code == int(value)
        assert exception in BASES


def test_a_missing_file_is_found_under_every_name():
    error = memalloy.MissingFileError
    for base in (memalloy.StoreIOError, memalloy.NotFoundError, FileNotFoundError, KeyError, OSError):
        assert issubclass(error, base)


def test_errors_survive_pickle_and_copy(kb):
    with pytest.raises(memalloy.NotFoundError) as caught:
        kb.get_document("nobody")
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert type(again) is memalloy.NotFoundError
        assert str(again) == str(caught.value) and "nobody" in str(again)
        assert again.code == 5


def test_the_systems_number_comes_along(kb, tmp_path):
    with pytest.raises(memalloy.MissingFileError) as caught:
        kb.add_file(tmp_path / "none")
    assert caught.value.errno == 2 and str(tmp_path / "none") in str(caught.value)


def test_a_store_that_may_not_be_written_says_permission(tmp_path, model_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError) as caught:
        with memalloy.open(tmp_path / "closed" / "kb") as store:
            store.add_document("x")
    assert caught.value.errno == 13


def test_a_damaged_store_is_said_to_be_damaged(tmp_path, vectors):
    vectors.add_vectors(["a"], [[1, 2, 3, 4, 5, 6]])
    vectors.close()
    for file in (tmp_path / "vectors" / "chunks.lance" / "_versions").iterdir():
        file.write_bytes(b"no manifest at all" * 10)
    with pytest.raises(memalloy.CorruptError):
        with memalloy.open(tmp_path / "vectors", dim=6) as store:
            store.search_vector([1, 2, 3, 4, 5, 6])


def test_messages_have_no_full_stop_and_no_capital(kb, tmp_path):
    calls = [
        lambda: kb.search("x", 0),
        lambda: kb.get_document("nobody"),
        lambda: kb.add_document("x", document_id=""),
        lambda: kb.sync(tmp_path / "none"),
        lambda: memalloy.ChunkingStrategy.fixed(5, 5),
        lambda: memalloy.open(tmp_path / "none", read_only=True),
    ]
    for call in calls:
        with pytest.raises(memalloy.MemalloyError) as caught:
            call()
        message = str(caught.value)
        assert message and not message.endswith(".") and message[0] == message[0].lower()
