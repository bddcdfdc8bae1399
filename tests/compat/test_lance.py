"""Tables of ours under the official libraries, and theirs under our reader, value for value.

lance_tool (C, built by meson) turns JSON into tables and back; it is looked for in $MLY_LANCE_TOOL, then build/.
"""

import datetime
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import threading

import pytest

lance = pytest.importorskip("lance", reason="pylance is not installed")
lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.environ.get("MLY_LANCE_TOOL", str(ROOT / "build" / "tests" / "compat" / "lance_tool"))
pytestmark = pytest.mark.skipif(not os.access(TOOL, os.X_OK), reason=f"{TOOL} is not built")

EPOCH = datetime.datetime(1970, 1, 1)


def run_tool(verb, table, change=None):
    text = None if change is None else json.dumps(change)
    done = subprocess.run([TOOL, verb, str(table)], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def plain(value):
    """A value of pyarrow's as lance_tool prints it."""
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, bytes):
        return value.hex()
    return value


def official_rows(dataset):
    dataset.validate()
    names = dataset.schema.names
    rows = [[plain(row[name]) for name in names] for row in dataset.to_table().to_pylist()]
    assert dataset.count_rows() == len(rows)
    return rows


def our_rows(path):
    return run_tool("read", path)["rows"]


def assert_same(path):
    """Both readers give the same rows in the same order; returns them."""
    rows = official_rows(lance.dataset(str(path)))
    assert our_rows(path) == rows
    return rows


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def field(name, kind, **more):
    return {"name": name, "type": kind, **more}


def fields_of(dim):
    return [
        field("id", "string", nullable=False), field("vector", "vector", dim=dim), field("content", "string"),
        field("n", "int64"), field("at", "timestamp_us"), field("x", "float32"), field("raw", "binary"),
    ]  # fmt: skip


def batch_of(rng, dim, count, first=0, nulls=0.3, words=None):
    def some(make):
        return [None if rng.random() < nulls else make(i) for i in range(count)]

    def text(_):
        return rng.choice(words) if words else "".join(rng.choice("aé字🦉 \n\"'") for _ in range(rng.randrange(40)))

    return {
        "id": [f"id-{first + i}" for i in range(count)],
        "vector": some(lambda _: [f32(rng.uniform(-1, 1)) for _ in range(dim)]),
        "content": some(text),
        "n": some(lambda _: rng.randrange(-(2**62), 2**62)),
        "at": some(lambda _: rng.randrange(0, 2**51)),
        "x": some(lambda _: f32(rng.uniform(-1e9, 1e9))),
        "raw": some(lambda _: rng.randbytes(rng.randrange(20)).hex()),
    }


def rows_of(batch):
    return [list(row) for row in zip(*batch.values())]


@pytest.fixture
def table(tmp_path):
    return tmp_path / "t.lance"


@pytest.mark.parametrize("dim", [1, 6, 384])
@pytest.mark.parametrize("nulls", [0.0, 0.3, 1.0])
def test_official_readers_see_the_values_that_we_wrote(table, dim, nulls):
    rng = random.Random(dim)
    batches = [batch_of(rng, dim, count, 1000 * i, nulls) for i, count in enumerate([1, 7, 8, 9, 150])]
    run_tool("commit", table, {"fields": fields_of(dim), "batches": batches})
    expected = [row for batch in batches for row in rows_of(batch)]
    assert assert_same(table) == expected
    dataset = lance.dataset(str(table))
    assert dataset.data_storage_version == "2.0"
    kept = dataset.to_table(filter="n > 0 AND content IS NOT NULL", columns=["id"]).to_pydict()["id"]
    assert kept == [row[0] for row in expected if row[3] is not None and row[3] > 0 and row[2] is not None]
    picked = dataset.take([0, 5, len(expected) - 1], columns=["id"]).to_pydict()["id"]
    assert picked == [expected[0][0], expected[5][0], expected[-1][0]]


def test_nearest_finds_the_row_itself(table):
    rng = random.Random(7)
    batch = batch_of(rng, 6, 200, nulls=0.0)
    run_tool("commit", table, {"fields": fields_of(6), "batches": [batch]})
    db = lancedb.connect(table.parent)
    opened = db.open_table("t")
    assert opened.count_rows() == 200
    for i in [0, 17, 199]:
        for metric in ["l2", "cosine"]:
            hits = opened.search(batch["vector"][i]).distance_type(metric).limit(3).to_list()
            assert hits[0]["id"] == batch["id"][i]
            assert abs(hits[0]["_distance"]) < 1e-5


