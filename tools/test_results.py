"""What a suite of tests gives back: one Result per single test, whichever program ran it."""

from __future__ import annotations

import subprocess
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

OUTPUT_LINES_MAX = 60


@dataclass(frozen=True)
class Result:
    """One test. reason says why it failed or was skipped, ran what it did, where that is counted."""

    name: str
    status: str
    reason: str = ""
    ran: str = ""


def last_lines(text: str) -> str:
    """The end of a program's output, where its complaint stands."""
    lines = text.rstrip().splitlines()
    cut = len(lines) - OUTPUT_LINES_MAX
    return "\n".join([f"... {cut} lines before ..."] * (cut > 0) + lines[-OUTPUT_LINES_MAX:])


def run(command: list[str], *, timeout_s: float, env: dict[str, str] | None = None, cwd: Path | None = None) -> tuple[int, str]:
    """Exit code and output; a program that is killed by a signal or by the clock has a code other than 0."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=timeout_s, env=env, cwd=cwd, check=False,
        )
    except subprocess.TimeoutExpired as error:
        return 124, f"{(error.stdout or b'').decode(errors='replace')}\nno end after {timeout_s:.0f} s: {command[0]}"
    except OSError as error:
        return 127, f"could not start {command[0]}: {error}"
    return done.returncode, done.stdout.decode(errors="replace")


def run_one(name: str, command: list[str], *, timeout_s: float, env: dict[str, str] | None = None, cwd: Path | None = None) -> Result:
    """A program that is one test: it passes with exit code 0."""
    code, output = run(command, timeout_s=timeout_s, env=env, cwd=cwd)
    return Result(name, PASSED) if code == 0 else Result(name, FAILED, last_lines(output) or f"exit code {code}")


def parse_junit(text: str, prefix: str, skip_reasons: list[str]) -> list[Result]:
    """The test cases of a report by cmocka or pytest. cmocka's skips have no reason of their own: theirs come from
    skip_reasons, in order."""
    results = []
    reasons = iter(skip_reasons)
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = "/".join(part for part in (prefix, case.get("classname") or "", case.get("name") or "?") if part)
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            results.append(Result(name, FAILED, last_lines(bad.text or bad.get("message") or "no message")))
        elif skipped is not None:
            reason = skipped.get("message") or next(reasons, "") or "the test gives no reason"
            results.append(Result(name, SKIPPED, reason))
        else:
            ran = "; ".join(item.get("value") or "" for item in case.iter("property") if item.get("name") == "ran")
            results.append(Result(name, PASSED, ran=ran))
    return results


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.start
