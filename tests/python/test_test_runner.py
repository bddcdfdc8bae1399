"""The runner behind `make test` counts every test, believes no crash, and gives the reasons for skips."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
sys.path.insert(0, str(TOOLS))

import c_tests  # noqa: E402
import run_tests  # noqa: E402
from test_results import FAILED, PASSED, SKIPPED, Result, last_lines, run  # noqa: E402

REPORT = """<?xml version="1.0" encoding="UTF-8" ?>
<testsuites>
  <testsuite name="g" time="0.000" tests="4" failures="1" errors="0" skipped="2" >
    <testcase name="passes" time="0.000" ></testcase>
    <testcase name="fails" time="0.000" ><failure><![CDATA[1 != 2 \x01]]></failure></testcase>
    <testcase name="skips" time="0.000" ><skipped/></testcase>
    <testcase name="skips_silently" time="0.000" ><skipped/></testcase>
  </testsuite>
</testsuites>
"""
CLEAN = '<testsuites><testsuite><testcase name="passes"></testcase></testsuite></testsuites>'


def program(folder: Path, name: str, script: str, **more: object) -> dict:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"name": f"room/{name}", "cmd": [str(path)], "env": {}, "suite": ["memalloy:unit"], "workdir": None, **more}


def outcome(test: dict) -> list[tuple[str, str]]:
    return [(result.name, result.status) for result in c_tests.run_program(test, run_tests.environment(), 1, [])]


def writing(report: str, then: str = "") -> str:
    return f"cat > \"$(dirname \"$CMOCKA_XML_FILE\")/g.xml\" <<'END'\n{report}\nEND\n{then}"


def test_every_cmocka_test_is_counted_with_its_reason(tmp_path: Path) -> None:
    test = program(tmp_path, "t", writing(REPORT, "echo 'skip: no disk'; exit 1"))
    results = c_tests.run_program(test, run_tests.environment(), 1, [])
    assert [result.status for result in results] == [PASSED, FAILED, SKIPPED, SKIPPED]
    assert results[0].name == "room/t/passes"
    assert results[1].reason.startswith("1 != 2")
    assert [result.reason for result in results[2:]] == ["no disk", "the test gives no reason"]


def test_what_a_program_counted_is_kept(tmp_path: Path) -> None:
    test = program(tmp_path, "t", writing(CLEAN, "echo 'ran: 3 kills'; echo 'ran: 4 flips'"))
    assert [result.ran for result in c_tests.run_program(test, run_tests.environment(), 1, [])] == ["3 kills; 4 flips"]


@pytest.mark.parametrize("script", ["exit 1", "kill -SEGV $$", "kill -KILL $$"])
def test_a_program_that_ends_badly_without_a_report_has_failed(script: str, tmp_path: Path) -> None:
    assert outcome(program(tmp_path, "t", script)) == [("room/t", FAILED)]


@pytest.mark.parametrize("end", ["exit 23", "kill -SEGV $$"])
def test_a_bad_end_after_a_good_report_is_a_failure(end: str, tmp_path: Path) -> None:
    test = program(tmp_path, "t", writing(CLEAN, end))
    assert outcome(test) == [("room/t/passes", PASSED), ("room/t (the program)", FAILED)]


def test_a_report_that_was_cut_off_is_a_failure(tmp_path: Path) -> None:
    assert outcome(program(tmp_path, "t", writing(REPORT[:120]))) == [("room/t", FAILED)]


def test_a_program_without_cmocka_is_one_test(tmp_path: Path) -> None:
    assert outcome(program(tmp_path, "ok", "exit 0")) == [("room/ok", PASSED)]
    assert outcome(program(tmp_path, "none", "echo 'skip: no network'; exit 77")) == [("room/none", SKIPPED)]


def test_a_second_group_of_the_same_name_is_counted(tmp_path: Path) -> None:
    test = program(tmp_path, "t", writing(CLEAN, f"cat >&2 <<'END'\n{CLEAN}\nEND"))
    assert [status for _, status in outcome(test)] == [PASSED, PASSED]


def test_a_program_that_hangs_or_is_missing_has_failed(tmp_path: Path) -> None:
    assert run(["sleep", "30"], timeout_s=0.2)[0] == 124
    assert run([str(tmp_path / "nothing")], timeout_s=1)[0] == 127


def test_a_folder_without_tests_has_failed(tmp_path: Path) -> None:
    assert [result.status for result in c_tests.run_folder(str(tmp_path), {})] == [FAILED]


def test_suites_are_chosen_by_name(tmp_path: Path) -> None:
    (tmp_path / "meson-info").mkdir()
    tests = [
        program(tmp_path, "a", "exit 0"),
        program(tmp_path, "b", "exit 0", suite=["memalloy:unit", "memalloy:slow"], is_parallel=False),
    ]
    (tmp_path / "meson-info" / "intro-tests.json").write_text(json.dumps(tests))
    env = run_tests.environment()
    assert [result.name for result in c_tests.run_folder(str(tmp_path), env)] == ["room/a", "room/b"]
    assert [result.name for result in c_tests.run_folder(str(tmp_path), env, without_suites={"slow"})] == ["room/a"]
    assert [result.name for result in c_tests.run_folder(str(tmp_path), env, only_suites={"slow"})] == ["room/b"]


def run_tier(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *suites: run_tests.Suite) -> tuple[int, list[str]]:
    monkeypatch.chdir(TOOLS.parent)
    monkeypatch.setitem(run_tests.TIERS, "check", list(suites))
    monkeypatch.setattr(sys, "argv", ["run_tests.py", "check"])
    code = run_tests.main()
    return code, capsys.readouterr().out.splitlines()


def raising() -> list[Result]:
    raise RuntimeError("the suite broke")


def test_the_last_line_counts_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good = ("one", lambda: [Result("a", PASSED), Result("b", SKIPPED, "no clang")])
    code, lines = run_tier(monkeypatch, capsys, good, ("two", lambda: [Result("c", PASSED)]))
    assert (code, lines[-1]) == (0, "2 passed, 0 failed, 1 skipped")
    assert "  one: b: no clang" in lines


@pytest.mark.parametrize(("suite", "last"), [
    (lambda: [Result("a", PASSED), Result("b", FAILED, "1 != 2")], "1 passed, 1 failed, 0 skipped"),
    (lambda: [], "0 passed, 1 failed, 0 skipped"),
    (raising, "0 passed, 1 failed, 0 skipped"),
    (lambda: [Result("a", SKIPPED, "no clang")], "0 passed, 0 failed, 1 skipped"),
])
def test_a_failure_or_nothing_run_is_exit_code_1(suite, last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run_tier(monkeypatch, capsys, ("one", suite))
    assert (code, lines[-1]) == (1, last)


def test_an_unknown_tier_is_refused() -> None:
    done = subprocess.run([sys.executable, str(TOOLS / "run_tests.py"), "everything"], capture_output=True, check=False)
    assert done.returncode == 2


def test_long_output_is_cut_at_its_beginning() -> None:
    lines = last_lines("\n".join(str(i) for i in range(100))).splitlines()
    assert lines[0] == "... 40 lines before ..." and lines[-1] == "99"
