"""Branch coverage of rooms, as gcov counts it.

    coverage.py BUILD ROOM...         BUILD: meson setup -Dtests=true -Db_coverage=true
                                      -Doptimization=0; its tests have run
    coverage.py --run BUILD ROOM...   runs the rooms' own unit tests first
    coverage.py --missed BUILD ...    names every branch that was never taken, with its line

A branch counts once, wherever its file was compiled; what the compiler adds (exceptions) does not
count. Exit code 1 where a room has less than 95 % and --demand is given.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

LIMIT = 95.0


def read_counts(build, room, gcov):
    """{source: {(line, number of the branch): times taken}}, {source: {line: times run}}"""
    branches, lines = {}, {}
    root = pathlib.Path(__file__).resolve().parent.parent
    for data in sorted(build.glob(f"src/{room}/*.p/*.gcda")):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([gcov, "--json-format", "--branch-probabilities", str(data.resolve())],
                           cwd=folder, check=True, stdout=subprocess.DEVNULL)
            for name in pathlib.Path(folder).glob("*.json.gz"):
                report = json.loads(gzip.decompress(name.read_bytes()))
                for file in report["files"]:
                    path = pathlib.Path(report["current_working_directory"], file["file"]).resolve()
                    if path.parent != root / "src" / room:
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


def run_tests(build, room):
    """A test that fails says so, and counts all the same: coverage is no verdict."""
    for data in build.glob(f"src/{room}/*.p/*.gcda"):
        data.unlink()
    for test in sorted(build.glob(f"tests/unit/{room}/test_*")):
        if test.is_dir() or test.suffix:
            continue
        done = subprocess.run([test.resolve()], cwd=build, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
        print(f"{room}/{test.name}: {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)


def print_missed(root, room, name, branches, lines):
    text = (root / "src" / room / name).read_text().splitlines()
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
    parser.add_argument("--demand", action="store_true", help=f"fail below {LIMIT:g} %%")
    parser.add_argument("--gcov", default="gcov")
    arguments = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent
    low = False
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
                print_missed(root, room, name, of_file, lines[name])
        share = 100 * taken / total
        low = low or share < LIMIT
        print(f"{room:<34} {taken:5} of {total:5} {share:6.1f} % of branches")
    return 1 if low and arguments.demand else 0


if __name__ == "__main__":
    sys.exit(main())
