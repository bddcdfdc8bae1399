"""Power cuts on file systems of our own (power_cut.py), where this machine lets us mount and shut down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import power_cut

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(os.environ.get("MLY_CRASH_WORKER", ROOT / "build" / "tests" / "crash" / "crash_worker"))
IS_LONG = bool(os.environ.get("MEMALLOY_TEST_LONG"))
# After an acknowledgement at `normal` its sync starts within 100 ms; it is done when the disk is.
WINDOW_MS = 100 + 150


def cut(kind, level, cuts):
    if not os.access(WORKER, os.X_OK):
        pytest.skip(f"{WORKER} is not built")
    reason = power_cut.why_not(kind)
    if reason:
        pytest.skip(reason)
    command = ["unshare", "-m", sys.executable, power_cut.__file__, "memalloy", "--fs", kind, "--level", level, "--cuts", str(cuts),
               "--worker", str(WORKER)]
    seed = os.environ.get("MLY_TEST_SEED")
    done = subprocess.run([*command, *(["--seed", seed] if seed else [])], capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr
    total = json.loads(done.stdout)
    assert total["faults"] == [], total
    assert total["unopenable"] == 0, total
    assert total["acked"] > cuts, total
    return total


def told(total):
    text = f"{total['cuts']} cuts of {total['fs']} at {total['level']}: {total['acked']} operations acknowledged, {total['lost']} lost"
    return text + f", the oldest of them {total['window_ms']:.0f} ms before the cut (seed {total['seed']})"


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_at_full_a_power_cut_loses_nothing_that_was_acknowledged(kind, record_property):
    total = cut(kind, "full", (300 if kind == "ext4" else 50) if IS_LONG else 20)
    record_property("ran", told(total))
    assert total["lost"] == 0, total


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_at_normal_a_power_cut_loses_the_newest_tenth_of_a_second_at_most(kind, record_property):
    total = cut(kind, "normal", (100 if kind == "ext4" else 50) if IS_LONG else 20)
    record_property("ran", told(total))
    assert total["window_ms"] <= WINDOW_MS, total


def test_at_off_a_store_opens_after_a_power_cut(record_property):
    total = cut("ext4", "off", 50 if IS_LONG else 10)
    record_property("ran", told(total))
