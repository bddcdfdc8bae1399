#!/usr/bin/env python3
"""Runs the suites of a tier and closes with one line: N passed, N failed, N skipped.

    .venv/bin/python tools/run_tests.py check|test|long|style|asan|tsan|clang|arm64

Every single test is counted, whether cmocka, pytest or a checker ran it. A suite that crashes or runs nothing is a
failure. What tests counted stands below their suite, the reasons for what was skipped above the last line. What the
tiers hold: docs/TESTING.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import arm64_tests
import c_tests
from test_results import FAILED, PASSED, SKIPPED, Clock, Result, last_lines, parse_junit, run, run_one

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")
MODEL = ROOT / "models" / "all-minilm-l6-v2.safetensors"

SANITIZE = ["-Dtests=true", "-Dbuildtype=debugoptimized", "-Db_ndebug=false", "-Dwerror=true"]


def environment(**more: str) -> dict[str, str]:
    """The caller's, with our tools first and without what would change what is tested."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MEMALLOY_", "PYTHON", "MAKE", "MFLAGS"))}
    for name in ("MEMALLOY_TEST_LONG",):
        if name in os.environ:
            env[name] = os.environ[name]
    env["PATH"] = f"{VENV / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    return {**env, **more}


def c_sources() -> list[str]:
    """Every C file of ours but generated tables."""
    folders = ["include", "src", "cli", "python", "examples", "tests", "bench"]
    found = [path for folder in folders for ending in ("*.c", "*.h") for path in sorted(Path(folder).rglob(ending))]
    return [str(path) for path in found if not path.name.endswith("_tables.c")]


def style() -> list[Result]:
    files = c_sources()
    formatter = str(VENV / "bin" / "clang-format")
    return [
        run_one(f"clang-format, {len(files)} files", [formatter, "--dry-run", "-Werror", "--ferror-limit=3", *files], timeout_s=300),
        run_one("layers", [PYTHON, "tools/check_layers.py"], timeout_s=120),
        run_one("style rules", [PYTHON, "tools/check_style.py"], timeout_s=300),
    ]


def gcc() -> list[Result]:
    """The build that the C tests below are taken from; a program that is left from an older build must not pass."""
    built = c_tests.build("build", ["-Dtests=true"], environment())
    if built.status != PASSED:
        Path("build", "meson-info", "intro-tests.json").unlink(missing_ok=True)
    return [built]


def install() -> list[Result]:
    return [run_one("the package builds and goes into .venv", [PYTHON, "tools/install_dev.py"], timeout_s=1800, env=environment())]


def c_unit() -> list[Result]:
    return c_tests.run_folder("build", environment(), without_suites={"golden"} | slow_suites())


def c_light() -> list[Result]:
    """What three minutes allow: without the heaviest, and without those that kill and damage for as long again."""
    return c_tests.run_folder("build", environment(), without_suites={"golden", "crash", "slow"}, without_heavy=True)


def c_golden() -> list[Result]:
    return c_tests.run_folder("build", environment(), only_suites={"golden"}, without_suites=slow_suites())


def slow_suites() -> set[str]:
    return set() if os.environ.get("MEMALLOY_TEST_LONG") else {"slow"}


def pytest() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="memalloy-pytest-") as scratch:
        report = Path(scratch, "report.xml")
        command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={scratch}/tmp", f"--junitxml={report}", "tests"]
        code, output = run(command, timeout_s=3600, env=environment())
        results = parse_junit(report.read_text(), "", []) if report.exists() else []
    if code not in (0, 1) or not results or (code == 1 and all(result.status != FAILED for result in results)):
        results.append(Result("pytest", FAILED, f"exit code {code}\n{last_lines(output)}"))
    return results


def wheel() -> list[Result]:
    """The package as a stranger installs it: pip install . into an empty environment whose path has a space. Build
    isolation takes its tools from .venv/wheels, so that this works offline."""
    env = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=(VENV / "wheels").as_uri(), PIP_DISABLE_PIP_VERSION_CHECK="1")
    env.pop("PIP_REQUIRE_VIRTUALENV", None)
    results = []
    with tempfile.TemporaryDirectory(prefix="memalloy wheel ") as scratch:
        place = Path(scratch, "empty venv")
        code, output = run([PYTHON, "-m", "venv", str(place)], timeout_s=300)
        if code != 0:
            return [Result("an empty virtual environment", FAILED, last_lines(output))]
        python = str(place / "bin" / "python")
        name = "pip install . into an empty virtual environment"
        results.append(run_one(name, [python, "-m", "pip", "install", "--quiet", str(ROOT)], timeout_s=1800, env=env))
        name = "the installed package works alone"
        results.append(run_one(name, [python, "-I", str(ROOT / "tools" / "try_package.py"), str(ROOT)], timeout_s=300, env=env, cwd=Path(scratch)))
        results.append(without_model(python, Path(scratch, "no model"), env))
    return results


