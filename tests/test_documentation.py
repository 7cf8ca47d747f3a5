"""The documentation is complete, and its examples run with the responses that it prints."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.api.errors import FRAMEWORK_CODES, STATUS
from service.settings import Settings
from tests.conftest import ShippedClient
from tests.pages import ADDRESS, ROOT, blocks, parsed, send, working_folder
from tests.test_architecture import ALLOWED, LONGEST_FILE, LONGEST_FUNCTION_ELSEWHERE

# Pages with curl commands, and how many they have at least.
PAGES = {"README.md": 1, "docs/http.md": 10}
FRACTION = re.compile(r"-?\d+\.\d+")
MARKDOWN = [*sorted(ROOT.glob("docs/**/*.md")), *ROOT.glob("*.md"), *ROOT.glob("models/*.md")]


@dataclass(frozen=True)
class Exchange:
    """A curl command of a page and the response printed below it."""

    command: str
    response: Any


def exchanges(page: str) -> Iterator[Exchange]:
    found = blocks(page)
    for (language, command), (form, printed) in pairwise(found):
        if language == "sh" and command.startswith("curl") and form in {"json", "csv"}:
            yield Exchange(command, printed if form == "csv" else parsed(printed))


def as_printed(response: object, printed: object) -> object:
    """The response with numbers replaced by printed ones that are equal up to the last digit.

    Pages contain rounded numbers, because the last digits depend on the processor.
    """
    if isinstance(response, float) and isinstance(printed, Decimal):
        last_digit = Decimal(1).scaleb(int(printed.as_tuple().exponent))
        return printed if abs(Decimal(response) - printed) <= last_digit else response
    if isinstance(response, str) and isinstance(printed, str):
        numbers = iter(FRACTION.findall(printed))
        return FRACTION.sub(
            lambda found: str(as_printed(float(found[0]), Decimal(next(numbers, "0")))), response
        )
    if isinstance(response, list) and isinstance(printed, list) and len(response) == len(printed):
        return [as_printed(*pair) for pair in zip(response, printed, strict=True)]
    if isinstance(response, dict) and isinstance(printed, dict):
        return {key: as_printed(value, printed.get(key)) for key, value in response.items()}
    return response


@pytest.mark.parametrize(
    ("response", "printed", "equal"),
    [
        (14.951923, "14.952", True),
        (14.951921, "14.952", True),
        (14.9541, "14.952", False),
        ({"a": [0.77629, 1]}, '{"a": [0.7763, 1]}', True),
        ({"a": [0.77629]}, '{"a": [0.7763, 1]}', False),
        ("Ada,0.7762902,1", '"Ada,0.7763,1"', True),
        ("Ada,0.7762902,0.5", '"Ada,0.7763"', False),
        ("Bob,0.7762902", '"Ada,0.7763"', False),
    ],
)
def test_numbers_are_compared_as_precisely_as_they_are_printed(
    response: object, printed: str, *, equal: bool
) -> None:
    """Numbers may differ by one unit of the last printed digit; everything else is exact."""
    expected = parsed(printed)

    assert (as_printed(response, expected) == expected) is equal


@pytest.mark.parametrize("page", PAGES)
def test_every_curl_command_gets_the_response_printed_below_it(
    page: str, shipped_client: ShippedClient
) -> None:
    """Each example can be pasted into a terminal while `make serve` runs."""
    shown = list(exchanges(page))

    assert len(shown) >= PAGES[page]
    for exchange in shown:
        sent = send(shipped_client, shlex.split(exchange.command)[1:])
        response = sent.text if isinstance(exchange.response, str) else sent.json()
        assert as_printed(response, exchange.response) == exchange.response, exchange.command


@pytest.mark.parametrize("page", PAGES)
def test_a_curl_command_without_a_printed_response_succeeds(
    page: str, shipped_client: ShippedClient, tmp_path: Path
) -> None:
    """It may write a file."""
    with working_folder(tmp_path):
        for (language, command), (form, _) in pairwise([*blocks(page), ("", "")]):
            if language == "sh" and command.startswith("curl") and form not in {"json", "csv"}:
                sent = send(shipped_client, shlex.split(command)[1:])
                assert sent.status_code == 200, sent.text


def followed_by(page: str, language: str) -> Iterator[tuple[str, str]]:
    """Each block of a language with the text printed below it."""
    for (found, program), (_, printed) in pairwise(blocks(page)):
        if found == language:
            yield program, printed


def test_every_python_program_prints_what_the_page_says(shipped_client: ShippedClient) -> None:
    """Each can be saved to a file and run while `make serve` runs."""
    address = str(shipped_client.base_url).removeprefix("http://").rstrip("/")
    programs = list(followed_by("docs/http.md", "python"))

    assert programs
    for program, printed in programs:
        seen = subprocess.run(
            [sys.executable, "-c", program.replace(ADDRESS, address)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert seen.stdout == printed, program


def test_every_fetch_in_javascript_gets_the_response_of_the_page(
    shipped_client: ShippedClient,
) -> None:
    """The test sends the same request, since the machine may not be able to run JavaScript."""
    programs = list(followed_by("docs/http.md", "js"))

    assert programs
    for program, printed in programs:
        (path,) = re.findall(rf'fetch\("http://{ADDRESS}([^"]+)"', program)
        (body,) = re.findall(r"JSON\.stringify\((.+)\)", program)
        response = shipped_client.post(path, json=orjson.loads(body)).json()
        assert as_printed(response, parsed(printed)) == parsed(printed), program


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_make_commands_of_a_page_exist(page: str) -> None:
    """Each verb is a target of the Makefile."""
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    verbs = set(re.findall(r"`make ([\w-]+)|^make ([\w-]+)", text, re.MULTILINE))

    named = {verb for pair in verbs for verb in pair if verb}
    assert {"serve", "test", "test-fast", "check", "train"} <= named <= targets


@pytest.mark.parametrize(
    "page",
    [path.relative_to(ROOT).as_posix() for path in MARKDOWN],
)
def test_every_link_leads_to_a_file(page: str) -> None:
    """Every link of a page points to an existing file, and to a heading of it."""
    folder = (ROOT / page).parent

    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (ROOT / page).read_text()):
        if "://" in target:
            continue
        path = folder / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in list_anchors(path), f"{target}#{anchor}"


def list_anchors(path: Path) -> list[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    """A path of a removed file is found."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}

    for path in re.findall(r"`([\w.]+/[\w./-]*)`", (ROOT / page).read_text()):
        if path.partition("/")[0] in folders:
            assert (ROOT / path).exists(), path


