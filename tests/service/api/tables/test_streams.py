"""Tables are streamed in pieces of any size, and may end or be aborted at any time."""

import gzip
import json
import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartApp
from tests.models import publish_admission, publish_price

PATH = "/models/price/predict"
CSV = {"content-type": "text/csv"}
NDJSON = {"content-type": "application/x-ndjson"}
LONG = 120_000


@contextmanager
def connected(client: httpx.Client, headers: dict[str, str]) -> Iterator[socket.socket]:
    """Open a connection, and send the head of a request with a chunked body."""
    address = (client.base_url.host, client.base_url.port or 80)
    lines = [f"POST {PATH} HTTP/1.1", "host: test", "transfer-encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection


def send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    """Return what arrives, up to these bytes or the end."""
    seen = b""
    while wanted not in seen and (data := connection.recv(65536)):
        seen += data
    return seen


def long_table() -> bytes:
    """Some megabytes: more than all buffers between a client and a server."""
    note = "n" * 60
    return b"size,note\n" + "".join(f"{row},{note}\n" for row in range(LONG)).encode()


def outcomes(client: httpx.Client, outcome: str) -> int:
    """Return the value of a counter."""
    text = client.get("/metrics").text
    counts = re.findall(rf'onward_requests_total{{.*outcome="{outcome}".*}} (\S+)', text)
    return int(sum(map(float, counts)))


def unnamed_files() -> int:
    """Return the number of open files without a name in this process."""
    links = Path("/proc/self/fd").iterdir()
    return sum("(deleted)" in str(link.readlink()) for link in links if link.exists())


def test_a_client_that_sends_all_before_it_reads_gets_everything(
    models: Path, start: StartApp
) -> None:
    """Neither side waits for the other forever, and the rows are in order."""
    publish_price(models)
    client = start(max_body_bytes=1000)
    before = unnamed_files()

    response = client.post(PATH, content=long_table(), headers=CSV)

    lines = response.text.splitlines()
    assert len(lines) == 1 + LONG
    assert [line.split(",")[2] for line in lines[1:]] == [f"{2.0 * row}" for row in range(LONG)]
    assert unnamed_files() == before


def test_a_client_that_never_reads_is_disconnected_without_a_file(
    models: Path, start: StartApp
) -> None:
    """Only what fits into memory is stored for it."""
    publish_price(models)
    client = start(max_spool_bytes=0, write_seconds=1)

    with pytest.raises(httpx.TransportError):
        client.post(PATH, content=iter([long_table()] * 20), headers=CSV)

    assert client.get("/health/live").status_code == 200


def test_predictions_are_sent_while_rows_still_arrive(models: Path, start: StartApp) -> None:
    """Each line is predicted before the next one is sent."""
    publish_price(models)

    with connected(start(), NDJSON) as connection:
        for size in (1, 2, 3):
            send(connection, json.dumps({"size": size}).encode() + b"\n")
            assert b'{"value":%d.0,"unit":"euros"}\n' % (2 * size) in read_until(
                connection, b"euros"
            )


def test_the_deadline_of_a_load_does_not_end_a_table(models: Path, start: StartApp) -> None:
    """A table may take longer than the deadline, also if its model was loaded for it."""
    publish_price(models)
    client = start(max_loaded_models=1, deadline_seconds=3)

    with connected(client, NDJSON) as connection:
        send(connection, b'{"size": 1}\n')
        first = read_until(connection, b"euros")
        time.sleep(3.2)
        send(connection, b'{"size": 2}\n')
        second = read_until(connection, b"euros")

    assert b'"value":2.0' in first
    assert b'"value":4.0' in second


def test_pieces_of_any_size_make_the_same_response(models: Path, start: StartApp) -> None:
    """Characters, cells and lines may be split anywhere."""
    publish_price(models)
    client = start()
    table = 'note,size\r\n"é, ""ü""\r\nö",3\r\n€,x\r\nz,4'.encode()

    whole = client.post(PATH, content=table, headers=CSV)
    single = client.post(PATH, content=iter([bytes([b]) for b in table]), headers=CSV)

    assert whole.status_code == 200
    assert single.content == whole.content


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip"])
def test_a_compressed_table_is_decompressed_as_it_arrives(
    models: Path, start: StartApp, encoding: str
) -> None:
    """Predictions are sent before the end of the table, which may have several gzip members."""
    publish_price(models)
    table = b"size\n" + b"1\n" * 100_000
    packed = zlib.compress(table) if encoding == "deflate" else gzip.compress(table[:7])
    packed += b"" if encoding == "deflate" else gzip.compress(table[7:])
    pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]

    response = start().post(
        PATH, content=iter(pieces), headers=CSV | {"content-encoding": encoding}
    )

    assert response.text == "size,value,unit,error\n" + "1,2.0,euros,\n" * 100_000


