#!/usr/bin/env python3
"""Checks the rules of the house that a script can check; everything else about style is advice.

    tools/check_style.py [--no-compile] [ROOT]

Sizes of files, functions and lines; banned names; system calls outside os/; header guards; a comment before every
group of declarations in a door header; basenames; open ends; each header compiles alone (--no-compile leaves that
out). A generated table (*_tables.c, *.pb-c.[ch]) is free of the sizes.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from c_text import blank, c_files, includes, line_of, read

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100

C_FOLDERS = ["include", "src", "cli", "python", "examples", "tests", "bench"]
TEXT_FOLDERS = [*C_FOLDERS, "tools", "docs"]

# Functions without a bound, or whose error cannot be told from a result. Everywhere.
BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "gets", "atoi", "atol", "atoll", "atof", "strtok"]
# In src/: memory outside the counted allocator, printing, ending the process, and system calls outside the table.
BANNED_MEMORY = ["malloc", "calloc", "realloc", "free", "strdup", "strndup", "aligned_alloc", "posix_memalign", "asprintf"]
BANNED_SRC = ["printf", "fprintf", "vprintf", "vfprintf", "puts", "fputs", "putchar", "perror", "exit", "_exit", "abort"]
BANNED_SYSTEM = [
    "open", "openat", "fopen", "creat", "read", "pread", "write", "pwrite", "close", "mmap", "munmap", "fsync", "fdatasync",
    "rename", "link", "unlink", "mkdir", "rmdir", "stat", "fstat", "lstat", "opendir", "readdir", "getenv", "secure_getenv",
    "time", "clock_gettime", "gettimeofday", "getpid", "fork", "getrandom", "rand", "random", "srand", "usleep", "nanosleep",
    "sysconf", "pthread_create", "pthread_mutex_lock", "syscall", "system",
]
# Rooms that take bytes from disk or from the user: what is wrong there is CORRUPT or INVAL, never an abort.
ASSERT_FREE = ["source", "lance", "log", "store", "sums"]
SYSTEM_HEADERS = re.compile(r"(unistd|fcntl|pthread|dirent|sched|poll|signal|threads|spawn|dlfcn|semaphore|syslog|netdb)\.h|(sys|linux|arpa|netinet)/.*")
# What the processor can do is asked in kern/, which makes no system call for it.
SYSTEM_HEADERS_ALLOWED = {"kern": {"sys/auxv.h", "sys/platform/x86.h"}}

OPEN_END = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
FUNCTION = re.compile(r"^(?=[A-Za-z_])[^;{}#=]*?\b(\w+)\s*\([^;{}]*\)[^;{}]*\n\{", re.MULTILINE)


def is_generated(path: Path) -> bool:
    return path.name.endswith(("_tables.c", "_tables.h", ".pb-c.c", ".pb-c.h"))


class Checker:
    """Walks the tree under root and collects complaints as file:line: text."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.errors: list[str] = []
        self.files = c_files(root, C_FOLDERS)

    def complain(self, path: Path, line: int, text: str) -> None:
        self.errors.append(f"{path.relative_to(self.root)}:{line}: {text}")

    def room(self, path: Path) -> str | None:
        """The folder below src/, or None for what is outside."""
        parts = path.relative_to(self.root).parts
        return parts[1] if parts[0] == "src" and len(parts) > 2 else None

    def check_all(self) -> None:
        for path in self.files:
            text = read(path)
            code = blank(text)
            if not is_generated(path):
                self.check_sizes(path, text, code)
            self.check_names(path, code)
            self.check_system(path, text, code)
            if path.suffix == ".h":
                self.check_guard(path, code)
                self.check_door(path, text)
        self.check_basenames()
        self.check_texts()

    def check_sizes(self, path: Path, text: str, code: str) -> None:
        lines = text.split("\n")
        if len(lines) - 1 > FILE_LINES_MAX:
            self.complain(path, FILE_LINES_MAX + 1, f"{len(lines) - 1} lines, limit is {FILE_LINES_MAX}")
        for i, line in enumerate(lines, 1):
            if len(line) > LINE_COLUMNS_MAX:
                self.complain(path, i, f"{len(line)} columns, limit is {LINE_COLUMNS_MAX}")
        for match in FUNCTION.finditer(code):
            end = code.find("\n}", match.end())
            count = code.count("\n", match.start(), end + 1) + 1
            if end != -1 and count > FUNCTION_LINES_MAX:
                line = line_of(code, match.start())
                self.complain(path, line, f"function {match.group(1)} has {count} lines, limit is {FUNCTION_LINES_MAX}")

    def ban(self, path: Path, code: str, names: list[str], why: str) -> None:
        # Calls only: a member (env->open, .free =) or a longer name is another thing.
        pattern = re.compile(r"(?<![\w.])(?<!->)(" + "|".join(names) + r")\s*\(")
        for match in pattern.finditer(code):
            self.complain(path, line_of(code, match.start()), f"{match.group(1)} {why}")

    def check_names(self, path: Path, code: str) -> None:
        self.ban(path, code, BANNED, "is banned")
        room = self.room(path)
        for match in re.finditer(r"\b__(DATE|TIME)__\b", code):
            self.complain(path, line_of(code, match.start()), f"{match.group()} makes builds differ")
        if room is None:
            return
        self.ban(path, code, BANNED_SRC, "is banned in src/: the library never prints or ends the process")
        if path.relative_to(self.root).as_posix() != "src/base/mem.c":
            self.ban(path, code, BANNED_MEMORY, "is banned outside base/mem.c: take it from struct mly_mem")
        if room in ASSERT_FREE:
            self.ban(path, code, ["assert"], f"is banned in {room}: foreign bytes are CORRUPT or INVAL")

    def check_system(self, path: Path, text: str, code: str) -> None:
        room = self.room(path)
        if room in (None, "os"):
            return
        for line, _, name in includes(text):
            if SYSTEM_HEADERS.fullmatch(name) and name not in SYSTEM_HEADERS_ALLOWED.get(room, set()):
                self.complain(path, line, f"<{name}> belongs to os/")
        self.ban(path, code, BANNED_SYSTEM, "is a system call: it belongs to os/, behind struct mly_env")
        for match in re.finditer(r"\b_GNU_SOURCE\b", code):
            self.complain(path, line_of(code, match.start()), "_GNU_SOURCE is for os/ only")

    def check_guard(self, path: Path, code: str) -> None:
        if path.name.endswith(".pb-c.h"):
            return
        stem = re.sub(r"\W", "_", path.stem).upper()
        room = self.room(path)
        wanted = f"\\w+_{stem}_H"
        if room is not None:
            inner = [part.upper() for part in path.relative_to(self.root / "src").parts[:-1]]
            wanted = f"MLY_({inner[0]}|{'_'.join(inner)})_{stem}_H"
        elif self.is_public(path):
            wanted = f"{stem}_H"
        match = re.search(r"^[ \t]*#[ \t]*ifndef[ \t]+(\w+)[ \t]*\n[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]*$", code, re.MULTILINE)
        if match is None or match.group(1) != match.group(2):
            self.complain(path, 1, f"no header guard {wanted}")
        elif not re.fullmatch(wanted, match.group(1)):
            self.complain(path, line_of(code, match.start()), f"header guard {match.group(1)}, expected {wanted}")

    def is_public(self, path: Path) -> bool:
        return path.parent == self.root / "include"

    def is_door(self, path: Path) -> bool:
        return self.is_public(path) or (
            self.room(path) is not None and path.parent.name == path.stem
        )

    def check_door(self, path: Path, text: str) -> None:
        """Declarations stand in groups between blank lines; a group opens with a comment or has one at its end of
        line. Preprocessor lines, forward declarations and what is inside braces need none."""
        if not self.is_door(path):
            return
        if not re.match(r"\s*/\*", text):
            self.complain(path, 1, "a door header opens with a comment")
        for line, group in groups_of(text):
            has_comment = "/*" in group or "//" in group
            code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*$", "", blank(group), flags=re.MULTILINE)
            code = re.sub(r'extern\s+"[^"]*"\s*\{|^\}\s*$', "", code, flags=re.MULTILINE)
            code = re.sub(r"\bstruct\s+\w+\s*;", "", code).strip()
            if code and not has_comment:
                self.complain(path, line, f"a declaration without a comment: {code.splitlines()[0].strip()}")

    def check_basenames(self) -> None:
        by_name = defaultdict(list)
        for path in self.files:
            if self.room(path) is not None:
                by_name[path.name].append(path)
        for name, paths in by_name.items():
            for path in paths[1:]:
                self.complain(path, 1, f"the name {name} is taken by {paths[0].relative_to(self.root)}")

    def check_texts(self) -> None:
        """Open ends in anything that is written by hand; sizes of Python files; _GNU_SOURCE by the back door."""
        files = [*self.root.glob("*.md"), self.root / "Makefile", self.root / "meson.build"]
        for folder in TEXT_FOLDERS:
            endings = (".c", ".h", ".py", ".pyi", ".md", ".build", ".sh", ".proto")
            files += [path for path in (self.root / folder).rglob("*") if path.suffix in endings]
        for path in sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts):
            text = read(path)
            for match in OPEN_END.finditer(text):
                self.complain(path, line_of(text, match.start()), f"{match.group()}: finish it or write an issue")
            if path.suffix == ".py" and text.count("\n") > FILE_LINES_MAX:
                self.complain(path, FILE_LINES_MAX + 1, f"{text.count(chr(10))} lines, limit is {FILE_LINES_MAX}")
            if path.name == "meson.build" and "_GNU_SOURCE" in text and path.parent != self.root / "src" / "os":
                if path.is_relative_to(self.root / "src"):
                    self.complain(path, line_of(text, text.index("_GNU_SOURCE")), "_GNU_SOURCE is for os/ only")


