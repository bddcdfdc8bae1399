"""embed as a stream: every format, every kind of input, bad records, back-pressure, and an end at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from cli_tools import FAILED, OK, PARTIAL, USAGE, Command, read_terminal

TEXTS = ["one text", "", "日本語 and emoji 🎉", "x " * 400, "the last"]
LINES = "\n".join(TEXTS).encode() + b"\n"


def read_npy(raw: bytes) -> tuple[tuple[int, int], list[float]]:
    """Shape and numbers, read by the rules of the format."""
    assert raw[:8] == b"\x93NUMPY\x01\x00"
    (header_bytes,) = struct.unpack("<H", raw[8:10])
    assert (10 + header_bytes) % 64 == 0
    header = eval(raw[10 : 10 + header_bytes])  # noqa: S307: a Python literal by definition
    assert header["descr"] == "<f4" and header["fortran_order"] is False
    rows, columns = header["shape"]
    body = raw[10 + header_bytes :]
    assert len(body) == rows * columns * 4
    return (rows, columns), list(struct.unpack(f"<{rows * columns}f", body))


@pytest.fixture(scope="module")
def wanted(filled: Command) -> list[list[float]]:
    return [json.loads(line) for line in filled.ok("embed", input=LINES).splitlines()]


def flat(rows: list[list[float]]) -> list[float]:
    return [x for row in rows for x in row]


def close(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 1e-8 for x, y in zip(a, b))


def test_npy_is_the_same_on_disk_in_a_pipe_and_appended(cli: Command, wanted: list[list[float]]) -> None:
    done = cli.run("embed", "--format", "npy", input=LINES)
    assert done.returncode == OK
    shape, numbers = read_npy(done.stdout)
    assert shape == (5, 384) and close(numbers, flat(wanted))
    cli.ok("embed", "-o", "a.npy", input=LINES)
    assert (cli.home / "a.npy").read_bytes() == done.stdout
    shell = f'"{cli.path}" embed --format npy > b.npy; printf x > c.npy; "{cli.path}" embed --format npy -- a >> c.npy'
    subprocess.run(["sh", "-c", shell], input=LINES, env=cli.env, cwd=cli.home, check=True)
    assert (cli.home / "b.npy").read_bytes() == done.stdout
    assert read_npy((cli.home / "c.npy").read_bytes()[1:])[0] == (1, 384)
    assert read_npy(cli.run("embed", "--format", "npy", input=b"").stdout)[0] == (0, 384)
    numpy = pytest.importorskip("numpy")
    assert numpy.load(cli.home / "a.npy").shape == (5, 384)


def test_npy_needs_no_file_in_the_folder_of_temporary_files_afterwards(cli: Command) -> None:
    folder = cli.home / "temporary"
    folder.mkdir()
    assert cli.run("embed", "--format", "npy", "a", env={"TMPDIR": str(folder)}).returncode == OK
    assert list(folder.iterdir()) == []
    done = cli.run("embed", "--format", "npy", "a", env={"TMPDIR": str(folder / "missing")})
    assert (done.returncode, done.stdout) == (FAILED, b"")
    assert b"temporary file" in done.stderr


@pytest.mark.parametrize(("name", "format"), [("a.arrows", "arrow"), ("a.arrow", "arrow-file")])
def test_arrow_is_read_by_pyarrow(cli: Command, wanted: list[list[float]], name: str, format: str) -> None:
    ipc = pytest.importorskip("pyarrow.ipc")
    cli.ok("embed", "-o", name, input=LINES, env={})
    assert cli.run("embed", "--format", format, input=LINES).stdout == (cli.home / name).read_bytes()
    opened = ipc.open_stream if format == "arrow" else ipc.open_file
    with opened(cli.home / name) as reader:
        table = reader.read_all()
    table.validate(full=True)
    assert table.column_names == ["index", "text", "truncated", "vector"]
    assert table["index"].to_pylist() == list(range(5))
    assert table["text"].to_pylist() == TEXTS
    assert table["truncated"].to_pylist() == [False, False, False, True, False]
    assert close(flat(table["vector"].to_pylist()), flat(wanted))
    notes = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    info = cli.json("model", "info")
    assert notes["memalloy.model_hash"] == info["hash"] and notes["memalloy.model_id"] == info["id"]
    assert notes["memalloy.kind"] == "passage"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 255, 256, 257, 1000])
def test_arrow_of_any_number_of_texts(cli: Command, count: int) -> None:
    ipc = pytest.importorskip("pyarrow.ipc")
    lines = b"".join(b"%d\n" % i for i in range(count))
    for name in ("a.arrows", "a.arrow"):
        cli.ok("embed", "-o", name, input=lines)
    with ipc.open_stream(cli.home / "a.arrows") as stream, ipc.open_file(cli.home / "a.arrow") as file:
        tables = [stream.read_all(), file.read_all()]
    for table in tables:
        table.validate(full=True)
        assert table["text"].to_pylist() == [str(i) for i in range(count)]
    assert tables[0].equals(tables[1])


def test_json_lines_in_and_ids_out(cli: Command, wanted: list[list[float]]) -> None:
    records = [{"id": f"id-{i}", "body": text, "more": [1]} for i, text in enumerate(TEXTS)]
    records[1]["id"] = 17
    del records[2]["id"]
    lines = "".join(json.dumps(record, ensure_ascii=i % 2 == 0) + "\n" for i, record in enumerate(records)).encode()
    lines = b"\n" + lines.replace(b"\n", b"\r\n \t\n", 2) + b"\n\n"  # blank lines are no records
    rows = [json.loads(line) for line in cli.ok("embed", "--field", "body", "--id-field", "id", input=lines).splitlines()]
    assert [row["id"] for row in rows] == ["id-0", 17, None, "id-3", "id-4"]
    assert [row["text"] for row in rows] == TEXTS and [row["index"] for row in rows] == list(range(5))
    assert [row["truncated"] for row in rows] == [False, False, False, True, False]
    assert close(flat([row["vector"] for row in rows]), flat(wanted))
    plain = cli.ok("embed", "--field", "body", input=lines).splitlines()
    assert close(flat([json.loads(line) for line in plain]), flat(wanted))
    ipc = pytest.importorskip("pyarrow.ipc")
    table = ipc.open_stream(cli.run("embed", "--field", "body", "--id-field", "id", "--format", "arrow", input=lines).stdout).read_all()
    table.validate(full=True)
    assert table["id"].to_pylist() == ["id-0", "17", None, "id-3", "id-4"] and table["id"].null_count == 1


def test_files_are_read_one_after_the_other(cli: Command, wanted: list[list[float]]) -> None:
    (cli.home / "a.txt").write_bytes(b"\n".join(text.encode() for text in TEXTS[:2]))  # its last line is empty, and has no end
    (cli.home / "b.txt").write_bytes("".join(text + "\r\n" for text in TEXTS[2:]).encode())
    (cli.home / "a.txt").write_bytes((TEXTS[0] + "\n" + TEXTS[1] + "\n").encode())
    for order in (["-f", "a.txt", "--file", "b.txt"], ["-f", "a.txt", "-f", "-"]):
        rows = cli.ok("embed", *order, input=(cli.home / "b.txt").read_bytes()).splitlines()
        assert close(flat([json.loads(line) for line in rows]), flat(wanted))
    done = cli.run("embed", "-f", "a.txt", "-f", "missing")
    assert (done.returncode, done.stdout) == (FAILED, b"")  # looked at before anything is embedded
    assert b"cannot read missing: No such file" in done.stderr
    assert cli.run("embed", "-f", "a.txt", "text").returncode == USAGE
    assert len(cli.ok("tokenize", "-f", "a.txt", "-f", "b.txt").splitlines()) == 5
    before = (cli.home / "a.txt").read_bytes()
    assert cli.run("embed", "-f", "a.txt", "-o", "a.txt").returncode == USAGE
    assert (cli.home / "a.txt").read_bytes() == before


BAD = b'{"text": "good"}\n{"text": "also good"}\nno json\n{"other": 1}\n{"text": 5}\n["text"]\n{"text": "\xff"}\n{"text": "last"}\n'


def test_a_bad_record_ends_it_and_is_named(cli: Command) -> None:
    (cli.home / "in.jsonl").write_bytes(BAD)
    done = cli.run("embed", "--field", "text", "--file", "in.jsonl", "--format", "npy")
    assert done.returncode == USAGE
    assert b"in.jsonl:3 is no JSON" in done.stderr
    assert read_npy(done.stdout)[0] == (2, 384)  # what came before it, complete
    done = cli.run("embed", "--field", "text", input=BAD, stdout=subprocess.PIPE)
    assert b"stdin:3 " in done.stderr and len(done.stdout.splitlines()) == 2


def test_input_that_is_not_there_leaves_the_output_alone(cli: Command) -> None:
    (cli.home / "there.txt").write_bytes(LINES)
    (cli.home / "earlier.npy").write_bytes(b"of an earlier run")
    for wrong, code in ([("-f", "gone.txt"), FAILED], [("-f", "."), FAILED], [("-f", "there.txt", "text"), USAGE]):
        assert cli.run("embed", *wrong, "-o", "earlier.npy").returncode == code
        assert (cli.home / "earlier.npy").read_bytes() == b"of an earlier run"


def test_bad_records_are_skipped_where_that_is_wanted(cli: Command) -> None:
    done = cli.run("embed", "--field", "text", "--json", "--on-error", "skip", input=BAD)
    assert done.returncode == PARTIAL
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["index"], row["text"]) for row in rows] == [(0, "good"), (1, "also good"), (7, "last")]
    for number, why in [(3, "is no JSON"), (4, 'has no field "text"'), (5, 'has no text in its field "text"'),
                        (6, "is no JSON object with a text"), (7, "is not UTF-8")]:
        assert f"stdin:{number} {why}".encode() in done.stderr
    assert b"skipped 5 of 8 records" in done.stderr
    assert cli.run("embed", "--on-error", "skip", input=b"a\n").returncode == OK


def test_a_line_that_never_ends_is_no_text(cli: Command) -> None:
    lines = b"short\n" + b"x" * (70 << 20) + b"\nlast\n"
    done = cli.run("embed", "--json", "--on-error", "skip", input=lines)
    assert done.returncode == PARTIAL
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["short", "last"]
    assert b"stdin:2 has 73400320 bytes, far more than a text" in done.stderr


def test_kinds_are_taken(cli: Command) -> None:
    assert cli.ok("embed", "--kind", "query", "a") == cli.ok("embed", "--kind", "passage", "a") == cli.ok("embed", "a")


def test_bytes_are_not_for_a_terminal(cli: Command) -> None:
    for format in ("npy", "arrow", "arrow-file"):
        code, shown = cli.on_terminal("embed", "--format", format, "a")
        assert code == USAGE and "--output" in shown


def peak_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


@pytest.mark.parametrize("format", ["jsonl", "npy", "arrow-file"])
def test_memory_stays_bounded(cli: Command, format: str) -> None:
    """50 MB (a gigabyte with patience) go in as texts of half a megabyte; the peak is that of the first tenth."""
    count = 2000 if os.environ.get("MEMALLOY_TEST_LONG") else 100
    text = ("some words of a long text and more of it " * 12800).encode()[: 1 << 19].replace(b"\n", b" ")
    output = "/dev/null" if format != "npy" else "out.npy"
    process = subprocess.Popen([cli.path, "embed", "--format", format, "-o", output], stdin=subprocess.PIPE,
                               env=cli.env, cwd=cli.home, stderr=subprocess.PIPE)
    assert process.stdin is not None and process.stderr is not None
    peaks = []
    for i in range(count):
        process.stdin.write(text + b"\n")
        if i in (count // 10, count - 1):
            process.stdin.flush()
            peaks.append(peak_kb(process.pid))
    process.stdin.close()
    assert process.wait(timeout=300) == OK, process.stderr.read()
    assert peaks[1] < 150_000 and peaks[1] - peaks[0] < 20_000, peaks


def test_nobody_is_read_faster_than_vectors_are_taken(cli: Command) -> None:
    """A reader that does not read holds the writer up: pipes hold 64 KB, and one batch is in hand."""
    process = subprocess.Popen([cli.path, "embed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=cli.env)
    assert process.stdin is not None and process.stdout is not None
    os.set_blocking(process.stdin.fileno(), False)
    written, quiet_since = 0, time.monotonic()
    while time.monotonic() - quiet_since < 3:
        try:
            written += os.write(process.stdin.fileno(), b"some words\n" * 1000)
            quiet_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.05)
    assert written < 1 << 20
    process.kill()
    process.wait()


def interrupt(command: Command, arguments: list[str], number: int = signal.SIGINT) -> subprocess.Popen[bytes]:
    """Starts it on an endless input and signals it when it has written something."""
    source = subprocess.Popen(["yes", "some words to be embedded"], stdout=subprocess.PIPE)
    process = subprocess.Popen([command.path, "embed", *arguments], stdin=source.stdout, stderr=subprocess.PIPE,
                               env=command.env, cwd=command.home, stdout=subprocess.DEVNULL)
    output = command.home / arguments[arguments.index("-o") + 1]
    for _ in range(600):
        if output.exists() and output.stat().st_size > 100_000:
            break
        time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(number)
    process.wait(timeout=60)
    process.took = time.monotonic() - start  # type: ignore[attr-defined]
    source.kill()
    source.wait()
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_a_whole_file(cli: Command, number: int, code: int) -> None:
    process = interrupt(cli, ["-o", "out.npy"], number)
    assert process.stderr is not None
    assert process.returncode == code
    shape, _ = read_npy((cli.home / "out.npy").read_bytes())
    assert shape[0] > 50
    said = process.stderr.read().decode()
    assert said == f"interrupted after {shape[0]:,} texts; what was embedded is written\n"
    assert process.took < 2  # type: ignore[attr-defined]


def test_an_interruption_leaves_whole_arrow_and_whole_lines(cli: Command) -> None:
    assert interrupt(cli, ["-o", "out.jsonl"]).returncode == 130
    lines = (cli.home / "out.jsonl").read_bytes()
    assert lines.endswith(b"]\n") and all(len(json.loads(line)) == 384 for line in lines.splitlines())
    ipc = pytest.importorskip("pyarrow.ipc")
    for name, opened in (("out.arrows", ipc.open_stream), ("out.arrow", ipc.open_file)):
        assert interrupt(cli, ["-o", name]).returncode == 130
        table = opened(cli.home / name).read_all()
        table.validate(full=True)
        assert len(table) > 50


def test_an_interruption_is_seen_while_waiting_for_input(cli: Command) -> None:
    process = subprocess.Popen([cli.path, "embed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=cli.env)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"a text\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130


@pytest.mark.parametrize("format", ["npy", "arrow", "arrow-file"])
def test_a_full_disk_and_a_reader_that_leaves(cli: Command, format: str) -> None:
    with open("/dev/full", "wb") as full:
        done = cli.run("embed", "--format", format, "x", stdout=full)
    assert done.returncode == FAILED and b"No space left on device" in done.stderr
    with subprocess.Popen(["yes", "some words"], stdout=subprocess.PIPE) as source:
        lines = 200 if format == "npy" else 100_000
        head = subprocess.Popen(["head", "-n", str(lines)], stdin=source.stdout, stdout=subprocess.PIPE)
        process = subprocess.Popen([cli.path, "embed", "--format", format], stdin=head.stdout, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=cli.env)
        assert process.stdout is not None and process.stderr is not None and head.stdout is not None
        head.stdout.close()
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=120) == OK
        assert process.stderr.read() == b""
        head.kill()
        head.wait()
        source.kill()


def test_progress_is_drawn_on_a_terminal_only(cli: Command) -> None:
    (cli.home / "in.txt").write_text("some words to be embedded here\n" * 3000)
    parent, child = pty.openpty()
    fcntl.ioctl(child, 0x5414, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([cli.path, "embed", "-f", "in.txt", "-o", "out.npy"], stderr=child, env=cli.env, cwd=cli.home)
    os.close(child)
    shown = b"".join(read_terminal(parent)).decode()
    assert process.wait() == OK
    os.close(parent)
    assert " of 93.0 kB" in shown and "texts/s" in shown and shown.endswith("\r\x1b[K")
    assert cli.run("embed", "-f", "in.txt", "-o", "out.npy").stderr == b""
