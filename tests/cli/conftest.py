"""Fixtures: the command, a folder of notes, and a store that follows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_tools import Command, find_command, find_model, write_notes

@pytest.fixture(scope="session")
def command_path() -> Path:
    path = find_command()
    if path is None:
        pytest.fail("the memalloy command is not built: make build")
    return path


@pytest.fixture(scope="session")
def model_path() -> Path:
    path = find_model()
    if path is None:
        pytest.skip("there is no model: make model")
    return path


@pytest.fixture
def bare(command_path: Path, tmp_path: Path) -> Command:
    """The command without a model."""
    return Command(command_path, tmp_path, None)


@pytest.fixture
def cli(command_path: Path, model_path: Path, tmp_path: Path) -> Command:
    return Command(command_path, tmp_path, model_path)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "my notes"
    write_notes(folder)
    return folder


@pytest.fixture(scope="module")
def filled(command_path: Path, model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A store that was synced once, for tests that only read: the default store of its home."""
    home = tmp_path_factory.mktemp("filled home")
    write_notes(home / "notes")
    command = Command(command_path, home, model_path)
    command.ok("sync", "notes", "--quiet")
    return command
