"""The processes that bench_embed.py talks to, and the rounds in which they take turns.

A cell is an engine on so many threads with texts of one length. Each of its settings (batch, way of using two threads) is
tried once; those that are best by CPU time or by wall time stay in for the rounds. In a round every cell of a length and
thread count runs before the next length does, so that a disturbance hits all engines. The best run of each counts, by
CPU time and by wall time apart: a rival may win each figure with another setting.
"""

import json
import os
import subprocess
from pathlib import Path

PEERS = Path(__file__).resolve().parent / "peers"
KEPT = 2  # settings by each of the two times


class WorkerError(Exception):
    """A worker could not start, or ended; the text says which."""


class Process:
    def __init__(self, name, command, env=None, cores=None):
        self.name = name

        def settle():
            if cores:
                os.sched_setaffinity(0, cores)

        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", **(env or {})},
            preexec_fn=settle,
        )

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name} ended with code {self.process.wait()}")
        return json.loads(line)

    def say(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"{self.name} ended with code {self.process.wait()}") from error
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Native(Process):
    """Our engine: the program bench_embed, ids to vectors."""

    def __init__(self, name, program, model, threads, kernels=None):
        cores = set(sorted(os.sched_getaffinity(0))[-threads:])
        command = [program, "serve", model, str(threads)] + ([kernels] if kernels else [])
        super().__init__(name, command, cores=cores)
        self.kernels = self.answer()["kernels"]
        self.file = None

    def settings(self, batches):
        return [{}]

    def load(self, folder, length):
        self.file = Path(folder) / f"{length}.ids"
        return self.say(f"load {self.file}")

    def run(self, count, setting):
        return self.say(f"run 0 {count}")

    def write(self, folder, length, out):
        self.say(f"load {Path(folder) / f'{length}.check.ids'}")
        self.say(f"write {out}")


class Peer(Process):
    """A rival: embed_worker.py in an environment of its own."""

    def __init__(self, name, kind, python, threads, folder, env=None):
        command = [python, str(PEERS / "embed_worker.py"), kind, str(threads), str(folder)]
        super().__init__(name, command, env)
        self.versions = {k: v for k, v in self.ask("versions").items() if not k.endswith("_s")}
        self.folder = folder

    def ask(self, do, **more):
        return self.say(json.dumps({"do": do, **more}))

    def settings(self, batches):
        ways = self.ask("ways")["ways"]
        # Two batches at once cannot be split further by an engine that was given one.
        return [{"batch": batch, "way": way} for batch in batches for way in ways]

    def load(self, folder, length):
        return self.ask("load", length=length)

    def run(self, count, setting):
        return self.ask("run", count=count, **setting)

    def write(self, folder, length, out):
        self.ask("load", length=f"{length}.check")
        self.ask("write", path=str(out), batch=8)


class Cell:
    def __init__(self, engine, threads, length, available, batches, pass_s):
        self.engine, self.threads, self.length = engine, threads, length
        self.available, self.pass_s = available, pass_s
        self.settings = engine["workers"][threads].settings(batches)
        self.runs = {}  # index of the setting -> [(CPU s, wall s) per piece]

    def count_for(self, index):
        """As many texts as take about pass_s, in whole batches."""
        setting = self.settings[index]
        batch = setting.get("batch", 8) * (2 if setting.get("way") == "apart" else 1)
        per_piece = min(wall for _, wall in self.runs[index]) if index in self.runs else None
        wanted = self.pass_s / (per_piece * self.length) if per_piece else batch
        return min(max(batch, int(wanted) // batch * batch), self.available // batch * batch)

    def run(self, index, count=None):
        count = count or self.count_for(index)
        took = self.engine["workers"][self.threads].run(count, self.settings[index])
        pieces = count * self.length
        self.runs.setdefault(index, []).append((took["cpu_s"] / pieces, took["wall_s"] / pieces))

    def best(self, which):
        """(pieces a second, setting, the worst round's share of it) by CPU time (0) or wall time (1)."""
        index = min(self.runs, key=lambda i: min(run[which] for run in self.runs[i]))
        times = sorted(run[which] for run in self.runs[index])
        return 1 / times[0], self.settings[index], times[0] / times[-1]

    def qualify(self, late):
        """late: there is no time for every setting; batches of 8, which never were far from the best."""
        self.engine["workers"][self.threads].load(self.engine["folder"], self.length)
        if late:
            self.settings = [one for one in self.settings if one.get("batch", 8) == 8]
        for index in range(len(self.settings)):
            self.run(index)  # plans memory and compiles: says how many texts, and nothing else
            count = self.count_for(index)
            self.runs.pop(index)
            self.run(index, count)
        kept = set()
        for which in (0, 1):
            order = sorted(self.runs, key=lambda i: min(run[which] for run in self.runs[i]))
            kept.update(order[:KEPT])
        # What was tried once keeps its figures; it has lost by a distance.
        self.kept = sorted(kept)

    def round(self):
        self.engine["workers"][self.threads].load(self.engine["folder"], self.length)
        for index in self.kept:
            self.run(index)
