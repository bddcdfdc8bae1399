"""Branch coverage of rooms, as gcov counts it.

    coverage.py BUILD ROOM...         BUILD: meson setup -Dtests=true -Db_coverage=true
                                      -Doptimization=0; its tests have run
    coverage.py --run BUILD ROOM...   runs the rooms' tests first: its own unit tests, and those
                                      of other rooms that are named in ALSO
    coverage.py --missed BUILD ...    names every branch that was never taken, with its line
    coverage.py --check BUILD ...     fails where a room has less than 95 %, where a branch that
                                      was never taken is not in tools/coverage_spare.txt with the
                                      reason why it stays, and where a line of that list is stale

A branch counts once, wherever its file was compiled; what the compiler adds (exceptions) does not
count.
"""

import argparse
import concurrent.futures
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

LIMIT = 95.0
ROOT = pathlib.Path(__file__).resolve().parent.parent
SPARE = ROOT / "tools" / "coverage_spare.txt"
# Tests of other rooms that a room's branches are for.
ALSO = {"store": ["engine/test_engine_index", "search/test_search_exact",
                  "search/test_search_index_cuts", "search/test_search_index_faults"]}
# Leaving out each sync in turn takes half an hour, and no branch more.
FILTERS = {"test_store_crash": ["every_power*"]}


def read_counts(build, room, gcov):
    """{source: {(line, number of the branch): times taken}}, {source: {line: times run}}"""
    branches, lines = {}, {}
    for data in sorted(build.glob(f"src/{room}/*.p/*.gcda")):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([gcov, "--json-format", "--branch-probabilities", str(data.resolve())],
                           cwd=folder, check=True, stdout=subprocess.DEVNULL)
            for name in pathlib.Path(folder).glob("*.json.gz"):
                report = json.loads(gzip.decompress(name.read_bytes()))
                for file in report["files"]:
                    path = pathlib.Path(report["current_working_directory"], file["file"]).resolve()
                    if path.parent != ROOT / "src" / room:
                        continue
                    of_file = branches.setdefault(path.name, {})
                    of_lines = lines.setdefault(path.name, {})
                    for line in file["lines"]:
                        number = line["line_number"]
                        of_lines[number] = of_lines.get(number, 0) + line["count"]
                        for i, branch in enumerate(line["branches"]):
                            if not branch["throw"]:
                                key = (number, i)
                                of_file[key] = of_file.get(key, 0) + branch["count"]
    return branches, lines


def run_test(test, build):
    done = subprocess.run([test.resolve(), *FILTERS.get(test.name, [])], cwd=build,
                          env={"MLY_TEST_STEP": "1", **os.environ}, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False)
    return f"{test.parent.name}/{test.name}: {'ok' if done.returncode == 0 else 'FAILED'}"


def run_tests(build, room):
    """A test that fails says so, and counts all the same: coverage is no verdict."""
    for data in build.glob(f"src/{room}/*.p/*.gcda"):
        data.unlink()
    unit = build / "tests" / "unit"
    tests = [test for test in sorted((unit / room).glob("test_*"))
             if test.is_file() and not test.suffix]
    tests += [unit / name for name in ALSO.get(room, [])]
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for line in pool.map(lambda test: run_test(test, build), tests):
            print(line, flush=True)


# ---- the list of what is never taken


def read_spare():
    """{(room/file, text of the line): does it depend on the moment?}; every line has a reason."""
    spare, reason = {}, None
    for number, line in enumerate(SPARE.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("reason:"):
            reason = line.removeprefix("reason:").strip()
            continue
        place, bar, text = line.partition(" | ")
        if not bar or not reason:
            sys.exit(f"coverage: {SPARE.name}:{number} is neither a reason nor 'file | line'")
        spare[place.removeprefix("~").strip(), text.strip()] = place.startswith("~")
    return spare


def check_spare(room, branches):
    """What is wrong with the list, as lines to print."""
    spare = read_spare()
    missed, there = {}, set()
    for name, of_file in branches.items():
        text = (ROOT / "src" / room / name).read_text().splitlines()
        there |= {(f"{room}/{name}", line.strip()) for line in text}
        for (number, _), count in of_file.items():
            if count == 0:
                missed.setdefault((f"{room}/{name}", text[number - 1].strip()), number)
    wrong = [f"{place}:{number}: never taken and not listed: {text}"
             for (place, text), number in sorted(missed.items()) if (place, text) not in spare]
    for (place, text), depends in spare.items():
        if not place.startswith(f"{room}/") or (place, text) in missed:
            continue
        if (place, text) not in there:
            wrong.append(f"{SPARE.name} is stale: {place} has no line any more: {text}")
        elif not depends:
            wrong.append(f"{SPARE.name} is stale: {place}: is taken by now: {text}")
    return wrong


def print_missed(room, name, branches, lines):
    text = (ROOT / "src" / room / name).read_text().splitlines()
    for number in sorted({line for (line, _), count in branches.items() if count == 0}):
        of_line = [count for (line, _), count in sorted(branches.items()) if line == number]
        never = [str(i) for i, count in enumerate(of_line) if count == 0]
        what = f"branch {', '.join(never)} of {len(of_line)}"
        if lines.get(number, 0) == 0:
            what = "never run"
        print(f"    {name}:{number}: {what}: {text[number - 1].strip()}")


def main():
    parser = argparse.ArgumentParser(description="branch coverage of rooms")
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("rooms", nargs="+")
    parser.add_argument("--run", action="store_true", help="run the rooms' unit tests first")
    parser.add_argument("--missed", action="store_true", help="name the branches not taken")
    parser.add_argument("--check", action="store_true",
                        help=f"fail below {LIMIT:g} %% and where the list is wrong")
    parser.add_argument("--gcov", default="gcov")
    arguments = parser.parse_args()
    wrong = []
    for room in arguments.rooms if arguments.run else []:
        run_tests(arguments.build, room)
    for room in arguments.rooms:
        branches, lines = read_counts(arguments.build, room, arguments.gcov)
        if not branches:
            sys.exit(f"coverage: no counts of {room} in {arguments.build}: have its tests run?")
        total = taken = 0
        for name in sorted(branches):
            of_file = branches[name]
            hit = sum(count > 0 for count in of_file.values())
            total += len(of_file)
            taken += hit
            if of_file:
                share = 100 * hit / len(of_file)
                print(f"{room}/{name:<28} {hit:5} of {len(of_file):5} {share:6.1f} %")
            if arguments.missed:
                print_missed(room, name, of_file, lines[name])
        share = 100 * taken / total
        if share < LIMIT:
            wrong.append(f"{room}: {share:.1f} %, the least is {LIMIT:g} %")
        wrong += check_spare(room, branches) if arguments.check else []
        print(f"{room:<34} {taken:5} of {total:5} {share:6.1f} % of branches")
        if not arguments.check:
            open_ones = sum("not listed" in line for line in check_spare(room, branches))
            print(f"{room}: {open_ones} lines with branches that are never taken have no reason "
                  f"in {SPARE.name} yet")
    if arguments.check:
        print("\n".join(wrong) or "every branch is taken or listed with a reason")
    return 1 if wrong and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
