"""SQLite in WAL mode as an engine of tests/crash/power_cut.py: one row of 64 numbers per transaction.

    power_sqlite.py write STORE SEED LEVEL FROM | check STORE SEED LOW:HIGH

LEVEL full is synchronous=FULL, normal is synchronous=NORMAL.
"""

import os
import sqlite3
import struct
import sys
import time

DIM = 64


def say(what, number):
    os.write(1, b"%c 0 %d %d\n" % (what.encode(), number, time.monotonic_ns()))


def connect(path):
    os.makedirs(path, exist_ok=True)
    return sqlite3.connect(os.path.join(path, "t.db"), isolation_level=None)


def write(path, level, number):
    database = connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={ {'full': 'FULL', 'normal': 'NORMAL'}.get(level, 'OFF') }")
    database.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, content TEXT, vector BLOB)")
    while True:
        number += 1
        say("b", number)
        vector = struct.pack(f"{DIM}f", *[float(number % (i + 2)) for i in range(DIM)])
        database.execute("INSERT INTO t VALUES (?, ?, ?)", (number, f"row number {number}", vector))
        say("a", number)


def check(path):
    database = connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ids = {row[0] for row in database.execute("SELECT id FROM t")}
    number = 0
    while number + 1 in ids:
        number += 1
    print("found", number)


if sys.argv[1] == "write":
    write(sys.argv[2], sys.argv[4], int(sys.argv[5]))
else:
    check(sys.argv[2])
