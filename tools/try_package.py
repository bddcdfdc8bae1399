"""Run by the wheel test with the interpreter of an otherwise empty environment: is the installed package whole?

    python -I tools/try_package.py CHECKOUT

Nothing here may read the checkout; its path is given only to make sure of that.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import memalloy

checkout = Path(sys.argv[1]).resolve()
home = Path(memalloy.__file__).resolve().parent
assert not home.is_relative_to(checkout), f"imported from the checkout: {home}"

# No dependency, the licences, the stubs, the model.
package = distribution("memalloy")
assert not package.requires, f"it wants {package.requires}"
names = {Path(file).name for file in package.files or []}
assert {"LICENSE", "NOTICE", "py.typed"} <= names, f"missing among {sorted(names)}"
assert (home / "models" / "all-minilm-l6-v2.safetensors").is_file(), "the model is not in the package"

# One build serves CPython 3.11 and later.
extensions = [Path(file).name for file in package.files or [] if Path(file).suffix == ".so"]
assert extensions and all(".abi3." in name for name in extensions), f"not abi3: {extensions}"

# It embeds, stores and finds, and so does the command, each without being told where the model is.
with tempfile.TemporaryDirectory(prefix="memalloy try ") as scratch:
    notes = Path(scratch, "notes")
    notes.mkdir()
    (notes / "tea.md").write_text("# Tea\n\nGreen tea is steeped for two minutes at 75 degrees.\n")
    (notes / "bikes.md").write_text("# Bicycles\n\nA chain is oiled after every ride in the rain.\n")
    with memalloy.open(Path(scratch, "kb")) as kernel:
        kernel.sync(notes)
        assert kernel.count() == 2, f"{kernel.count()} documents, expected 2"
        hit = kernel.search("how long does tea brew?", top_k=1)[0]
        assert "two minutes" in hit.content, hit.content
    command = Path(sysconfig.get_path("scripts"), "memalloy")
    assert command.is_file(), "the command is not installed"
    done = subprocess.run(
        [command, "search", "--db", str(Path(scratch, "kb")), "how long does tea brew?"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )
    assert done.returncode == 0 and "two minutes" in done.stdout, f"{done.returncode}: {done.stdout}{done.stderr}"
print("the installed package works")
