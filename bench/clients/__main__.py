"""Test predictions by clients in other languages, with their default settings.

Java, Go, Node and curl are used if they are installed. Each sends a small row, a body of a
megabyte, and the same body in chunks, and must get the same response as ``urllib``. The exit status
is 1 if one does not. Run it by ``python -m bench.clients``.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.hostile.requests import PREDICT, ROW
from bench.page import replace_section
from bench.processes import Post, Start, send, service_command, started

_HERE = Path(__file__).parent
_LARGE_ROWS = 70_000
_TIMEOUT_SECONDS = 120
_JSON = ("-H", "content-type: application/json")
# The command of each client, before the URL and the files of the small and the large body.
PROGRAMS: Mapping[str, Sequence[str]] = {
    "java.net.http": ("java", str(_HERE / "Predict.java")),
    "Go net/http": ("go", "run", str(_HERE / "predict.go")),
    "Node": ("node", str(_HERE / "predict.mjs")),
}
# Options of curl, in addition to the body.
CURLS: Mapping[str, Sequence[str]] = {
    "default": (),
    "--http2": ("--http2",),
    "--http1.0": ("--http1.0",),
    "Expect": ("-H", "expect: 100-continue"),
    "no Expect": ("-H", "expect:"),
    "chunked": ("-H", "transfer-encoding: chunked"),
    "compressed response": ("--compressed",),
}


def main() -> int:
    """Predict by each client; return 1 if one got a different response than urllib."""
    lines = ["| client | request | status | same as urllib |", "|---|---|---|---|"]
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started(Start(service_command(), core=None)) as service:
            for cells in _rows(service.address, folder):
                failed = failed or cells[-1] not in {"yes", ""}
                lines.append(f"| {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")
    if "--write" in sys.argv:
        replace_section("Clients of other languages", lines)
    return 1 if failed else 0


def _rows(address: str, folder: Path) -> Iterator[tuple[str, str, str, str]]:
    small, large = folder / "small.json", folder / "large.json"
    small.write_bytes(ROW)
    large.write_text(json.dumps({"instances": [[45.0, 85.0]] * _LARGE_ROWS}, indent=1))
    expected = {
        path: _digest(send(address, Post(PREDICT, path.read_bytes()))[0]) for path in (small, large)
    }
    known = dict.fromkeys(expected.values(), "yes")
    url = address + PREDICT
    for name, program in PROGRAMS.items():
        if shutil.which(program[0]) is None:
            yield name, "", f"{program[0]} is not installed", ""
            continue
        for request, status, digest in _run_client([*program, url, str(small), str(large)], folder):
            yield name, request, status, known.get(digest, "no")
    if shutil.which("curl") is None:
        yield "curl", "", "it is not installed", ""
        return
    for name, options in CURLS.items():
        for path, expected_digest in expected.items():
            status, digest = _curl(url, path, options, folder)
            yield (
                "curl",
                f"{name}, {path.stem}",
                status,
                "yes" if digest == expected_digest else "no",
            )


def _run_client(command: Sequence[str], folder: Path) -> Iterator[tuple[str, str, str]]:
    """Each line of a program's report; if it fails, the last one has its first error line."""
    environment = os.environ | {"GOCACHE": str(folder / "go"), "GO111MODULE": "off"}
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
        env=environment,
    )
    for line in ended.stdout.splitlines():
        request, status, digest = line.split("\t")
        yield request, status, digest
    if ended.returncode:
        first = [line for line in ended.stderr.splitlines() if line.strip()][:1]
        yield "failed", "".join(first).replace("|", "/"), ""


def _curl(url: str, body: Path, options: Sequence[str], folder: Path) -> tuple[str, str]:
    output = folder / "output"
    output.write_bytes(b"")
    command = ["curl", "-s", "-o", str(output), "-w", "%{http_code}", *_JSON, *options]
    ended = subprocess.run(
        [*command, "--data-binary", f"@{body}", "--max-time", "30", url],
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout, _digest(output.read_bytes())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
