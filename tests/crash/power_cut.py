#!/usr/bin/env python3
"""Real power cuts: a file system in a file, mounted by a loop device, is shut down by ioctl while a store on it is
written, mounted again as after a power cut, and what was acknowledged is looked for. Acknowledgements go through a
pipe, so they are outside of what is cut.

    unshare -m tests/crash/power_cut.py ENGINE [--fs ext4|xfs] [--cuts N] [--level full] [--seed N] [--worker PROGRAM]

ENGINE is memalloy (crash_worker), or a script that speaks as bench/peers/power_*.py do. Prints one line of JSON.
Needs CAP_SYS_ADMIN; mounts end with the mount namespace.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2  # what is in the journal's memory is lost as well
IMAGE_BYTES = {"ext4": 192 << 20, "xfs": 320 << 20}
CUTS_PER_DISK = 20
SECONDS_MAX = 0.8


def why_not(kind: str) -> str | None:
    """Why power cannot be cut here, or None."""
    maker = f"mkfs.{kind}"
    if shutil.which(maker, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        return f"there is no {maker} on this machine"
    with tempfile.TemporaryDirectory(prefix="memalloy-cut-") as scratch:
        place = Path(scratch, "m")
        place.mkdir()
        command = ["unshare", "-m", sys.executable, __file__, "--try", str(scratch), "--fs", kind]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except OSError as error:
            return f"no unshare: {error}"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or ["it says nothing"]
    return f"no file system can be mounted and shut down here (CAP_SYS_ADMIN): {lines[-1]}"


def run(*command: str) -> None:
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class Disk:
    """A file system in a file."""

    def __init__(self, scratch: Path, kind: str) -> None:
        self.kind = kind
        self.image = scratch / "image"
        self.place = scratch / "disk"
        self.place.mkdir(exist_ok=True)
        self.is_mounted = False

    def make(self) -> None:
        self.unmount()
        self.image.unlink(missing_ok=True)
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_BYTES[self.kind])
        quiet = ["-q", "-F"] if self.kind == "ext4" else ["-q", "-f"]
        run(f"mkfs.{self.kind}", *quiet, str(self.image))
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self.image), str(self.place))
        self.is_mounted = True

    def unmount(self) -> None:
        if not self.is_mounted:
            return
        for _ in range(50):  # a killed program may hold its files for a moment
            try:
                run("umount", str(self.place))
                break
            except RuntimeError:
                time.sleep(0.02)
        else:
            run("umount", str(self.place))
        self.is_mounted = False

    def cut(self) -> None:
        place = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(place, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(place)


class Log:
    """What the writer said: per thread the highest number begun, and when each number was acknowledged."""

    def __init__(self, begun: list[int]) -> None:
        self.base = list(begun)
        self.begun = list(begun)
        self.acked: list[dict[int, int]] = [{} for _ in begun]

    def read(self, stream) -> None:
        for line in stream:
            if not line.endswith("\n"):
                return
            what, thread, number, when = line.split()
            if what == "b":
                self.begun[int(thread)] = int(number)
            else:
                self.acked[int(thread)][int(number)] = int(when)

    def last(self, thread: int) -> int:
        return max(self.acked[thread], default=self.base[thread])


class Engine:
    """How a store is written and looked at: a command in front, and what it says of itself."""

    def __init__(self, command: list[str], extra: list[str], level: str, seed: int) -> None:
        self.command, self.extra, self.level, self.seed = command, extra, level, seed

    def start(self, store: Path, begun: list[int]) -> subprocess.Popen:
        command = [*self.command, "write", str(store), *self.extra, str(self.seed), self.level, *map(str, begun)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def check(self, store: Path, log: Log) -> tuple[list[int] | None, str]:
        """The number of each thread whose state is there, or None and why not."""
        pairs = [f"{low}:{high}" for low, high in zip(log.base, log.begun)]
        command = [*self.command, "check", str(store), *self.extra, str(self.seed), *pairs]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        if done.returncode == 0 and lines[-1].startswith("found"):
            return [int(number) for number in lines[-1].split()[1:]], ""
        return None, lines[-1]


def cycle(disk: Disk, engine: Engine, store: Path, begun: list[int], seconds: float, is_warm: bool) -> dict:
    """Write, cut, mount, look."""
    writer = engine.start(store, begun)
    log = Log(begun)
    reader = threading.Thread(target=log.read, args=(writer.stdout,))
    reader.start()
    if is_warm:  # programs that take long to start get their seconds from the first acknowledgement on
        end = time.monotonic() + 30
        while not any(log.acked) and time.monotonic() < end and writer.poll() is None:
            time.sleep(0.001)
    time.sleep(seconds)
    cut_ns = time.monotonic_ns()
    disk.cut()
    writer.send_signal(signal.SIGKILL)
    _, said = writer.communicate() if not reader.is_alive() else (None, None)
    reader.join()
    writer.wait()
    said = said if said is not None else writer.stderr.read()
    disk.unmount()
    disk.mount()
    found, why = engine.check(store, log)
    for numbers in log.acked:  # what was told once the cut had begun, a machine without power would not have told
        for number in [number for number, when in numbers.items() if when >= cut_ns]:
            del numbers[number]
    acked = sum(len(numbers) for numbers in log.acked)
    result = {"acked": acked, "found": found, "why": why, "lost": 0, "window_ms": 0.0, "said": said.strip()[-300:]}
    if found is None:
        result["lost"] = acked
        return result
    for thread, there in enumerate(found):
        lost = [when for number, when in log.acked[thread].items() if number > there]
        result["lost"] += len(lost)
        for when in lost:
            result["window_ms"] = max(result["window_ms"], (cut_ns - when) / 1e6)
    return result


def campaign(args: argparse.Namespace, scratch: Path) -> dict:
    chance = random.Random(args.seed)
    worker = Path(args.worker)
    if args.engine == "memalloy":
        model = subprocess.run([str(worker), "model", str(scratch)], capture_output=True, text=True, check=True).stdout.strip()
        engine = Engine([str(worker)], [model], args.level, args.seed)
    else:
        engine = Engine([args.python, args.engine], [], args.level, args.seed)
    disk = Disk(scratch, args.fs)
    total = {"engine": Path(args.engine).stem, "fs": args.fs, "level": args.level, "seed": args.seed, "cuts": 0, "acked": 0,
             "lost": 0, "unopenable": 0, "window_ms": 0.0, "faults": []}
    found: list[int] | None = None
    for number in range(args.cuts):
        if number % CUTS_PER_DISK == 0:
            disk.make()
            found = None
        if found is None or number % 3 == 0:  # a new store, else the one before goes on
            store = disk.place / f"kb{number}"
            found = [0] * chance.choice([1, 1, 4] if args.engine == "memalloy" else [1])
        engine.seed = args.seed * 1000 + int(store.name[2:])
        result = cycle(disk, engine, store, found, chance.uniform(0, args.seconds), args.engine != "memalloy" or chance.random() < 0.7)
        found = result["found"]
        total["cuts"] += 1
        total["acked"] += result["acked"]
        total["lost"] += result["lost"]
        total["window_ms"] = max(total["window_ms"], result["window_ms"])
        if found is None:
            total["unopenable"] += 1
            total["faults"].append(f"cut {number}: {result['why']}")
            if args.keep:
                shutil.copytree(store, Path(args.keep, f"{args.fs}-{args.seed}-{number}"), dirs_exist_ok=True)
        elif result["lost"] and args.level == "full":
            total["faults"].append(f"cut {number}: {result['lost']} of {result['acked']} acknowledged are lost")
        if result["acked"] == 0 and result["said"] and "Input/output error" not in result["said"]:  # which is the cut itself
            total["faults"].append(f"cut {number}: the writer says: {result['said']}")
    disk.unmount()
    return total


def try_out(scratch: Path, kind: str) -> None:
    disk = Disk(scratch, kind)
    disk.make()
    disk.cut()
    disk.unmount()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="?", default="memalloy")
    parser.add_argument("--fs", choices=sorted(IMAGE_BYTES), default="ext4")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--level", default="full")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=SECONDS_MAX, help="of writing at most before a cut")
    parser.add_argument("--worker", default=str(Path(__file__).resolve().parents[2] / "build/tests/crash/crash_worker"))
    parser.add_argument("--python", default=sys.executable, help="the interpreter for an engine that is a script")
    parser.add_argument("--keep", help="where stores that do not open are copied to")
    parser.add_argument("--try", dest="place", help="only see whether it works here")
    args = parser.parse_args()
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    libc.mount(None, b"/", None, 0x40000 | 0x4000, None)  # MS_PRIVATE | MS_REC: our mounts are seen by nobody else
    if args.place:
        try_out(Path(args.place), args.fs)
        return 0
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    scratch = Path(tempfile.mkdtemp(prefix="memalloy-cut-", dir=base))
    try:
        print(json.dumps(campaign(args, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
