#!/usr/bin/env python3
"""The demo: indexes a real folder, asks questions, shows cited passages and what each stage took.

    make demo
    make demo DIR=~/notes ASK="what did we decide about backups?"

Without DIR it takes a part of Python's own standard library (about 2.7 MB of .py files that every machine has) and
the docs of this project, in place. Everything goes through the memalloy command, as a reader would use it; the store
is kept in build-demo/, so that a second run embeds nothing that has not changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "build-demo"
MODEL = ROOT / "models" / "all-minilm-l6-v2.safetensors"

PACKAGES = [
    "asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json", "logging", "multiprocessing",
    "re", "sqlite3", "tomllib", "unittest", "urllib", "wsgiref", "xmlrpc", "zoneinfo",
]
NOT_ASKED_FOR = ["__pycache__", "test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "lib-dynload"]

QUESTIONS = [
    "start a new log file when the current one has reached a certain size",
    "convert an email header with non-ASCII characters to text",
    "what happens when two processes write to the store at the same time?",
]


class Stop(Exception):
    """The demo cannot go on: the text says why, the code is the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Done:
    code: int
    stdout: str
    seconds: float


def find_command() -> Path:
    candidates = [Path(os.environ["MEMALLOY_CLI"])] if os.environ.get("MEMALLOY_CLI") else []
    candidates += [Path(sys.executable).parent / "memalloy", ROOT / ".venv/bin/memalloy", ROOT / "build/cli/memalloy"]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise Stop("the memalloy command is not built yet: make build", 6)


class Command:
    """The memalloy command on one store; keeps the highest memory use of all its runs."""

    def __init__(self, path: Path, store: Path) -> None:
        self.path = path
        self.peak_bytes = 0
        self.env = {**os.environ, "MEMALLOY_DB": str(store)}
        if MODEL.is_file() and not os.environ.get("MEMALLOY_MODEL"):
            self.env["MEMALLOY_MODEL"] = str(MODEL)

    def run(self, *arguments: str, capture: bool) -> Done:
        """stderr, with the progress, goes where ours goes."""
        sys.stdout.flush()
        began = time.monotonic()
        stdout = subprocess.PIPE if capture else None
        with subprocess.Popen([str(self.path), *arguments], env=self.env, stdin=subprocess.DEVNULL, stdout=stdout) as process:
            try:
                text = process.stdout.read().decode() if process.stdout is not None else ""
                _, status, usage = os.wait4(process.pid, 0)
            except KeyboardInterrupt:
                process.wait()  # it got the signal too, and ends in order
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
        self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        return Done(process.returncode, text, time.monotonic() - began)

    def sync(self, folder: Path, *options: str) -> dict[str, Any]:
        # --quiet takes away the summary, which stands in the JSON too, and --progress keeps the progress.
        done = self.run("sync", "--json", "--quiet", "--progress", *options, "--", str(folder), capture=True)
        if done.code not in (0, 3):
            raise Stop(f"memalloy sync ended with exit code {done.code}", done.code if done.code > 0 else 6)
        counts: dict[str, Any] = json.loads(done.stdout)
        return counts

    def search(self, question: str) -> float:
        done = self.run("search", "-k", "3", "--lines", "8", "--", question, capture=False)
        if done.code not in (0, 1):
            raise Stop(f"memalloy search ended with exit code {done.code}", done.code if done.code > 0 else 6)
        return done.seconds


