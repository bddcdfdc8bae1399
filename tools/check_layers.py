#!/usr/bin/env python3
"""Checks who includes whom: the table of rooms below, doors and private headers, no "..", no .c.

    tools/check_layers.py [ROOT]
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

from c_text import c_files, includes, read

FLOOR = {"base", "flow"}
EVERYTHING = {"*"}

# What a room may include besides its own headers. Neighbours on the line meet in flow/flow.h; only engine knows all.
ALLOWED = {
    "flow": {"base"},
    "base": {"flow"},
    "os": FLOOR,
    "kern": FLOOR,
    "source": FLOOR | {"os", "kern"},
    "chunk": FLOOR | {"kern"},
    "token": FLOOR | {"os", "kern"},
    "embed": FLOOR | {"os", "kern"},
    "lance": FLOOR | {"os", "kern", "sums"},
    "log": FLOOR | {"os", "kern"},
    "sums": FLOOR | {"os", "kern"},
    "store": FLOOR | {"os", "kern", "index", "lance", "log"},
    "index": FLOOR | {"os", "kern"},
    "search": FLOOR | {"os", "kern", "store", "index"},
    "watch": FLOOR | {"os", "kern"},
    "engine": EVERYTHING,
    "serve": set(),
}
# Those that build on the public header alone.
OUTSIDE = ["cli", "python", "examples"]
PUBLIC = "memalloy.h"
# The inside reads the public header in two places: the error list, and where it is implemented.
PUBLIC_READERS = {"engine", "serve"}
PUBLIC_FILES = {"base/err.h"}


def check_any(name: str) -> str | None:
    if ".." in PurePosixPath(name).parts:
        return f'"{name}" climbs with ".."'
    if name.endswith(".c"):
        return f"{name} is a .c file"
    return None


def check_src(file: PurePosixPath, kind: str, name: str, root: Path) -> str | None:
    """file and name count from src/."""
    room = file.parts[0]
    if name == PUBLIC:
        if room in PUBLIC_READERS or str(file) in PUBLIC_FILES:
            return None
        return f"{room} includes <{PUBLIC}>, which is for engine and base/err.h"
    if kind == "<":
        return None
    target = PurePosixPath(name)
    if not (root / "src" / target).is_file():
        if (root / "src" / file.parent / target).is_file():
            return f'"{name}" counts from its own folder, write "{file.parent / target}"'
        return None  # a generated header, or one of a library
    other = target.parts[0]
    if other == room:
        return None
    if target.name.endswith("_int.h"):
        return f'"{name}" is private to {other}'
    if ALLOWED[room] is EVERYTHING or other in ALLOWED[room]:
        return None
    return f"{room} may not include {other} ({name})"


def check_outside(file: Path, kind: str, name: str, root: Path) -> str | None:
    if kind == '"' and name == PUBLIC:
        return f"write <{PUBLIC}>"
    if (root / "src" / name).is_file() and not (file.parent / name).is_file():
        return f"{name} is inside; only <{PUBLIC}> may be included here"
    return None


def check_file(file: Path, root: Path) -> list[str]:
    inside = file.is_relative_to(root / "src")
    relative = PurePosixPath(file.relative_to(root / "src" if inside else root).as_posix())
    errors = []
    if inside and len(relative.parts) > 1 and relative.parts[0] not in ALLOWED:
        errors.append(f"{file.relative_to(root)}:1: the room {relative.parts[0]} is not in the table of tools/check_layers.py")
    for line, kind, name in includes(read(file)):
        complaint = check_any(name)
        if complaint is None and inside and relative.parts[0] in ALLOWED:
            complaint = check_src(relative, kind, name, root)
        if complaint is None and relative.parts[0] in OUTSIDE and not inside:
            complaint = check_outside(file, kind, name, root)
        if complaint is not None:
            errors.append(f"{file.relative_to(root)}:{line}: {complaint}")
    return errors


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    files = c_files(root, ["include", "src", *OUTSIDE, "tests", "bench"])
    errors = [error for file in files for error in check_file(file, root)]
    print("\n".join(errors), file=sys.stderr, end="\n" if errors else "")
    print(f"layers: {len(files)} files, {len(errors)} complaints")
    if not files:
        print("layers: no C files found", file=sys.stderr)
    return 1 if errors or not files else 0


if __name__ == "__main__":
    sys.exit(main())