def test_a_broken_stream_is_reported_in_the_last_row(models: Path, start: StartApp) -> None:
    """The rows before it are predicted, and the response does not look complete."""
    publish_price(models)
    packed = gzip.compress(b"size,note\n" + b"".join(b"1,%d\n" % row for row in range(50_000)))
    headers = CSV | {"content-encoding": "gzip"}

    response = start().post(PATH, content=packed[:-40], headers=headers)

    *rows, last = response.text.splitlines()
    assert len(rows) > 40_000
    assert last.startswith(",,,,Line ")
    assert last.endswith(
        "The body's gzip data ends too early; send all of it. "
        "This row and all later rows were not scored."
    )


def test_a_line_that_never_ends_ends_the_table(models: Path, start: StartApp) -> None:
    """The error names it, and the rows before it are predicted."""
    publish_price(models)
    table = b"size,note\n1,a\n2," + b"x" * 2_000_000 + b"\n3,c\n"

    response = start().post(PATH, content=table, headers=CSV)

    lines = response.text.splitlines()
    assert lines[1] == "1,a,2.0,euros,"
    assert lines[2].startswith(',,,,"Line 3: A record is larger than the limit of 1,048,576 bytes')
    assert len(lines) == 3


def test_a_body_that_stops_arriving_is_reported(models: Path, start: StartApp) -> None:
    """The client gets 408 before the first row, and an error in the last row after it."""
    publish_price(models)
    client = start(body_seconds=0.3)

    with connected(client, CSV) as connection:
        send(connection, b"size\n")
        early = read_until(connection, b"}")
    with connected(client, NDJSON) as connection:
        send(connection, b'{"size": 1}\n')
        late = read_until(connection, b"0\r\n\r\n")

    assert early.startswith(b"HTTP/1.1 408 ")
    assert b"too little progress for 0.3 s" in early
    assert b'"code":"body_stalled"' in late
    assert b'{"value":2.0' in late


def test_a_disconnected_client_leaves_no_resources_in_use(models: Path, start: StartApp) -> None:
    """It is counted, its file is closed, and the model serves further requests."""
    publish_price(models)
    client = start()
    before = unnamed_files()

    with connected(client, CSV) as connection:
        send(connection, long_table())
        read_until(connection, b"euros")
    patience = time.monotonic() + 20
    while not outcomes(client, "client_disconnected") and time.monotonic() < patience:
        time.sleep(0.01)

    assert outcomes(client, "client_disconnected") == 1
    assert unnamed_files() == before
    assert client.post(PATH, json={"size": 1}).status_code == 200


def test_a_table_is_counted_once_with_all_its_rows(models: Path, start: StartApp) -> None:
    """Invalid rows are counted separately from predicted ones."""
    publish_admission(models)
    client = start()
    table = b"exam_1,exam_2\n45,85\nx,y\n30,40\n"

    client.post("/models/admission/predict", content=table, headers=CSV)

    text = client.get("/metrics").text
    labels = '{model="admission",version="1"}'
    assert f"onward_rows_total{labels} 2.0" in text
    assert f"onward_rejected_rows_total{labels} 1.0" in text
    assert 'model="admission",outcome="ok",protocol="csv",version="1"} 1.0' in text