def without_model(python: str, copy: Path, env: dict[str, str]) -> Result:
    """Without the model the build stops at once and says what to run."""
    name = "without the model pip install says what to run"
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout.decode().split("\0")
    for file in filter(None, tracked):
        if Path(file).is_file():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy / file)
    clock = Clock()
    code, output = run([python, "-m", "pip", "install", str(copy)], timeout_s=600, env=env)
    if code == 0:
        return Result(name, FAILED, "it was installed all the same")
    if "make model" not in output:
        return Result(name, FAILED, last_lines(output))
    if "[1/" in output:
        return Result(name, FAILED, f"it compiled first ({clock.seconds():.0f} s)")
    return Result(name, PASSED)


def asan() -> list[Result]:
    env = environment(
        ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
        UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
    )
    built = c_tests.build("build-asan", [*SANITIZE, "-Db_sanitize=address,undefined", "-Dc_args=-fno-sanitize-recover=all"], env)
    return [built] + (c_tests.run_folder("build-asan", env, patience=4, without_suites={"slow", "crash"}) if built.status == PASSED else [])


def tsan() -> list[Result]:
    env = environment(TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1")
    built = c_tests.build("build-tsan", [*SANITIZE, "-Db_sanitize=thread"], env)
    if built.status != PASSED:
        return [built]
    return [built] + c_tests.run_folder("build-tsan", env, patience=8, without_suites={"slow", "crash"}, before=c_tests.fixed_addresses())


def clang() -> list[Result]:
    if shutil.which("clang") is None:
        return [Result("clang", SKIPPED, "no clang on this machine: make setup-clang")]
    env = environment(CC="clang")
    built = c_tests.build("build-clang", ["-Dtests=true", "-Dwerror=true"], env)
    if built.status != PASSED:
        return [built]
    patient = bool(os.environ.get("MEMALLOY_TEST_LONG"))
    return [built] + c_tests.run_folder("build-clang", env, without_suites={"slow", "crash"}, without_heavy=not patient)


def arm64() -> list[Result]:
    return arm64_tests.run_all(environment())


Suite = tuple[str, Callable[[], list[Result]]]
STYLE: list[Suite] = [("style", style)]
C_TESTS: list[Suite] = [("build", gcc), ("C unit tests", c_unit), ("C golden tests", c_golden)]
FULL: list[Suite] = [
    *STYLE, *C_TESTS, ("install", install), ("Python, CLI, compat", pytest), ("wheel", wheel), ("ASan and UBSan", asan), ("clang", clang),
    ("arm64 under qemu", arm64),
]
TIERS: dict[str, list[Suite]] = {
    "check": [("build", gcc), ("light C unit tests", c_light), ("C golden tests", c_golden), *STYLE],
    "test": FULL,
    "long": [*FULL, ("TSan", tsan)],
    "style": STYLE,
    "asan": [("ASan and UBSan", asan)],
    "tsan": [("TSan", tsan)],
    "clang": [("clang", clang)],
    "arm64": [("arm64 under qemu", arm64)],
}


def count(results: list[Result], status: str) -> int:
    return sum(result.status == status for result in results)


def run_suite(label: str, suite: Callable[[], list[Result]]) -> list[Result]:
    print(f"{label:<22}", end="", flush=True)
    clock = Clock()
    try:
        results = suite() or [Result(label, FAILED, "it ran nothing")]
    except Exception as error:  # noqa: BLE001 - whatever stops a suite is a failure of that suite, not of the others
        results = [Result(label, FAILED, f"{type(error).__name__}: {error}")]
    parts = [f"{count(results, status):>5} {status}" for status in (PASSED, FAILED, SKIPPED) if count(results, status)]
    print(f"{','.join(parts):<44}{clock.seconds():8.1f} s", flush=True)
    for result in results:
        if result.ran and result.status == PASSED:
            print(f"  {result.name}: {result.ran}", flush=True)
        if result.status == FAILED:
            print(f"  FAILED {result.name}")
            print("\n".join(f"    {line}" for line in result.reason.splitlines()), flush=True)
    return results


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in TIERS:
        print(__doc__, file=sys.stderr)
        return 2
    os.chdir(ROOT)
    tier = sys.argv[1]
    if tier == "long":
        os.environ["MEMALLOY_TEST_LONG"] = "1"
    clock = Clock()
    outcome = [(label, result) for label, suite in TIERS[tier] for result in run_suite(label, suite)]
    for status in (SKIPPED, FAILED):
        chosen = [(label, result) for label, result in outcome if result.status == status]
        if chosen:
            print(f"\n{status}:")
        for label, result in chosen:
            reason = result.reason.splitlines()[0] if result.reason else ""
            print(f"  {label}: {result.name}: {reason}" if status == SKIPPED else f"  {label}: {result.name}")
    results = [result for _, result in outcome]
    print(f"\n{tier}: {clock.seconds():.0f} s")
    print(f"{count(results, PASSED)} passed, {count(results, FAILED)} failed, {count(results, SKIPPED)} skipped")
    return 1 if count(results, FAILED) or not count(results, PASSED) else 0


if __name__ == "__main__":
    sys.exit(main())
