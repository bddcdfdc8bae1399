"""The stubs say what the module is: the same names, the same parameters, the same defaults."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import memalloy
import pytest
from memalloy import _memalloy

STUB = Path(memalloy.__file__).with_name("_memalloy.pyi")
TREE = ast.parse(STUB.read_text())


def stub_names(body):
    names = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.setdefault(node.name, node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.setdefault(node.target.id, node)
    return {name: node for name, node in names.items() if not (name.startswith("_") and not name.startswith("__"))}


def test_the_package_is_typed():
    assert STUB.with_name("py.typed").is_file()


def test_the_names_of_the_module_are_the_stubs():
    module = {name for name in vars(_memalloy) if not name.startswith("_")} | {"__version__"}
    assert set(stub_names(TREE.body)) == module
    assert set(memalloy.__all__) == module | {
        "AsyncRAGKernel", "Call", "FileWatcher", "FolderWatch", "PyDocument", "PyChunkingStrategy", "PyFileWatcher",
        "WatchEvent", "aopen", "embed_iter", "models",
    }
    for name in memalloy.__all__:
        assert hasattr(memalloy, name)


def classes():
    return [node for node in TREE.body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("node", classes(), ids=lambda node: node.name)
def test_the_members_of_a_class_are_the_stubs(node):
    actual = getattr(_memalloy, node.name)
    if issubclass(actual, Exception):
        bases = [ast.unparse(base) for base in node.bases]
        assert [base.__name__ for base in actual.__bases__] == bases
        return
    inherited = {"__buffer__"} if sys.version_info < (3, 12) else set()
    declared = set(stub_names(node.body)) - inherited
    for name in declared:
        assert hasattr(actual, name), name
    public = {name for name in vars(actual) if not name.startswith("_")}
    if issubclass(actual, tuple):
        public -= {"n_fields", "n_sequence_fields", "n_unnamed_fields"}
    assert public == {name for name in declared if not name.startswith("_")}


def functions():
    for node in TREE.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield pytest.param(node, getattr(_memalloy, node.name), id=node.name)
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if not isinstance(method, ast.FunctionDef):
                    continue
                kinds = {ast.unparse(decorator) for decorator in method.decorator_list}
                if kinds & {"property", "overload"} or (method.name.startswith("__") and method.name not in ("__init__", "__new__")):
                    continue
                owner = getattr(_memalloy, node.name)
                target = owner if method.name in ("__init__", "__new__") else getattr(owner, method.name)
                yield pytest.param(method, target, id=f"{node.name}.{method.name}")


@pytest.mark.parametrize("node, target", list(functions()))
def test_parameters_and_defaults_are_the_stubs(node, target):
    signature = [
        (name, parameter.kind, parameter.default)
        for name, parameter in inspect.signature(target).parameters.items()
        if name not in ("self", "cls")
    ]
    arguments = node.args
    plain = arguments.posonlyargs + arguments.args
    defaults = [inspect.Parameter.empty] * (len(plain) - len(arguments.defaults)) + [
        ast.literal_eval(value) for value in arguments.defaults
    ]
    declared = [
        (
            argument.arg,
            inspect.Parameter.POSITIONAL_ONLY
            if argument in arguments.posonlyargs and "self" in [a.arg for a in arguments.posonlyargs]
            else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default,
        )
        for argument, default in zip(plain, defaults)
        if argument.arg not in ("self", "cls")
    ] + [
        (argument.arg, inspect.Parameter.KEYWORD_ONLY, ast.literal_eval(default))
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
    ]
    assert signature == declared
    assert target.__doc__


def test_mypy_finds_stub_and_module_in_agreement(tmp_path):
    pytest.importorskip("mypy")
    environment = {**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    # The buffer protocol has no method to be seen before 3.12; which bases clash is for newer checkers only.
    known = tmp_path / "known"
    known.write_text("memalloy._memalloy.Vectors.__buffer__\nmemalloy._memalloy.RAGKernel\n")
    options = ["--concise", "--allowlist", str(known), "--ignore-unused-allowlist"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "memalloy._memalloy", *options],
        capture_output=True, text=True, env=environment, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_typed_program_passes_strict(tmp_path):
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "import array\n"
        "from pathlib import Path\n"
        "import memalloy\n"
        "def main(folder: Path) -> list[str]:\n"
        "    with memalloy.open(folder / 'kb', threads=2) as kb:\n"
        "        kb.sync(folder, include=['*.md'], progress=lambda p: print(p.stage, p.files_done))\n"
        "        made: str = kb.add_document('text', {'a': [1, None]})\n"
        "        kb.add_vectors(['a'], [array.array('f', [1.0])], ids=[None])\n"
        "        for document, score in kb.search('text', top_k=3):\n"
        "            print(document.id, score)\n"
        "        hit = kb.search('text')[0]\n"
        "        first: int = hit.spans.lines[0] if hit.spans.lines else 0\n"
        "        rows: list[list[float]] = memalloy.embed(['a']).tolist()\n"
        "        view = memoryview(memalloy.embed(['a']))\n"
        "        kb.set_chunking_strategy(memalloy.PyChunkingStrategy.fixed(100, 0))\n"
        "        print(made, first, rows, view.nbytes, memalloy.tokenize('a', special_tokens=True))\n"
        "        return [d.content for d in kb.list_documents(limit=3)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)],
        capture_output=True, text=True, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