def test_every_layer_is_described() -> None:
    """docs/architecture.md names each part of the table of allowed imports."""
    text = (ROOT / "docs/architecture.md").read_text()

    for part in ALLOWED:
        path = part.replace(".", "/")
        assert f"`{path}/`" in text or f"`{path}.py`" in text, part


def test_contributors_know_the_sizes() -> None:
    """CONTRIBUTING.md gives the maxima of `tests/test_architecture.py`."""
    text = (ROOT / "CONTRIBUTING.md").read_text()

    assert f"Functions have at most {LONGEST_FUNCTION_ELSEWHERE} lines" in text
    assert f"files at most {LONGEST_FILE}," in text


def test_every_setting_is_documented() -> None:
    """docs/operations.md names each variable with its default."""
    text = (ROOT / "docs/operations.md").read_text()

    for name, field in Settings.model_fields.items():
        default = "empty" if field.default == "" else f"`{field.default}`"
        assert f"| `ONWARD_{name.upper()}` | {default} |" in text, name


def test_the_page_lists_the_error_codes_that_are_sent() -> None:
    """docs/http.md has the status of each code, and no other codes."""
    text = (ROOT / "docs/http.md").read_text()
    documented = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text, re.MULTILINE)
    sent = {(status, kind.code) for kind, status in STATUS.items()} | {*FRAMEWORK_CODES.items()}

    assert sorted(documented) == sorted((str(status.value), code) for status, code in sent)
