"""Makes data/: small tables as pylance 14.0.2 writes them, so that the C tests need no Python.

    python tests/unit/lance/make_data.py
"""

import datetime
import pathlib
import shutil

import lance
import pyarrow as pa

DATA = pathlib.Path(__file__).parent / "data"
COUNT = 130


def table():
    return pa.table({
        "id": pa.array([f"row-{i}" for i in range(COUNT)]),
        # at least 100 rows and few values: a dictionary page
        "kind": pa.array([None if i % 10 == 0 else ["one", "two", "three", ""][i % 4] for i in range(COUNT)]),
        "nothing": pa.array([None] * COUNT, pa.string()),
        "number": pa.array([None if i % 3 == 0 else i * 7 for i in range(COUNT)], pa.int64()),
        # nulls in vectors and whole ones
        "vector": pa.array(
            [None if i % 5 == 0 else [float(i), None if i % 7 == 0 else 0.5] for i in range(COUNT)], pa.list_(pa.float32(), 2)
        ),
        "dropped": pa.array(range(COUNT), pa.int32()),
    })  # fmt: skip


def make(name, predicate, columns):
    path = DATA / f"{name}.lance"
    shutil.rmtree(path, ignore_errors=True)
    dataset = lance.write_dataset(table().select(columns), str(path), data_storage_version="2.0")
    if "dropped" in columns:
        dataset.add_columns({"later": "number + 1"})
        dataset.drop_columns(["dropped"])
    dataset.delete(predicate)
    dataset.cleanup_old_versions(older_than=datetime.timedelta(0), delete_unverified=True)
    shutil.rmtree(path / "_transactions")
    print(path, [p.name for p in path.rglob("*") if p.is_file()])


if __name__ == "__main__":
    # a handful of dead rows: an Arrow file that is not compressed; more: one that is
    make("raw", "id IN ('row-0', 'row-3', 'row-129')", table().column_names)
    make("zstd", "number % 2 = 0", ["id", "number"])
