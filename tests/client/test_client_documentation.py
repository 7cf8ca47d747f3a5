"""The examples of `docs/client.md` and the notebook print what they say."""

import contextlib
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from service.client import __all__ as public
from tests.conftest import ShippedClient
from tests.pages import ROOT, blocks
from tests.test_documentation import as_printed

PAGE = "docs/client.md"
NOTEBOOK = ROOT / "docs" / "client.ipynb"
ADDRESS = "http://localhost:8000"


def test_every_example_prints_what_the_page_says(
    shipped_client: ShippedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks are one program, from the first to the last."""
    monkeypatch.chdir(tmp_path)
    address = str(shipped_client.base_url).rstrip("/")
    names: dict[str, Any] = {}
    programs = 0
    try:
        for (language, program), (_, printed) in pairwise(blocks(PAGE)):
            if language == "python":
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    exec(program.replace(ADDRESS, address), names)  # noqa: S102 - our own page
                assert as_printed(output.getvalue(), printed) == printed, program
                programs += 1
    finally:
        names["client"].close()

    assert programs == len([kind for kind, _ in blocks(PAGE) if kind == "python"]) >= 12


def test_the_page_names_every_error() -> None:
    """Those that the module exports."""
    text = (ROOT / PAGE).read_text()
    namespace: dict[str, Any] = {}
    exec("from service.client import *", namespace)  # noqa: S102 - all public names
    base = namespace["OnwardClientError"]
    errors = {
        name
        for name in public
        if isinstance(namespace[name], type) and issubclass(namespace[name], base)
    }

    assert {name for name in errors if f"`{name}`" in text} == errors


def texts(notebook: Any) -> list[str]:  # noqa: ANN401 - nbformat has no types
    """What the cells of a notebook print."""
    return [
        "".join(output.get("text") or output["data"].get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" not in output.get("data", {})
    ]


def test_the_notebook_prints_what_it_shows(
    shipped_client: ShippedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outputs are those of a service with the shipped models."""
    monkeypatch.setenv("ONWARD_URL", str(shipped_client.base_url).rstrip("/"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    shown = texts(notebook)

    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert as_printed(texts(notebook), shown) == shown
    assert len(shown) >= 5
    assert NOTEBOOK.stat().st_size < 60_000
