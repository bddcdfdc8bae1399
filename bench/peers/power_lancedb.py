"""LanceDB as an engine of tests/crash/power_cut.py: one row of 64 numbers per add.

    power_lancedb.py write STORE SEED LEVEL FROM | check STORE SEED LOW:HIGH

LEVEL is not looked at: there is nothing to choose. The new table is synced by hand, as without that not even it is found.
"""

import os
import sys
import time

import lancedb

DIM = 64


def say(what, number):
    os.write(1, b"%c 0 %d %d\n" % (what.encode(), number, time.monotonic_ns()))


def row(number):
    return {"id": number, "content": f"row number {number}", "vector": [float(number % (i + 2)) for i in range(DIM)]}


def write(path, number):
    table = None
    database = lancedb.connect(path)
    if number > 0:
        table = database.open_table("t")
    while True:
        number += 1
        say("b", number)
        if table is None:
            table = database.create_table("t", [row(number)])
            os.sync()
        else:
            table.add([row(number)])
        say("a", number)


def check(path):
    ids = set(lancedb.connect(path).open_table("t").to_arrow()["id"].to_pylist())
    number = 0
    while number + 1 in ids:
        number += 1
    print("found", number)


if sys.argv[1] == "write":
    write(sys.argv[2], int(sys.argv[5]))
else:
    check(sys.argv[2])
