"""Test a TypeScript client that is generated from the OpenAPI document.

The types come from openapi-typescript, and openapi-fetch sends the requests. A program with a
typed call of each model, and of routes that all models share, must pass the strict compiler, and
get the responses that ``urllib`` gets. Calls that the types must reject have to be errors. Node and
npm are required; the packages are installed in a temporary folder. The exit status is 1 if anything
differs, and 2 if a tool is missing. Run it by ``python -m bench.clients.typescript``.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.processes import Post, Start, have_tools, send, service_command, started

# openapi-typescript calls the compiler of this major version.
_PACKAGES = ("openapi-typescript@7", "openapi-fetch@0.17", "typescript@5", "@types/node@20")
_TIMEOUT_SECONDS = 300
_PROGRAM = Path(__file__).with_name("typed_calls.ts")
_EXPECTED_FIXED: Sequence[tuple[str, int, object]] = (
    ("interval", 200, True),
    ("model", 200, "READY"),
    ("error", 400, "invalid_input"),
    ("ready", 200, True),
)


class Call(NamedTuple):
    """A request with the example of one row or image."""

    path: str
    body: Mapping[str, Any]


def main() -> int:
    """Generate, check and run the client; return 1 if a response differs, 2 without the tools."""
    if not have_tools("node", "npm"):
        return 2
    with (
        tempfile.TemporaryDirectory() as name,
        started(Start(service_command(), core=None)) as service,
    ):
        folder = Path(name)
        with urllib.request.urlopen(f"{service.address}/openapi.json") as response:  # noqa: S310 - our own server's address
            content = response.read()
        calls = list(_find_calls(json.loads(content)))
        _generate(folder, content, calls)
        printed = _run(folder, "node", "calls.js", service.address).splitlines()
        found = [json.loads(line) for line in printed]
        responses = {each["name"]: (each["status"], each["content"]) for each in found}
        different = [
            call.path
            for call in calls
            if responses.get(call.path) != (200, _predict(service.address, call))
        ]
    different += [
        name
        for name, status, expected in _EXPECTED_FIXED
        if responses.get(name) != (status, expected)
    ]
    sys.stdout.write(f"{len(found)} typed calls, {len(different)} unexpected responses\n")
    sys.stdout.write("".join(f"  {name}: {responses.get(name)}\n" for name in different))
    return 1 if different else 0


def _find_calls(document: Mapping[str, Any]) -> Iterator[Call]:
    """Return a call of each operation of each model."""
    for path, methods in document["paths"].items():
        if path.startswith("/models/") and "{" not in path:
            content = methods["post"]["requestBody"]["content"]["application/json"]
            yield Call(path, next(iter(content["examples"].values()))["value"])


def _predict(address: str, call: Call) -> object:
    content, _ = send(address, Post(call.path, json.dumps(call.body).encode()))
    return json.loads(content)


def _generate(folder: Path, document: bytes, calls: Sequence[Call]) -> None:
    """Generate the types, and compile the program with a call of each model."""
    (folder / "openapi.json").write_bytes(document)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    program = [_PROGRAM.read_text()]
    program += [
        f"""{{
  const {{ data, response }} = await client.POST({json.dumps(call.path)}, {{
    body: {json.dumps(call.body)},
  }});
  print({json.dumps(call.path)}, response.status, data);
}}
"""
        for call in calls
    ]
    (folder / "calls.ts").write_text("".join(program))
    _run(folder, "npm", "install", "--no-audit", "--no-fund", *_PACKAGES)
    _run(folder, "npx", "openapi-typescript", "openapi.json", "--output", "api.d.ts")
    options = ("--strict", "--target", "es2022", "--module", "es2022")
    resolution = ("--moduleResolution", "bundler", "--types", "node")
    _run(folder, "npx", "tsc", *options, *resolution, "calls.ts")


def _run(folder: Path, *command: str) -> str:
    """Run a command, and return its output; raise `RuntimeError` if it fails."""
    ended = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stdout}{ended.stderr}")
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
