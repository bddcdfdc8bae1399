"""One opening of a table with LanceDB, in a process of its own: open_lancedb.py STORE. Prints one line of JSON."""

import json
import sys
import time
from pathlib import Path

import lancedb


def own_kb():
    found = {"Private_Dirty": 0, "Private_Clean": 0}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] += int(value.split()[0])
    return found["Private_Dirty"], found["Private_Clean"]


before = own_kb()
start, cpu_start = time.perf_counter(), time.process_time()
tables = [lancedb.connect(sys.argv[1]).open_table(name) for name in ("documents", "chunks")]
counts = [table.count_rows() for table in tables]
open_ms, cpu_ms = (time.perf_counter() - start) * 1e3, (time.process_time() - cpu_start) * 1e3
after = own_kb()
start = time.perf_counter()
found = tables[0].search().where(f"id = 'document-{counts[0] // 3:08d}'").limit(1).to_list()
first_id_ms = (time.perf_counter() - start) * 1e3
assert len(found) == 1
print(json.dumps({
    "open_ms": open_ms,
    "open_cpu_ms": cpu_ms,
    "first_id_ms": first_id_ms,
    "own_kb": after[0] - before[0],
    "own_files_kb": after[1] - before[1],
    "documents": counts[0],
    "chunks": counts[1],
}))
