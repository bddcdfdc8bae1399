"""The checkers of `make style` catch what they promise to: one small bad tree per rule, and a good one that passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"

DOOR = "/* Splits.\n *\n * Errors   none.\n */\n#ifndef MLY_CHUNK_CHUNK_H\n#define MLY_CHUNK_CHUNK_H\n\n{}\n#endif\n"
GOOD = {
    "src/chunk/chunk.h": DOOR.format("/* Splits. */\nint mly_chunk_split(void);\nint mly_chunk_count(void);\n"),
    "src/chunk/split.c": '#include "chunk/chunk.h"\n\nint mly_chunk_split(void)\n{\n    return 0;\n}\n',
    "src/flow/flow.h": "#ifndef MLY_FLOW_FLOW_H\n#define MLY_FLOW_FLOW_H\n#endif\n".join(["/* Goods. */\n", ""]),
    "src/store/store.h": "/* Stores. */\n#ifndef MLY_STORE_STORE_H\n#define MLY_STORE_STORE_H\n#endif\n",
    "src/store/store_int.h": "#ifndef MLY_STORE_STORE_INT_H\n#define MLY_STORE_STORE_INT_H\n#endif\n",
    "include/memalloy.h": "/* All. */\n#ifndef MEMALLOY_H\n#define MEMALLOY_H\n#endif\n",
    "cli/main.c": "#include <memalloy.h>\n\nint main(void)\n{\n    return 0;\n}\n",
}


def run_tool(tool: str, tree: Path, files: dict[str, str], *options: str) -> tuple[int, str]:
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run([sys.executable, str(TOOLS / tool), *options, str(tree)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("tool", ["check_layers.py", "check_style.py"])
def test_a_good_tree_passes(tool: str, tmp_path: Path) -> None:
    code, output = run_tool(tool, tmp_path / "a tree", GOOD)
    assert code == 0, output


@pytest.mark.parametrize("tool", ["check_layers.py", "check_style.py"])
def test_an_empty_tree_is_no_pass(tool: str, tmp_path: Path) -> None:
    assert run_tool(tool, tmp_path, {})[0] == 1


LAYERS = {
    "a neighbour on the line": ("src/chunk/a.c", '#include "store/store.h"\n', "chunk may not include store"),
    "the floor looks up": ("src/flow/goods.h", '#include "chunk/chunk.h"\n', "flow may not include chunk"),
    "a private header": ("src/engine/a.c", '#include "store/store_int.h"\n', "private to store"),
    "climbing": ("src/chunk/a.c", '#include "../flow/flow.h"\n', "climbs"),
    "climbing in a test": ("tests/unit/chunk/a.c", '#include "../../src/flow/flow.h"\n', "climbs"),
    "a .c file": ("tests/unit/chunk/a.c", '#include "chunk/split.c"\n', "is a .c file"),
    "the public header inside": ("src/chunk/a.c", "#include <memalloy.h>\n", "is for engine"),
    "the inside in the command": ("cli/a.c", '#include "chunk/chunk.h"\n', "is inside"),
    "the inside in the extension": ("python/src/a.c", '#include "flow/flow.h"\n', "is inside"),
    "the inside in an example": ("examples/a.c", "#include <flow/flow.h>\n", "is inside"),
    "an unknown room": ("src/attic/a.c", "int mly_attic;\n", "room attic is not in the table"),
    "a name from its own folder": ("src/chunk/a.c", '#include "chunk.h"\n', "counts from its own folder"),
}


@pytest.mark.parametrize("case", LAYERS)
def test_the_layer_checker_catches(case: str, tmp_path: Path) -> None:
    name, text, complaint = LAYERS[case]
    code, output = run_tool("check_layers.py", tmp_path, {**GOOD, name: text})
    assert code == 1
    assert f"{name}:1: " in output and complaint in output
    assert "1 complaints" in output


def test_the_layer_checker_leaves_comments_alone(tmp_path: Path) -> None:
    text = '/*\n#include "store/store.h"\n*/\n// #include "../x.h"\n#include "flow/flow.h"\n'
    assert run_tool("check_layers.py", tmp_path, {**GOOD, "src/chunk/a.c": text})[0] == 0


def call(text: str) -> str:
    return f"void f(void);\nvoid f(void)\n{{\n    {text};\n}}\n"


LONG_FUNCTION = "int f(int a,\n      int b)\n{\n" + "    a += b;\n" * 67 + "    return a;\n}\n"
OPEN_END = "TO" + "DO"
STYLE = {
    "a long file": ("src/chunk/a.c", "int x;\n" * 601, 601, "601 lines"),
    "a long Python file": ("tools/a.py", "x = 1\n" * 601, 601, "601 lines"),
    "a long function": ("src/chunk/a.c", "\n/* Why. */\n" + LONG_FUNCTION, 3, "function f has 72 lines"),
    "a long line": ("cli/a.c", "int x;" + " " * 94 + "\n" + "int y;" + " " * 95 + "\n", 2, "101 columns"),
    "strcpy in a test": ("tests/unit/a.c", call('strcpy(a, "b")'), 4, "strcpy is banned"),
    "atoi in the command": ("cli/a.c", call('atoi("1")'), 4, "atoi is banned"),
    "malloc in a room": ("src/chunk/a.c", call("malloc(1)"), 4, "malloc is banned outside base/mem.c"),
    "free in a room": ("src/chunk/a.c", call("free(p)"), 4, "free is banned outside base/mem.c"),
    "printf in a room": ("src/chunk/a.c", call('printf("x")'), 4, "printf is banned in src/"),
    "abort in a room": ("src/os/a.c", call("abort()"), 4, "abort is banned in src/"),
    "assert on foreign bytes": ("src/store/a.c", call("assert(1)"), 4, "assert is banned in store"),
    "the date of the build": ("src/chunk/a.c", "const char *d = __DATE__;\n", 1, "__DATE__"),
    "a system header": ("src/store/a.c", "#include <unistd.h>\n", 1, "<unistd.h> belongs to os/"),
    "a system header of a folder": ("src/store/a.c", "#include <sys/stat.h>\n", 1, "<sys/stat.h> belongs to os/"),
    "a system call": ("src/store/a.c", call("getenv(name)"), 4, "getenv is a system call"),
    "_GNU_SOURCE in a room": ("src/chunk/a.c", "#define _GNU_SOURCE\n", 1, "_GNU_SOURCE is for os/ only"),
    "_GNU_SOURCE by meson": ("src/chunk/meson.build", "c_args: '-D_GNU_SOURCE'\n", 1, "_GNU_SOURCE is for os/ only"),
    "no guard": ("src/chunk/a.h", "int x;\n", 1, "no header guard"),
    "another guard": ("src/chunk/a.h", "#ifndef A_H\n#define A_H\n#endif\n", 1, "header guard A_H"),
    "a half guard": ("src/chunk/a.h", "#ifndef MLY_CHUNK_A_H\n#define MLY_CHUNK_B_H\n#endif\n", 1, "no header guard"),
    "a bare declaration in a door": (
        "src/chunk/chunk.h", DOOR.format("/* One. */\nint a(void);\n\nint b(void);\n"), 11, "without a comment: int b(void);",
    ),
    "a door without its lines": (
        "src/store/store.h", "#ifndef MLY_STORE_STORE_H\n#define MLY_STORE_STORE_H\n#endif\n", 1, "opens with a comment",
    ),
    "a name twice": ("src/store/split.c", "int x;\n", 1, "the name split.c is taken"),
    "an open end in C": ("src/chunk/a.c", f"int x; /* {OPEN_END}: y */\n", 1, OPEN_END),
    "an open end in a page": ("docs/A.md", f"# A\n\n{OPEN_END} write\n", 3, OPEN_END),
    "a header that leans on others": (
        "src/chunk/a.h", "#ifndef MLY_CHUNK_A_H\n#define MLY_CHUNK_A_H\nsize_t x(void);\n#endif\n", 1, "does not compile alone",
    ),
}


@pytest.mark.parametrize("case", STYLE)
def test_the_style_checker_catches(case: str, tmp_path: Path) -> None:
    name, text, line, complaint = STYLE[case]
    code, output = run_tool("check_style.py", tmp_path, {**GOOD, name: text})
    assert code == 1
    assert any(row.startswith(f"{name}:{line}: ") and complaint in row for row in output.splitlines()), output
    assert "1 complaints" in output


FINE = {
    "base/mem.c allocates": ("src/base/mem.c", call("free(malloc(1))")),
    "os/ calls the system": ("src/os/a.c", "#define _GNU_SOURCE\n#include <unistd.h>\n" + call("close(1)")),
    "a member of that name": ("src/store/a.c", call("env->open(env.close(1), .read = 1)")),
    "a comment or a string of that name": ("src/store/a.c", '/* free(x) */ const char *s = "printf(1)"; // atoi(\n'),
    "the command prints": ("cli/a.c", "#include <unistd.h>\n" + call('printf("x")')),
    "a generated table": ("src/token/x_tables.c", "int x;" + " " * 200 + "\n" * 700),
    "a function of 70 lines": ("src/chunk/a.c", LONG_FUNCTION.replace("    a += b;\n", "", 2)),
    "a file of 600 lines": ("src/chunk/a.c", "int x;\n" * 600),
    "100 wide characters": ("src/chunk/a.c", "// " + "ä" * 97 + "\n"),
    "extern C and a forward declaration in a door": (
        "src/chunk/chunk.h", DOOR.format('#ifdef __cplusplus\nextern "C" {\n#endif\n\nstruct a;\n\n/* One. */\nint b(void);\n\n'
                                         "#ifdef __cplusplus\n}\n#endif\n"),
    ),
    "a blank line inside a struct of a door": (
        "src/chunk/chunk.h", DOOR.format("/* One. */\nstruct a {\n    int b;\n\n    int c;\n};\n"),
    ),
}


@pytest.mark.parametrize("case", FINE)
def test_the_style_checker_lets_pass(case: str, tmp_path: Path) -> None:
    name, text = FINE[case]
    code, output = run_tool("check_style.py", tmp_path, {**GOOD, name: text})
    assert code == 0, output