def test_a_table_without_rows(table):
    run_tool("commit", table, {"fields": fields_of(3), "config": {"memalloy.mark": "new"}})
    assert assert_same(table) == []
    assert run_tool("read", table)["mark"] == "new"
    rng = random.Random(1)
    run_tool("commit", table, {"batches": [batch_of(rng, 3, 5)]})
    assert len(assert_same(table)) == 5
    dataset = lance.dataset(str(table))
    assert dataset.version == 2 and dataset.checkout_version(1).count_rows() == 0


def test_no_table_is_no_table(table):
    assert run_tool("read", table) is None
    (table / "_versions").mkdir(parents=True)
    (table / "_versions" / "latest_version_hint.json").write_text('{"version":7}')
    (table / "_versions" / "d5.manifest").write_text("detached")
    assert run_tool("read", table) is None


def test_long_texts_and_several_pages(table):
    rng = random.Random(2)
    count = 3000
    texts = [rng.choice("xyzß") * rng.randrange(3000) for _ in range(count)]
    texts[1000] = "w" * 9_000_000
    texts[1001] = ""
    texts[1002] = None
    vectors = [[f32(rng.random()) for _ in range(384)] for _ in range(count)]
    vectors[2999] = None
    batch = {"id": [str(i) for i in range(count)], "vector": vectors, "content": texts}
    run_tool("commit", table, {"fields": fields_of(384)[:3], "batches": [batch]})
    assert assert_same(table) == rows_of(batch)


def official_table(rng, count, dim=6, words=None, nulls=0.3):
    batch = batch_of(rng, dim, count, nulls=nulls, words=words)
    return pa.table({
        "id": pa.array(batch["id"], pa.string()),
        "vector": pa.array(batch["vector"], pa.list_(pa.float32(), dim)),
        "content": pa.array(batch["content"], pa.string()),
        "n": pa.array(batch["n"], pa.int64()),
        "at": pa.array(batch["at"], pa.timestamp("us")),
        "x": pa.array(batch["x"], pa.float32()),
        "raw": pa.array([None if r is None else bytes.fromhex(r) for r in batch["raw"]], pa.binary()),
    })  # fmt: skip


@pytest.mark.parametrize("count", [1, 99, 100, 5000])
@pytest.mark.parametrize("words", [None, ["a"], ["low", "cardinality", ""]])
def test_we_read_what_pylance_wrote(table, count, words):
    lance.write_dataset(official_table(random.Random(count), count, words=words), str(table), data_storage_version="2.0")
    assert len(assert_same(table)) == count


def test_we_read_pages_of_the_official_size(table):
    rng = random.Random(3)
    count = 6500
    data = pa.table({
        "id": pa.array([str(i) for i in range(count)]),
        "vector": pa.array([[f32(rng.random()) for _ in range(384)] for _ in range(count)], pa.list_(pa.float32(), 384)),
    })  # fmt: skip
    lance.write_dataset(data, str(table), data_storage_version="2.0")
    assert len(assert_same(table)) == count


def test_nulls_inside_vectors_are_read_past(table):
    vectors = [[1.0, None], [2.0, 3.0], None, [None, None]]
    data = pa.table({"vector": pa.array(vectors, pa.list_(pa.float32(), 2))})
    lance.write_dataset(data, str(table), data_storage_version="2.0")
    rows = our_rows(table)
    assert rows[1] == [[2.0, 3.0]] and rows[2] == [None] and rows[0][0][0] == 1.0


def create_ours(table, count=400, dim=6):
    batch = batch_of(random.Random(count), dim, count, nulls=0.1)
    change = {"fields": fields_of(dim), "batches": [batch], "config": {"memalloy.mark": "1", "acme.own": "kept"}}
    run_tool("commit", table, change)
    return batch


def more(first, count, dim=6, nulls=0.3):
    data = official_table(random.Random(first), count, dim, nulls=nulls)
    ids = pa.array([f"id-{first + i}" for i in range(count)])
    # nullable=False as ours: an append must match the schema
    data = data.set_column(0, pa.field("id", pa.string(), nullable=False), ids)
    return data


