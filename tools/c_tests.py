"""Runs the C tests of a meson build folder and counts every single cmocka test in them.

meson itself counts programs; here the programs that meson registered are started one by one, each told to write its
cmocka report as XML. A program that writes none is one test, judged by its exit code (77: skipped). A test that
skips itself says why before it does, by print_message("skip: ..."); one that counts what it did says so by
print_message("ran: ...").
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from test_results import FAILED, PASSED, SKIPPED, Result, last_lines, parse_junit, run

EXIT_SKIPPED = 77
TIMEOUT_S_MIN = 120.0  # meson's default of 30 s is too short for a machine that does other work beside

# Each takes longer than all small ones together. They are started first, so that no core waits for the last of them,
# and a second compiler's build does without them: what it makes of the same code shows in all the others.
HEAVY = {
    "store/crash", "store/fault", "store/door", "store/readings", "fault/engine", "fault/sync", "engine/index", "engine/convert",
    "index/select", "index/damage", "token/kinds", "log/damage", "index/ivfpq", "embed/damage", "chunk/pack",
}

# Bytes that XML 1.0 does not allow even in CDATA; an assertion may well print some.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def build(folder: str, options: list[str], env: dict[str, str]) -> Result:
    """Configures and builds; the result is a test of its own, as the build must be free of warnings under werror."""
    code, output = run(["tools/build.sh", folder, *options], timeout_s=1800, env=env)
    return Result(f"build {folder}", PASSED) if code == 0 else Result(f"build {folder}", FAILED, last_lines(output))


def listed_tests(folder: str, without_suites: set[str], only_suites: set[str] | None) -> list[dict]:
    listing = Path(folder, "meson-info", "intro-tests.json")
    if not listing.exists():
        return []
    tests = json.loads(listing.read_text())
    for test in tests:
        test["suites"] = {suite.split(":")[-1] for suite in test["suite"]}
    return [
        test for test in tests
        if not test["suites"] & without_suites and (only_suites is None or test["suites"] & only_suites)
    ]


def read_report(text: str, prefix: str, skip_reasons: list[str]) -> list[Result]:
    try:
        return parse_junit(NOT_XML.sub("?", text), prefix, skip_reasons)
    except ElementTree.ParseError as error:
        return [Result(prefix, FAILED, f"its report cannot be read: {error}")]


def run_program(test: dict, env: dict[str, str], patience: float, before: list[str]) -> list[Result]:
    name = test["name"]
    with tempfile.TemporaryDirectory(prefix="memalloy-test-") as scratch:
        own_env = {**env, **test.get("env", {})}
        own_env["CMOCKA_MESSAGE_OUTPUT"] = "XML"
        own_env["CMOCKA_XML_FILE"] = f"{scratch}/%g.xml"
        timeout_s = max(float(test.get("timeout") or 0), TIMEOUT_S_MIN) * patience
        code, output = run([*before, *test["cmd"]], timeout_s=timeout_s, env=own_env, cwd=test.get("workdir"))
        reports = [path.read_text(errors="replace") for path in sorted(Path(scratch).glob("*.xml"))]
    # A second group of the same name cannot have the file and is printed instead.
    reports += re.findall(r"<testsuites>.*?</testsuites>", output, re.DOTALL)
    skip_reasons = [line.split("skip:", 1)[1].strip() for line in output.splitlines() if line.startswith("skip:")]
    results = [result for report in reports for result in read_report(report, name, skip_reasons)]
    if not results:
        if code == EXIT_SKIPPED:
            return [Result(name, SKIPPED, "; ".join(skip_reasons) or last_lines(output))]
        return [Result(name, PASSED) if code == 0 else Result(name, FAILED, f"exit code {code}\n{last_lines(output)}")]
    ran = [line.split("ran:", 1)[1].strip() for line in output.splitlines() if line.startswith("ran:")]
    if ran:
        results[0] = replace(results[0], ran="; ".join(ran))
    if code != 0 and not any(result.status == FAILED for result in results):
        # A leak found at exit, a sanitizer's complaint, a crash between two groups.
        results.append(Result(f"{name} (the program)", FAILED, f"exit code {code}\n{last_lines(output)}"))
    return results


def run_folder(folder: str, env: dict[str, str], *, patience: float = 1.0, without_suites: set[str] | None = None,
               only_suites: set[str] | None = None, before: list[str] | None = None, without_heavy: bool = False) -> list[Result]:
    """All tests of a folder, as many programs at a time as there are cores; those that meson must not run beside
    others come last, alone."""
    tests = listed_tests(folder, without_suites or set(), only_suites)
    if not tests:
        return [Result(f"C tests of {folder}", FAILED, "no tests are registered there")]
    if without_heavy:
        gone = HEAVY - {test["name"] for test in listed_tests(folder, set(), None)}
        if gone:
            return [Result(f"C tests of {folder}", FAILED, f"HEAVY names what is not there: {', '.join(sorted(gone))}")]
        tests = [test for test in tests if test["name"] not in HEAVY]
    tests.sort(key=lambda test: test["name"] not in HEAVY)
    beside = [test for test in tests if test.get("is_parallel", True)]
    alone = [test for test in tests if not test.get("is_parallel", True)]
    results: list[Result] = []
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(lambda test: run_program(test, env, patience, before or []), beside):
            results += found
    for test in alone:
        results += run_program(test, env, patience, before or [])
    return results


def fixed_addresses() -> list[str]:
    """ThreadSanitizer of gcc 12 cannot map its shadow where the kernel spreads addresses too widely; setarch -R turns
    that off where it is allowed."""
    command = ["setarch", platform.machine(), "-R"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        allowed = False
    return command if allowed else []
