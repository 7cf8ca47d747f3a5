"""The fenced blocks of the documentation, and how the suite runs them."""

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
ADDRESS = "localhost:8000"


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of a page's fenced blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(content: str) -> list[str]:
    """The commands of a block for a shell, without the output below them and without comments.

    A command may have several lines: a quote that is open, or a file that ends with END.
    """
    lines = content.splitlines()
    if any(line.startswith("$ ") for line in lines):
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found = [""]
    for line in lines:
        found[-1] += line + "\n"
        if is_complete(found[-1]):
            found.append("")
    return [command.strip() for command in found if command.strip()]


def is_complete(command: str) -> bool:
    if "<<'END'" in command:
        return command.endswith("\nEND\n")
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def parsed(printed: str) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON of a page; numbers keep their digits."""
    return json.loads(printed, parse_float=Decimal)


def send(client: httpx.Client, words: Sequence[str]) -> httpx.Response:
    """Send what curl would send for these arguments; write the file of ``-o``."""
    options = iter(words)
    headers, body, url, output = {}, None, "", None
    for word in options:
        if word == "-H":
            name, _, value = next(options).partition(": ")
            headers[name] = value
        elif word in {"-d", "--data-binary"}:
            body = next(options)
        elif word == "-o":
            output = Path(next(options))
        elif word != "-s":
            assert word.startswith(ADDRESS), word
            url = word.removeprefix(ADDRESS)
    content = Path(body[1:]).read_bytes() if body is not None and body.startswith("@") else body
    method = "GET" if content is None else "POST"
    response = client.request(method, url, content=content, headers=headers)
    if output is not None:
        assert response.status_code == 200, response.text
        output.write_bytes(response.content)
    return response


@contextmanager
def working_folder(path: Path) -> Iterator[None]:
    """Run the block in a folder, as a user does in a terminal."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