def test_we_read_on_after_lancedb_worked_on_our_table(table):
    create_ours(table)
    opened = lancedb.connect(table.parent).open_table("t")
    opened.add(more(1000, 30))
    assert len(assert_same(table)) == 430
    opened.delete("id = 'id-3' OR id = 'id-1005'")
    assert len(assert_same(table)) == 428
    opened.update(where="id = 'id-4'", values={"content": "by lancedb"})
    assert ["id-4", "by lancedb"] in [[row[0], row[2]] for row in assert_same(table)]
    opened.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(more(1025, 10, nulls=0.0))
    assert len(assert_same(table)) == 433
    run_tool("commit", table, {"batches": [batch_of(random.Random(5), 6, 20, 2000)], "config": {"memalloy.mark": "2"}})
    assert len(assert_same(table)) == 453
    opened.checkout_latest()
    opened.optimize()
    assert len(assert_same(table)) == 453
    read = run_tool("read", table)
    assert read["mark"] == "2" and len(read["fragments"]) == 1
    dataset = lance.dataset(str(table))
    assert dataset.data_storage_version == "2.0" and dataset.config()["acme.own"] == "kept"
    run_tool("commit", table, {"delete": {str(read["fragments"][0]["id"]): list(range(0, 453, 2))}})
    assert len(assert_same(table)) == 226


def test_small_and_large_deletions_of_pylance(table):
    create_ours(table, 3000)
    dataset = lance.dataset(str(table))
    dataset.delete("id = 'id-7'")
    kinds = {path.suffix for path in (table / "_deletions").iterdir()}
    assert kinds == {".arrow"}
    assert len(assert_same(table)) == 2999
    dataset.delete("n > 0")
    assert {path.suffix for path in (table / "_deletions").iterdir()} >= {".arrow"}
    left = len(assert_same(table))
    assert 0 < left < 2999
    dataset.optimize.compact_files()
    assert len(assert_same(table)) == left
    dataset.cleanup_old_versions(older_than=datetime.timedelta(0), delete_unverified=True)
    assert len(assert_same(table)) == left


def test_deletion_files_of_the_official_kinds(table):
    """lance turns to Roaring files when many rows are dead; runs of them too."""
    create_ours(table, 12000, dim=1)
    dataset = lance.dataset(str(table))
    dataset.delete("id < 'id-5'")
    assert ".bin" in {path.suffix for path in (table / "_deletions").iterdir()}
    assert_same(table)


def test_our_deletions_are_theirs(table):
    create_ours(table, 70000, dim=1)
    for rows in [[3], [0, 69999, 65536], list(range(100, 9000)), list(range(10000, 70000, 3))]:
        run_tool("commit", table, {"delete": {"0": rows}})
        rows_left = assert_same(table)
    assert len(rows_left) == lance.dataset(str(table)).count_rows()
    run_tool("commit", table, {"delete": {"0": list(range(70000))}})
    assert assert_same(table) == []
    assert lance.dataset(str(table)).get_fragments() == []


@pytest.mark.parametrize("ours", ["append", "delete", "update", "config"])
@pytest.mark.parametrize("theirs", ["append", "delete", "delete same", "compact"])
def test_handles_that_are_older_than_our_commit_catch_up(table, ours, theirs):
    create_ours(table, 100)
    run_tool("commit", table, {"batches": [batch_of(random.Random(9), 6, 50, 500)]})
    stale = lance.dataset(str(table))
    change = {}
    if ours in ("append", "update"):
        change["batches"] = [batch_of(random.Random(4), 6, 10, 3000)]
    if ours in ("delete", "update"):
        change["delete"] = {"0": [1, 2, 3]}
    if ours == "config":
        change["config"] = {"memalloy.mark": "later"}
    run_tool("commit", table, change)
    if theirs == "append":
        stale.insert(more(4000, 5))
    elif theirs == "delete":
        stale.delete("id = 'id-510'")
    elif theirs == "delete same":
        stale.delete("id = 'id-50'")
    else:
        try:
            stale.optimize.compact_files(target_rows_per_fragment=1000)
        except OSError as failure:  # a conflict is an honest answer, lost rows would not be
            assert "onflict" in str(failure)
            return
    expected = 150 + (10 if "batches" in change else 0) - (3 if "delete" in change else 0)
    expected += {"append": 5, "delete": -1, "delete same": -1, "compact": 0}[theirs]
    assert len(assert_same(table)) == expected