def groups_of(text: str) -> list[tuple[int, str]]:
    """(line, text) of the stretches between blank lines that stand outside braces and comments; a stretch that opens
    a brace or a comment ends where that is closed."""
    code = blank(text)
    groups = []
    start = offset = depth = 0
    for line in text.splitlines(keepends=True):
        inside_comment = text.rfind("/*", 0, offset) > text.rfind("*/", 0, offset)
        if line.strip() == "" and depth == 0 and not inside_comment:
            if text[start:offset].strip():
                groups.append((line_of(text, start), text[start:offset]))
            start = offset + len(line)
        here = code[offset : offset + len(line)]
        # extern "C" is no scope: what stands in it is declared like the rest.
        if not re.match(r"\s*extern\s+\"", here):
            depth = max(depth + here.count("{") - here.count("}"), 0)
        offset += len(line)
    if text[start:].strip():
        groups.append((line_of(text, start), text[start:]))
    return groups


def generate_protobuf(root: Path, out: str) -> bool:
    """Makes the headers that meson would make, for the headers that include them; False where protoc-c is missing."""
    for proto in sorted((root / "src").rglob("*.proto")):
        try:
            subprocess.run(["protoc-c", f"--proto_path={proto.parent}", f"--c_out={out}", proto.name], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


def compile_headers(root: Path, files: list[Path]) -> tuple[list[str], str]:
    """(complaints, what was left out): each header of ours through the compiler on its own."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    modules = ["jansson", "libb2", "libxxhash", "libzstd", "libprotobuf-c", "libuv", "cmocka", "roaring"]
    found = [subprocess.run(["pkg-config", "--cflags", name], capture_output=True, text=True, check=False).stdout for name in modules]
    flags = ["-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", str(root / "include"), "-I", str(root / "src")]
    flags += shlex.split(" ".join(found))
    headers = [path for path in files if path.suffix == ".h"]
    left_out = ""
    python_include = sysconfig.get_path("include")
    if Path(python_include, "Python.h").is_file():
        flags += ["-isystem", python_include]
    else:
        left_out = "; headers under python/ not compiled: this Python has no C headers"
        headers = [path for path in headers if not path.is_relative_to(root / "python")]

    generated = tempfile.TemporaryDirectory()
    flags += ["-I", generated.name]
    if not generate_protobuf(root, generated.name):
        left_out += "; headers that include protobuf ones not compiled: protoc-c is missing or fails"
        headers = [path for path in headers if ".pb-c.h" not in read(path)]

    def compile_one(header: Path) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".c") as unit:
            # The declaration after it keeps an empty unit legal; the include is by path, as nobody includes it twice.
            print(f'#include "{header}"\ntypedef int mly_alone;', file=unit, flush=True)
            defines = ["-D_GNU_SOURCE"] if "os" in header.parts else []
            own = ["-I", str(header.parent), "-I", str(root / "tests" / "helpers")]
            limited = ["-DPy_LIMITED_API=0x030b0000"] if header.is_relative_to(root / "python") else []
            done = subprocess.run([*compiler, *flags, *own, *defines, *limited, unit.name], capture_output=True, text=True, check=False)
        return f"{header.relative_to(root)}:1: does not compile alone\n{done.stderr}" if done.returncode else ""

    with generated, ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        return [error for error in pool.map(compile_one, headers) if error], left_out


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--no-compile"]
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    checker = Checker(root)
    checker.check_all()
    left_out = ""
    if "--no-compile" not in sys.argv:
        complaints, left_out = compile_headers(root, checker.files)
        checker.errors += complaints
    print("\n".join(checker.errors), file=sys.stderr, end="\n" if checker.errors else "")
    print(f"style: {len(checker.files)} C files, {len(checker.errors)} complaints{left_out}")
    return 1 if checker.errors or not checker.files else 0


if __name__ == "__main__":
    sys.exit(main())
