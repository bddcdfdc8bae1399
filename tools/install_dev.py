#!/usr/bin/env python3
"""Installs the package into .venv for the tests and the demo, as pip would into anybody's, and only where something
that goes into it has changed (by content, not by time).

The build folder is kept, so that a change costs the compilation of what it touches.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".memalloy-installed"
PARTS = ["include", "src", "cli", "python", "data", "tools/make_convert_tables.py", "meson.build", "meson_options.txt", "pyproject.toml", "README.md", "LICENSE", "NOTICE"]
MODEL = Path("models", "all-minilm-l6-v2.safetensors")


def fingerprint() -> str:
    """Of all that goes into the package, of the model by its making (models/.made-from) and size, and of the place."""
    digest = hashlib.sha256(f"{ROOT}\0{sys.version}\0".encode())
    for part in map(Path, PARTS):
        files = sorted(path for path in part.rglob("*") if path.is_file()) if part.is_dir() else [part]
        for file in files:
            if "__pycache__" not in file.parts and file.is_file():
                digest.update(f"{file}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    made_from = Path("models", ".made-from")
    digest.update(made_from.read_bytes() if made_from.exists() else b"")
    digest.update(f"{MODEL.stat().st_size if MODEL.exists() else 0}".encode())
    return digest.hexdigest()


def is_there() -> bool:
    command = [str(PYTHON), "-I", "-c", "import memalloy"]
    return subprocess.run(command, cwd=VENV, capture_output=True, check=False).returncode == 0


def pip(*arguments: str) -> bool:
    env = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    os.chdir(ROOT)
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted and is_there():
        print("install: the package in .venv is up to date")
        return 0
    STAMP.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="memalloy-wheel-") as scratch:
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--config-settings=build-dir=build-wheel", "--wheel-dir", scratch]
        if not pip("wheel", *options, str(ROOT)):
            print("install: the package could not be built", file=sys.stderr)
            return 1
        wheel = str(next(Path(scratch).glob("memalloy-*.whl")))
        if not pip("install", "--no-index", "--no-deps", "--force-reinstall", wheel):
            print("install: the package could not be installed into .venv", file=sys.stderr)
            return 1
    STAMP.write_text(wanted)
    print("install: the package is in .venv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