def shown(text: str) -> str:
    """What comes out of file names may hold escape sequences."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def say_sync(counts: dict[str, Any]) -> None:
    changed = counts["added"] + counts["replaced"] + counts["removed"]
    took = f"{counts['seconds']['total']:.1f} s"
    if changed == 0:
        print(f"  nothing has changed since the last run: {counts['unchanged']:,} files, 0 chunks embedded, {took}")
    else:
        print(
            f"  {counts['added']:,} files added, {counts['replaced']:,} replaced, {counts['removed']:,} removed, "
            f"{counts['unchanged']:,} unchanged; {counts['chunks_embedded']:,} chunks embedded, {took}"
        )
    for item in counts["skipped"][:5]:
        print(f"  skipped {shown(item['path'])}: {shown(item['reason'])}")
    if len(counts["skipped"]) > 5:
        print(f"  and {len(counts['skipped']) - 5:,} more skipped")


def default_folders() -> list[tuple[str, Path, list[str]]]:
    """(what it is, folder, options of sync)"""
    library = Path(sysconfig.get_path("stdlib"))
    if not (library / "asyncio" / "tasks.py").is_file():
        raise Stop(f"{library} does not hold Python's standard library as files; give a folder: make demo DIR=...", 6)
    options = [f"--include={package}/**" for package in PACKAGES] + [f"--exclude={name}" for name in NOT_ASKED_FOR]
    return [
        (f"{len(PACKAGES)} packages of Python's standard library", library, options),
        ("the docs of this project", ROOT / "docs", ["--include=*.md"]),
    ]


def chosen_folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.exists():
        raise Stop(f"DIR={shlex.quote(text)}: there is no such folder", 2)
    if not folder.is_dir():
        raise Stop(f"DIR={shlex.quote(text)} is a file; the demo takes a folder", 2)
    return folder.resolve()


def chosen_questions(ask: str, dir_given: bool) -> list[str]:
    if ask:
        return [ask]
    if not dir_given:
        return QUESTIONS
    if sys.stdin.isatty():
        try:
            return [line] if (line := input("\nYour question: ").strip()) else []
        except EOFError:
            return []
    print('\nNo question was given: make demo DIR=... ASK="..."')
    return []


STAGES = [("walk", "walk"), ("read", "read"), ("chunk", "chunk"), ("tokenize", "tokenize"), ("embed", "embed"), ("store", "store")]


def rate(amount: float, seconds: float, unit: str) -> str:
    return f"{amount / seconds:,.0f} {unit}/s" if seconds >= 0.001 and amount > 0 else ""


def say_table(syncs: list[dict[str, Any]], searches: list[float], peak_bytes: int) -> None:
    def total(key: str) -> int:
        return sum(counts[key] for counts in syncs)

    seconds = {key: sum(counts["seconds"][key] for counts in syncs) for key in [*dict(STAGES), "total"]}
    files = total("added") + total("replaced")
    megabytes = total("bytes") / 1e6
    chunks, embedded, tokens = total("chunks"), total("chunks_embedded"), total("tokens")
    work = {
        "walk": (f"{files + total('unchanged'):,} files seen", rate(files + total("unchanged"), seconds["walk"], "files")),
        "read": (f"{megabytes:.2f} MB of {files:,} files", f"{megabytes / seconds['read']:,.0f} MB/s" if seconds["read"] >= 0.001 else ""),
        "chunk": (f"{chunks:,} chunks", rate(chunks, seconds["chunk"], "chunks")),
        "tokenize": (f"{tokens:,} word pieces", rate(tokens, seconds["tokenize"], "pieces")),
        "embed": (f"{embedded:,} chunks", rate(tokens, seconds["embed"], "pieces")),
        "store": (f"{chunks:,} rows", rate(chunks, seconds["store"], "rows")),
    }
    print(f"\n{'stage':<10} {'seconds':>9}  {'work':<26} rate")
    for key, name in STAGES:
        print(f"{name:<10} {seconds[key]:>9.2f}  {work[key][0]:<26} {work[key][1]}".rstrip())
    speed = f"{1000 * megabytes / seconds['total']:,.0f} kB/s" if megabytes and seconds["total"] >= 0.001 else ""
    print(f"{'sync':<10} {seconds['total']:>9.2f}  {'all of the above':<26} {speed}".rstrip())
    if searches:
        each = f"{1000 * sum(searches) / len(searches):.0f} ms each, start of the command included"
        print(f"{'search':<10} {sum(searches):>9.2f}  {f'{len(searches)} questions':<26} {each}")
    print(f"peak memory {peak_bytes / 1e6:,.0f} MB")


def demo() -> None:
    dir_text, ask = os.environ.get("DIR", ""), os.environ.get("ASK", "").strip()
    if dir_text:
        folder = chosen_folder(dir_text)
        folders: list[tuple[str, Path, list[str]]] = [(str(folder), folder, [])]
        store = KEPT / f"store-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    else:
        folders = default_folders()
        store = KEPT / "store"
    command = Command(find_command(), store)
    KEPT.mkdir(exist_ok=True)
    print(f"The store is {store}. Nothing leaves this machine.")
    syncs = []
    for what, folder, options in folders:
        print(f"\nIndexing {what}: {folder}" if what != str(folder) else f"\nIndexing {folder}")
        syncs.append(command.sync(folder, *options))
        say_sync(syncs[-1])
    searches = []
    for question in chosen_questions(ask, bool(dir_text)):
        print(f"\n? {question}\n")
        searches.append(command.search(question))
    say_table(syncs, searches, command.peak_bytes)
    print(f"\nAsk more: MEMALLOY_DB={shlex.quote(str(store))} {shlex.quote(str(command.path))} search \"...\"")


def main() -> int:
    if len(sys.argv) > 1:
        print(__doc__.strip(), file=sys.stderr)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    try:
        demo()
    except Stop as stop:
        print(f"demo: {stop}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("demo: interrupted; what was stored stays, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
