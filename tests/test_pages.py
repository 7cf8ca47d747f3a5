"""Every command of README.md and of the pages by task runs, in the order of the page."""

import csv
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.bundle.features import FeaturesInput
from service.bundle.store import read_bundle
from tests import library_models as libraries
from tests.pages import ADDRESS, ROOT, blocks, commands, parsed, send, working_folder
from tests.processes import run_here, served, until
from tests.test_documentation import as_printed
from tests.test_serve_your_model import commands as commands_of_section
from tests.test_serve_your_model import run_python

# The code of the page on other libraries leaves its files to Python to close.
pytestmark = pytest.mark.filterwarnings("ignore")

PAGES = (
    "README.md",
    "docs/getting-started.md",
    "docs/importing.md",
    "docs/operations.md",
    "docs/recipes.md",
    "docs/train-on-your-images.md",
    "docs/train-on-your-table.md",
)
# Commands that cannot run here, by how they begin, with the reason.
NOT_RUN: Mapping[str, str] = {
    ".venv/bin/python -m pip install": "installs packages; the suite has them",
    ".venv/bin/onward new --images": "docs/train-on-your-images.md has the same command",
    "onward results": "fits other libraries to large public data sets",
    "onward search admission_mlp": "reads a public data set that not every machine has",
    "onward import birds.onnx": "tests/test_serve_your_model.py runs this import for strokes.onnx",
}
# Options that make a command short; nothing else of it changes.
SHORTER: Mapping[str, list[str]] = {
    "onward new --images": ["--size", "16"],
    "onward search": ["--trials", "1"],
}
SERVE = ("make serve", "onward serve")
# Shipped models of the commands, which are small.
MODELS = ("admission", "admission_mlp", "california_linear", "ice_cream")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the pages expect a reader to have."""
    for name in MODELS:
        shutil.copytree(ROOT / "models" / name, tmp_path / "models" / name)
    write_customers(tmp_path)
    write_houses(tmp_path)
    write_photographs(tmp_path / "photographs")
    return tmp_path


def write_customers(folder: Path) -> None:
    """Write tables of too few rows to compare families, which takes time."""
    random = np.random.default_rng(3)
    for name in ("customers.csv", "more_customers.csv"):
        months = random.integers(1, 60, 28)
        rows = [
            [month, f"{random.uniform(10, 90):.2f}", random.choice(["card", "bank"]), label]
            for month, label in zip(months, np.where(months < 25, "yes", "no"), strict=True)
        ]
        write_table(folder / name, ["months", "price", "payment", "churned"], rows)


def write_houses(folder: Path) -> None:
    """Write rows of the example of the shipped model."""
    model_input = read_bundle(folder / "models/california_linear/1").manifest.input
    assert isinstance(model_input, FeaturesInput)
    features = {feature.name: feature.example for feature in model_input.features}
    write_table(folder / "houses.csv", list(features), [list(features.values())] * 3)


def write_table(path: Path, names: list[str], rows: list[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *rows])


def write_photographs(folder: Path) -> None:
    """Write bright and dark images."""
    random = np.random.default_rng(4)
    for label, lightest in (("day", 255), ("night", 90)):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(lightest - 80, lightest, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def write_imports(folder: Path) -> None:
    """Write the models that README.md and the page on imports read, with rows without gaps."""
    pipeline = libraries.fit_pipeline()
    (_, python), *_ = commands_of_section("scikit-learn")
    with working_folder(folder):
        run_python(python, pipeline)
    shutil.copy(folder / "churn.onnx", folder / "wine.onnx")
    lines = (folder / "churn.csv").read_text(encoding="utf-8").splitlines()
    table = "\n".join(line for line in lines if "" not in line.split(","))
    (folder / "churn.csv").write_text(table, encoding="utf-8")
    (folder / "wine.csv").write_text(table.replace("churned", "cultivar", 1), encoding="utf-8")


def run(command: str, client: httpx.Client) -> httpx.Response | None:
    """Run one command in the current folder; return the response if it is a request."""
    if command.startswith("cat >"):
        shell = shutil.which("sh")
        assert shell is not None
        subprocess.run([shell, "-c", command], check=True)
        return None
    program, *words = shlex.split(command, comments=True)
    if program == "curl":
        return send(client, words)
    if program == "make":
        target, recipe = words
        assert target == "train"
        words = ["train", recipe.removeprefix("RECIPE=")]
    else:
        assert program.removeprefix(".venv/bin/") == "onward", command
    address = str(client.base_url).rstrip("/")
    words = [word.replace(f"http://{ADDRESS}", address) for word in words]
    line = " ".join(["onward", *words])
    words += [word for start, more in SHORTER.items() if line.startswith(start) for word in more]
    done = run_here(*words)
    assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    return None


def wait_for_models(client: httpx.Client, folder: Path) -> None:
    """Wait until the service has loaded what was published."""
    for path in (folder / "models").iterdir():
        until(partial(is_ready, client, path.name))


def is_ready(client: httpx.Client, name: str) -> bool:
    return client.get(f"/v2/models/{name}/ready").status_code == 200


def run_block(content: str, client: httpx.Client, folder: Path) -> httpx.Response | None:
    """Run the commands of a block; return the response to the last one, if it is a request."""
    response = None
    for command in commands(content):
        if command in SERVE or command.startswith(tuple(NOT_RUN)):
            continue
        if command.startswith("curl"):
            wait_for_models(client, folder)
        response = run(command, client)
    return response


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page: str, folder: Path) -> None:
    """A command that fails, or a response other than the printed one, fails the test."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if "onward import" in text:
        pytest.importorskip("pandas")
        write_imports(folder)
    if "onward publish admission 3" in text:
        for version in ("2", "3"):
            shutil.copytree(folder / "models/admission/1", folder / "models/admission" / version)
    options = ("--models", str(folder / "models"), "--poll-seconds", "0.2", "--device", "cpu")
    with (
        working_folder(folder),
        served(*options) as service,
        httpx.Client(base_url=service.address, timeout=30) as client,
    ):
        for (language, content), (form, printed) in pairwise([*blocks(page), ("", "")]):
            if language not in {"sh", "console"}:
                continue
            response = run_block(content, client, folder)
            if form == "json" and response is not None:
                expected = parsed(printed)
                assert as_printed(response.json(), expected) == expected, content


def test_each_exception_is_a_command_of_a_page() -> None:
    """A reason for a command that was removed is removed with it."""
    listed = [
        command
        for page in PAGES
        for language, content in blocks(page)
        if language in {"sh", "console"}
        for command in commands(content)
    ]

    for start in NOT_RUN:
        assert any(command.startswith(start) for command in listed), start
