"""Runs the memalloy command as a user would, from a clean environment."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

OK, NOTHING, USAGE, PARTIAL, LOCKED, CORRUPT, FAILED = range(7)
VERBS = ["sync", "watch", "search", "get", "ls", "rm", "status", "checkpoint", "index", "verify", "embed", "tokenize", "model ls", "model add", "model info", "model verify", "model rm"]


NOTES = {
    "backup.md": "# Backups\n\nBackups run every night at three.\n\n## Retention\n\nDaily backups are kept for thirty days, weekly ones for a year.\n",
    "garden/tomatoes.md": "# Tomatoes\n\nSow tomatoes in March on the window sill and plant them out in May.\n",
    "garden/ünï côdé.txt": "Die Gießkanne steht im Schuppen.\r\nZweite Zeile.\r\n",
    "old.md": "# Old\n\nThe old printer is in the cellar.\n",
    "code.py": "def celsius(fahrenheit):\n    \"\"\"Convert degrees Fahrenheit to Celsius.\"\"\"\n    return (fahrenheit - 32) * 5 / 9\n",
}


def write_notes(folder: Path) -> None:
    for name, text in NOTES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def find_command() -> Path | None:
    given = os.environ.get("MEMALLOY_CLI")
    candidates = [Path(given)] if given else [ROOT / "build/cli/memalloy", ROOT / ".venv/bin/memalloy"]
    return next((each for each in candidates if each.is_file() and os.access(each, os.X_OK)), None)


def find_model() -> Path | None:
    given = os.environ.get("MEMALLOY_MODEL")
    path = Path(given) if given else ROOT / "models/all-minilm-l6-v2.safetensors"
    return path if path.is_file() else None


class Command:
    """The command with an environment of its own: nothing of the user's store or terminal gets in."""

    def __init__(self, path: Path, home: Path, model: Path | None) -> None:
        self.path = path
        self.home = home
        self.env = {"HOME": str(home), "PATH": f"{path.parent}:{os.environ.get('PATH', os.defpath)}", "TERM": "xterm-256color"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LD_LIBRARY_PATH"):
            if name in os.environ:
                self.env[name] = os.environ[name]
        if model is not None:
            self.env["MEMALLOY_MODEL"] = str(model)

    def run(self, *arguments: str | bytes | Path, input: bytes = b"", env: dict[str, str] | None = None,
            cwd: Path | None = None, stdout: Any = subprocess.PIPE, timeout: float = 300) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.path, *arguments], input=input, stdout=stdout, stderr=subprocess.PIPE, env={**self.env, **(env or {})},
            cwd=cwd or self.home, timeout=timeout, check=False,
        )

    def ok(self, *arguments: str | bytes | Path, **more: Any) -> str:
        """stdout of a run that must succeed."""
        done = self.run(*arguments, **more)
        assert done.returncode == OK, (done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode()

    def json(self, *arguments: str | bytes | Path, code: int = OK, **more: Any) -> Any:
        """The one document that a run with --json gives."""
        done = self.run(*arguments, "--json", **more)
        assert done.returncode == code, (done.returncode, done.stderr.decode(errors="replace"))
        assert done.stdout.endswith(b"\n") and done.stdout.count(b"\n") == 1, done.stdout
        return json.loads(done.stdout)

    def start(self, *arguments: str | Path, stderr: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.path, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, env=self.env, cwd=self.home
        )

    def on_terminal(self, *arguments: str | Path, columns: int = 60, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit code and what a terminal of that width would get on all three streams."""
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with subprocess.Popen([self.path, *arguments], stdin=child, stdout=child, stderr=child,
                              env={**self.env, **(env or {})}, cwd=self.home) as process:
            os.close(child)
            shown = b"".join(read_terminal(parent))
            code = process.wait(timeout=300)
        os.close(parent)
        return code, shown.decode().replace("\r\n", "\n")


def read_terminal(parent: int):  # type: ignore[no-untyped-def]
    """What comes until the other side is closed, which a terminal tells with EIO."""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            return
        if not part:
            return
        yield part
