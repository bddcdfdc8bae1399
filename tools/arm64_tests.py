"""The C tests on arm64, under qemu: a cross build, then what an emulator runs in a minute.

What tools/setup_arm64.sh brings must be there; else one skipped test says so.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import c_tests
from test_results import PASSED, SKIPPED, Result

ROOT = Path(__file__).resolve().parent.parent
CROSS = ROOT / ".arm64" / "cross.ini"
FOLDER = "build-arm64"
# Too long for an emulator unless one is patient; that they pass on other processors says enough about their C.
PATIENT = {
    "embed/golden", "embed/precision", "index/cells", "index/fold", "lance/clean", "lance/corrupt", "lance/put", "log/crash",
} | c_tests.HEAVY
PATIENT_ROOMS = {"crash", "engine", "fault", "store"}
# Of the engine's tests, the one that holds what every machine must compute.
KNOWN_MODEL = {"embed/embedder": "the_vectors_of_a_known_model_are_known"}


def processor(name: str) -> list[str]:
    return ["qemu-aarch64", "-cpu", name, "-L", str(CROSS.parent / "root")]


def run_all(env: dict[str, str]) -> list[Result]:
    if shutil.which("qemu-aarch64") is None or shutil.which("aarch64-linux-gnu-gcc") is None or not CROSS.exists():
        return [Result("arm64", SKIPPED, "no cross compiler, emulator or libraries for arm64: make setup-arm64")]
    built = c_tests.build(FOLDER, ["-Dtests=true", "-Dwerror=true", "--cross-file", str(CROSS)], env)
    if built.status != PASSED:
        return [built]
    patient = bool(os.environ.get("MEMALLOY_TEST_LONG"))
    tests = c_tests.listed_tests(FOLDER, set() if patient else {"slow"}, None)
    # The programs of ours alone: scripts would be run by the emulator too.
    tests = [test for test in tests if test["cmd"][0].startswith(str(ROOT / FOLDER))]
    jobs = []
    for test in tests:
        if not patient and (test["name"] in PATIENT or test["name"].split("/")[0] in PATIENT_ROOMS):
            continue
        filters = {} if patient else {"CMOCKA_TEST_FILTER": KNOWN_MODEL.get(test["name"], "")}
        own = {**env, "MLY_TEST_EXPECT_SET": "neon", "MLY_TEST_EMULATED": "1", **{name: value for name, value in filters.items() if value}}
        jobs.append((test, own, processor("max")))
    # A processor of 2012 has no dot product of bytes and must be given the portable set.
    jobs += [
        ({**test, "name": "kern/pick on cortex-a53"}, {**env, "MLY_TEST_EXPECT_SET": "scalar"}, processor("cortex-a53"))
        for test in tests if test["name"] == "kern/pick"
    ]
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        found = pool.map(lambda job: c_tests.run_program(job[0], job[1], 20.0 if patient else 1.0, job[2]), jobs)
    return [built, *(result for results in found for result in results)]
