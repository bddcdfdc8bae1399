"""A private copy of an installed onnxruntime that is told it runs on a processor with AVX2 and nothing newer.

In: the package's folder, a folder of ours. Out: PYTHONPATH and LD_PRELOAD of a process that shall use the copy. The
library has no switch for this. Every `cpuid` in the copy's shared libraries becomes an instruction that does not exist,
and no_avx512.c, preloaded, answers it with the bits of AVX-512, VNNI and AMX taken out. Needs objdump and a C compiler.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPUID, UNKNOWN = b"\x0f\xa2", b"\x06\xa2"


def sections(library):
    """(address, file offset, bytes) of the sections."""
    shown = subprocess.run(["objdump", "-h", str(library)], capture_output=True, text=True, check=True).stdout
    for line in shown.splitlines():
        fields = line.split()
        if len(fields) >= 7 and fields[0].isdigit():
            yield int(fields[3], 16), int(fields[5], 16), int(fields[2], 16)


def mask(library):
    """Replaces the cpuid instructions that the disassembler finds; how many."""
    table = list(sections(library))
    content = bytearray(library.read_bytes())
    count = 0
    with subprocess.Popen(["objdump", "-d", "-w", str(library)], stdout=subprocess.PIPE, text=True) as shown:
        for line in shown.stdout:
            found = re.match(r"\s*([0-9a-f]+):\t0f a2\s+\tcpuid", line)
            if not found:
                continue
            address = int(found.group(1), 16)
            for start, offset, size in table:
                if start <= address < start + size:
                    place = address - start + offset
                    assert content[place : place + 2] == CPUID, f"{library}: no cpuid at {place}"
                    content[place : place + 2] = UNKNOWN
                    count += 1
                    break
    library.write_bytes(content)
    return count


def make(package, folder):
    """The environment that selects the copy, made where it is not there yet."""
    package, folder = Path(package), Path(folder)
    shim, copy = folder / "no_avx512.so", folder / "onnxruntime"
    stamp = folder / "done"
    wanted = f"{package} {package.stat().st_mtime_ns} {(HERE / 'no_avx512.c').stat().st_mtime_ns}"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", str(shim), str(HERE / "no_avx512.c")]
        subprocess.run(command, check=True)
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "libonnxruntime.so*", "tools"))
        masked = sum(mask(library) for library in copy.glob("capi/*.so"))
        if masked == 0:
            raise RuntimeError("no cpuid instruction was found in onnxruntime")
        stamp.write_text(wanted)
    return {"PYTHONPATH": str(folder), "LD_PRELOAD": str(shim)}