def test_two_programs_that_add_at_once_lose_no_row(table):
    create_ours(table, 10)
    rounds = 12
    failures = []

    def add_ours():
        for i in range(rounds):
            change = {"batches": [batch_of(random.Random(i), 6, 2, 10_000 + 2 * i)]}
            while True:
                try:
                    run_tool("commit", table, change)
                    break
                except RuntimeError as failure:
                    if "CONFLICT" not in str(failure):
                        failures.append(failure)
                        return

    def add_theirs():
        try:
            opened = lancedb.connect(table.parent).open_table("t")
            for i in range(rounds):
                opened.add(more(20_000 + 3 * i, 3))
        except Exception as failure:  # noqa: BLE001: told by the assertion below
            failures.append(failure)

    threads = [threading.Thread(target=target) for target in (add_ours, add_ours, add_theirs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(assert_same(table)) == 10 + 2 * rounds * 2 + rounds * 3
    assert lance.dataset(str(table)).version == 1 + 3 * rounds


def test_columns_that_others_add_and_drop(table):
    create_ours(table, 50)
    dataset = lance.dataset(str(table))
    dataset.add_columns({"twice": "n * 2", "other": "cast(x as double)"})
    rows = official_rows(lance.dataset(str(table)))
    ours = our_rows(table)
    assert [row[:8] for row in ours] == [row[:8] for row in rows]  # a double is carried, not read
    run_tool("commit", table, {"batches": [batch_of(random.Random(6), 6, 5, 700)]})
    assert our_rows(table)[-1][7] is None
    dataset = lance.dataset(str(table))
    assert dataset.count_rows() == 55 and dataset.to_table().to_pylist()[-1]["other"] is None
    dataset.drop_columns(["content", "other"])
    assert [row[:6] for row in our_rows(table)] == [row[:6] for row in official_rows(lance.dataset(str(table)))]


def test_the_index_section_is_carried_over(table):
    batch = create_ours(table, 1000)
    opened = lancedb.connect(table.parent).open_table("t")
    opened.create_index("id", config=lancedb.index.BTree())
    opened.create_index("vector", config=lancedb.index.IvfFlat(distance_type="cosine", num_partitions=2))
    added = batch_of(random.Random(8), 6, 20, 5000, nulls=0.0)
    run_tool("commit", table, {"batches": [added], "delete": {"0": [0]}})
    opened.checkout_latest()
    assert {index.columns[0] for index in opened.list_indices()} == {"id", "vector"}
    assert opened.search().where("id = 'id-5003'").to_list()[0]["id"] == "id-5003"
    hit = opened.search(added["vector"][4]).distance_type("cosine").nprobes(2).limit(1).to_list()[0]
    assert hit["id"] == "id-5004"
    assert opened.search().where("id = 'id-0'").to_list() == []
    opened.optimize()
    assert len(assert_same(table)) == 1019
    assert batch["id"][0] == "id-0"


def test_foreign_metadata_is_carried_over(table):
    create_ours(table, 20)
    dataset = lance.dataset(str(table))
    dataset.update_schema_metadata({"acme.schema": "1"})
    dataset.update_metadata({"acme.table": "2"})
    dataset.update_field_metadata({"content": {"acme.field": "3"}})
    dataset.update_config({"acme.config": "4"})
    change = {"batches": [batch_of(random.Random(3), 6, 4, 900)], "delete": {"0": [1]}, "config": {"memalloy.mark": "9"}}
    run_tool("commit", table, change)
    assert len(assert_same(table)) == 23
    dataset = lance.dataset(str(table))
    assert dataset.schema.metadata[b"acme.schema"] == b"1"
    assert dataset.metadata["acme.table"] == "2"
    assert dataset.schema.field("content").metadata[b"acme.field"] == b"3"
    version = {"memalloy.version": str(dataset.version)}
    assert dataset.config() == {"acme.config": "4", "acme.own": "kept", "memalloy.mark": "9", **version}


def test_relatives_of_our_types_are_read_and_strangers_passed_over(table):
    stamps = [0, 1_700_000_000_000_000, None]
    data = pa.table({
        "text": pa.array(["a", None, ""], pa.large_string()),
        "raw": pa.array([b"a", None, b""], pa.large_binary()),
        "at": pa.array(stamps, pa.timestamp("us", "UTC")),
        "half": pa.array([[1, 2], [3, 4], None], pa.list_(pa.float64(), 2)),
        "list": pa.array([["x"], [], None], pa.list_(pa.string())),
        "struct": pa.array([{"a": 1}, {"a": 2}, {"a": None}], pa.struct([("a", pa.int64())])),
        "flag": pa.array([True, None, False]),
        "last": pa.array([5, None, 7], pa.int64()),
    })  # fmt: skip
    lance.write_dataset(data, str(table), data_storage_version="2.0")
    read = run_tool("read", table)
    assert [f["type"] for f in read["fields"]] == ["string", "binary", "timestamp_us"] + ["other"] * 4 + ["int64"]
    strangers = [None] * 4
    assert read["rows"] == [
        ["a", "61", stamps[0], *strangers, 5], [None, None, stamps[1], *strangers, None], ["", "", None, *strangers, 7]
    ]  # fmt: skip
    run_tool("commit", table, {"batches": [{"text": ["mine"], "last": [8]}], "delete": {"0": [1]}})
    rows = lance.dataset(str(table)).to_table().to_pylist()
    assert [row["text"] for row in rows] == ["a", "", "mine"] and rows[2]["list"] is None and rows[0]["struct"] == {"a": 1}


def test_tables_that_lancedb_made_in_version_2_0(table):
    options = {"new_table_data_storage_version": "2.0"}
    rows = [{"id": str(i), "vector": [float(i), 1.0], "n": i} for i in range(10)]
    made = lancedb.connect(table.parent).create_table("t", rows, storage_options=options)
    assert our_rows(table)[3] == ["3", [3.0, 1.0], 3]
    run_tool("commit", table, {"batches": [{"id": ["10"], "vector": [[10.0, 1.0]]}], "delete": {"0": [0]}})
    made.checkout_latest()
    assert made.count_rows() == 10
    made.add([{"id": "11", "vector": [11.0, 1.0], "n": 11}])
    assert len(assert_same(table)) == 11


def test_compressed_pages_are_refused_by_name(table):
    compressed = pa.field("text", pa.string(), metadata={"lance-encoding:compression": "zstd"})
    data = pa.table([pa.array(["x" * 1000] * 50)], schema=pa.schema([compressed]))
    lance.write_dataset(data, str(table), data_storage_version="2.0")
    with pytest.raises(RuntimeError, match=r"UNSUPPORTED: .*\.lance, column text: pages compressed as zstd"):
        our_rows(table)


def test_old_names_of_versions_are_continued(table):
    lance.write_dataset(official_table(random.Random(1), 10), str(table), data_storage_version="2.0", enable_v2_manifest_paths=False)
    names = {path.name for path in (table / "_versions").iterdir()}
    assert "1.manifest" in names
    run_tool("commit", table, {"batches": [batch_of(random.Random(2), 6, 5, 90)]})
    assert (table / "_versions" / "2.manifest").exists()
    assert len(assert_same(table)) == 15


def test_other_data_file_versions_are_refused_by_name(table):
    lance.write_dataset(official_table(random.Random(1), 10), str(table), data_storage_version="2.2")
    with pytest.raises(RuntimeError, match=r"UNSUPPORTED: .*\.lance: is in data file version 2\.2, only 2\.0"):
        our_rows(table)
    with pytest.raises(RuntimeError, match=r"UNSUPPORTED: .*data files are 2\.2, only 2\.0 can be added to"):
        run_tool("commit", table, {"batches": [batch_of(random.Random(2), 6, 5)]})


def test_unknown_features_are_refused(table):
    lance.write_dataset(official_table(random.Random(1), 10), str(table), data_storage_version="2.0", enable_stable_row_ids=True)
    with pytest.raises(RuntimeError, match="UNSUPPORTED: .*reading the table needs features 0x2"):
        our_rows(table)


def test_every_refusal_names_its_reason(table):
    create_ours(table, 5)
    for change, message in [
        ({"batches": [{"vector": [None]}]}, "column id takes no null"),
        ({"batches": [{"id": [None]}]}, "takes no null"),
        ({"batches": [{"id": []}]}, "at least one row"),
        ({"batches": [{"id": ["a"], "n": [1, 2]}]}, "column n has 2 rows"),
        ({"delete": {"0": [5]}}, "row 5 of a fragment of 5"),
        ({"delete": {"0": []}}, "adds nothing"),
        ({}, "nothing to commit"),
    ]:  # fmt: skip
        with pytest.raises(RuntimeError, match="INVAL.*" + message):
            run_tool("commit", table, change)
    assert len(assert_same(table)) == 5
    assert not [path for path in table.rglob(".tmp*")]


def test_not_numbers_survive(table):
    data = pa.table({"x": pa.array([math.inf, math.nan, -0.0, None], pa.float32())})
    lance.write_dataset(data, str(table), data_storage_version="2.0")
    assert our_rows(table) == [["inf"], ["nan"], [-0.0], [None]]


def versions_of(table):
    return sorted(2**64 - 1 - int(path.stem) for path in (table / "_versions").glob("*.manifest"))


def grow(table, rng, count, delete=True):
    """count versions of ours, each with two rows more and, if asked, one of fragment 0 less."""
    for i in range(count):
        change = {"batches": [batch_of(rng, 6, 2, 100 * i)]}
        if delete:
            change["delete"] = {"0": [i]}
        run_tool("commit", table, change)


def test_handles_from_before_a_cleaning_read_and_add_after_it(table):
    rng = random.Random(31)
    run_tool("commit", table, {"fields": fields_of(6), "batches": [batch_of(rng, 6, 20)]})
    old = lancedb.connect(table.parent).open_table("t")
    adder = lancedb.connect(table.parent).open_table("t")
    old_lance = lance.dataset(str(table))
    grow(table, rng, 6)
    done = run_tool("clean", table, {"keep": 2})
    assert done == {"versions": 5, "data_files": 0, "deletion_files": 4, "transactions": 5, "is_frozen": False}
    assert versions_of(table) == [6, 7]
    assert len(assert_same(table)) == 20 + 12 - 6
    old.checkout_latest()
    assert old.count_rows() == 26
    assert old_lance.checkout_version(7).count_rows() == 26
    assert lance.dataset(str(table), version=6).count_rows() == 25
    row = assert_same(table)[0]
    adder.add(old.search().limit(1).to_arrow())
    rows = assert_same(table)
    assert len(rows) == 27 and rows[-1] == row


def test_versions_that_a_program_needs_to_catch_up_stay(table):
    """A handle of lance that finds versions missing on the way takes back what they deleted: so ours stay an hour."""
    rng = random.Random(32)
    run_tool("commit", table, {"fields": fields_of(6), "batches": [batch_of(rng, 6, 20)]})
    stale = lancedb.connect(table.parent).open_table("t")
    stale.delete("id = 'id-19'")
    grow(table, rng, 4)
    assert run_tool("clean", table, {"keep": 2})["versions"] == 0
    stale.delete("id = 'id-18'")
    ids = [row[0] for row in assert_same(table)]
    assert ids[:14] == [f"id-{i}" for i in range(4, 18)] and len(ids) == 14 + 8
    done = run_tool("clean", table, {"keep": 2, "later": 3700})
    assert done["versions"] == 4 and done["data_files"] == 0
    assert versions_of(table) == [2, 6, 7]
    assert len(assert_same(table)) == 22


def test_cleaning_leaves_tags_branches_and_files_of_others(table):
    rng = random.Random(33)
    run_tool("commit", table, {"fields": fields_of(6), "batches": [batch_of(rng, 6, 20)]})
    grow(table, rng, 3)
    dataset = lance.dataset(str(table))
    dataset.tags.create("release", 2)
    grow(table, rng, 4, delete=False)
    assert run_tool("clean", table, {"keep": 2})["versions"] == 5
    assert versions_of(table) == [2, 7, 8]
    assert lance.dataset(str(table), version="release").count_rows() == 21
    dataset = lance.dataset(str(table))
    dataset.delete("id = 'id-10'")
    dataset.optimize.compact_files()
    rows = assert_same(table)
    done = run_tool("clean", table, {"keep": 2, "later": 3700})
    # Their version before the compaction is still there and names what it replaced.
    assert done["versions"] == 2 and done["data_files"] == 0 and not done["is_frozen"]
    assert assert_same(table) == rows
    dataset = lance.dataset(str(table))
    dataset.cleanup_old_versions(datetime.timedelta(0), error_if_tagged_old_versions=False)
    run_tool("clean", table, {"keep": 1, "later": 3700})
    assert assert_same(table) == rows
    assert len(list((table / "data").iterdir())) > 1  # the tagged version's files
    dataset = lance.dataset(str(table))
    dataset.create_branch("side")
    grow(table, rng, 3, delete=False)
    assert run_tool("clean", table, {"keep": 1, "later": 3700})["is_frozen"]
    assert len(assert_same(table)) == len(rows) + 6
    assert lance.dataset(str(table), version="release").count_rows() == 21
