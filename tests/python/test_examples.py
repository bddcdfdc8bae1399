"""The README's Python example is a file that runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "quickstart.py"


def test_the_readme_shows_the_example_as_it_is():
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```python\n(.*?)```", readme, re.S)
    assert block, "README.md shows no Python"
    assert block.group(1) == EXAMPLE.read_text()
    assert len(EXAMPLE.read_text().splitlines()) <= 15


def test_the_example_runs(tmp_path, folder, model_path):
    command = [sys.executable, "-X", "dev", EXAMPLE, folder, tmp_path / "kb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = done.stdout.splitlines()
    assert "added=3" in lines[0] and "unchanged=3" in lines[1]
    assert "The boiler is serviced in May." in done.stdout
    assert re.search(r"^\S+:1-\d+  0\.\d{3}$", lines[2], re.M)


def test_the_ancestors_example_runs(tmp_path, monkeypatch, model_path):
    code = (
        "from memalloy import RAGKernel\n"
        "rag = RAGKernel()\n"
        "rag.add_document('MemAlloy is a high-performance memory kernel.')\n"
        "results = rag.search('memory kernel', top_k=1)\n"
        "for doc, score in results:\n"
        "    print(f'{score:.1f} {doc.content[:7]}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert re.fullmatch(r"0\.\d MemAllo\n", done.stdout), done.stdout + done.stderr


def test_the_module_can_be_run(model_path):
    done = subprocess.run([sys.executable, "-m", "memalloy"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("memalloy 0.") and "safetensors" in done.stdout


def test_a_type_checker_accepts_the_example(tmp_path):
    pytest.importorskip("mypy")
    shutil.copy(EXAMPLE, tmp_path / "quickstart.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", tmp_path / "quickstart.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
