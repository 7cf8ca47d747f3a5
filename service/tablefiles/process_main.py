"""``python -m service.tablefiles.process_main MEBIBYTES``: the process of `TableFileProcesses`.

Each line of JSON on standard input, which is followed by as many bytes as it says, is one file to
read. Standard output gets frames of `service.tablefiles.frames`. The process exits at the end of
the input, because the service has stopped.
"""

import json
import os
import sys
from contextlib import suppress
from typing import BinaryIO

from service.errors import InvalidRequest
from service.tablefiles.frames import Kind, encode_frame
from service.tablefiles.libraries import load_library
from service.tablefiles.reader import open_table_file
from service.tablefiles.workbook import ExpandsTooMuch

if sys.platform != "win32":
    import resource


def main() -> None:
    """Read files one by one until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else is written to the replies
    limit_memory(int(sys.argv[1]) << 20)
    load_library("polars")
    with suppress(BrokenPipeError):
        while line := sys.stdin.buffer.readline():
            job = json.loads(line)
            _reply(sys.stdin.buffer.read(job["size"]), job["max_bytes"], replies)


def limit_memory(size: int) -> None:
    """Limit the memory that this process allocates, in bytes. Windows has no such limit."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        if most != resource.RLIM_INFINITY:
            size = min(size, most)
        resource.setrlimit(resource.RLIMIT_DATA, (size, most))


def _reply(body: bytes, max_bytes: int, replies: BinaryIO) -> None:
    """Write the frames of one file."""
    try:
        table = open_table_file(body, max_bytes=max_bytes, to_score=True)
        replies.write(encode_frame(Kind.OPENED, json.dumps(sorted(table.numbers)).encode()))
        replies.writelines(encode_frame(Kind.PIECE, piece) for piece in table.pieces())
    except ExpandsTooMuch:
        replies.write(encode_frame(Kind.EXPANDS))
    except InvalidRequest as error:
        replies.write(encode_frame(Kind.REJECTED, str(error).encode()))
    else:
        replies.write(encode_frame(Kind.END))
    replies.flush()


if __name__ == "__main__":
    main()
