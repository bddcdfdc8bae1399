"""Stores to test with. `vectors` needs no model, `kb` does."""

import memalloy
import pytest
from memalloy import _model


@pytest.fixture(scope="session")
def model_path():
    path = _model.default_path()
    if path is None:
        pytest.skip("the model is not there: make model")
    return path


@pytest.fixture
def kb(tmp_path, model_path):
    """An empty store with the default model."""
    with memalloy.open(tmp_path / "kb") as store:
        yield store


@pytest.fixture
def vectors(tmp_path):
    """An empty store for ready vectors of six numbers."""
    with memalloy.open(tmp_path / "vectors", dim=6) as store:
        yield store


@pytest.fixture
def folder(tmp_path):
    """Three small text files, one of them in a folder below."""
    root = tmp_path / "notes"
    (root / "deep").mkdir(parents=True)
    (root / "tea.md").write_text("# Tea\n\nGreen tea is steeped for two minutes at 75 degrees.\n")
    (root / "bike.txt").write_text("A chain is oiled after every ride in the rain.\n")
    (root / "deep" / "bread.md").write_text("# Bread\n\nThe dough rests over night in the cold.\n")
    return root
