"""The commands of docs/serve-your-model.md serve what each library itself predicts."""

import io
import os
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from tests import library_models as libraries
from tests.conftest import StartApp
from tests.pages import ADDRESS, working_folder
from training.__main__ import main

os.environ.setdefault("KERAS_BACKEND", "torch")
# The libraries warn of their own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")

PAGE = Path(__file__).parents[1] / "docs" / "serve-your-model.md"
SECTIONS: dict[str, Callable[[], libraries.Fitted]] = {
    "scikit-learn": libraries.fit_pipeline,
    "XGBoost": libraries.fit_xgboost,
    "LightGBM": libraries.fit_lightgbm,
    "CatBoost": libraries.fit_catboost,
    "PyTorch": libraries.fit_torch,
    "Keras": libraries.fit_keras,
    "Keras: images": libraries.fit_keras_images,
    "MLflow": libraries.fit_mlflow,
}


def commands(section: str) -> list[tuple[str, str]]:
    """Language and content of the blocks of a section."""
    found = re.search(
        rf"^## {re.escape(section)}\n(.*?)(?=^## )", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, section
    return re.findall(r"^```(\w+)\n(.*?)^```", found[1], re.MULTILINE | re.DOTALL)


def run_python(block: str, fitted: libraries.Fitted) -> None:
    """Run the code of the page."""
    names: dict[str, Any] = {"model": fitted.model, "X": fitted.X, "y": fitted.y}
    exec(compile(block, "the page", "exec"), names)  # noqa: S102 - the code of this repository


def run_import(command: str, models: Path) -> str:
    """Run a command of the page; return what it prints."""
    program, *words = shlex.split(command)
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = main([*words, "--models", str(models)])
    assert (program, code) == ("onward", 0)
    return printed.getvalue()


@pytest.mark.parametrize("section", SECTIONS)
def test_three_commands_serve_what_the_library_predicts(
    section: str, models: Path, tmp_path: Path, start: StartApp
) -> None:
    """From a fitted model to the first correct prediction, exactly as on the page."""
    fitted = SECTIONS[section]()
    (_, python), (_, console), (_, curl) = commands(section)

    with working_folder(tmp_path):
        run_python(python, fitted)
        printed = run_import(console, models)
    words = shlex.split(curl)
    path = words[2].removeprefix(ADDRESS)
    kind = words[words.index("-H") + 1].removeprefix("content-type: ")
    if fitted.X is None:
        pixels = np.tile(np.arange(0, 252, 9, dtype=np.uint8), (28, 1))
        body = encode_png(pixels)
        expected = fitted.predict(pixels[None, :, :, None])
    else:
        body = words[-1].encode()
        row = orjson.loads(body)
        table = fitted.X.iloc[:1].copy()
        for name, value in row.items():
            table[name] = np.nan if value is None else value
        expected = fitted.predict(table)
    response = start().post(path, content=body, headers={"content-type": kind})

    assert response.status_code == 200, response.text
    assert "curl -s http://127.0.0.1" in printed
    assert_equal(response.json(), np.asarray(expected)[0], fitted.labels)


def encode_png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Encode gray pixels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def assert_equal(
    prediction: dict[str, Any],
    expected: Any,  # noqa: ANN401 - an array, or a number
    labels: Any,  # noqa: ANN401 - of names
) -> None:
    """Compare a response with the library's own prediction."""
    if not labels:
        assert prediction["value"] == pytest.approx(float(expected), rel=1e-5)
        return
    assert prediction["label"] == labels[int(np.argmax(expected))]
    assert list(prediction["probabilities"]) == list(labels)
    served = [prediction["probabilities"][label] for label in labels]
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-6)


def test_the_page_has_at_most_three_commands_for_each_library() -> None:
    """One in Python, one for the import and one for the request, and no card to write."""
    for section in SECTIONS:
        languages = [language for language, _ in commands(section)]
        assert languages == ["python", "console", "sh"], section
        assert "--card" not in PAGE.read_text()


def test_predictions_of_the_library_are_compared(models: Path, tmp_path: Path) -> None:
    """`--expected` rejects a file that differs from the model that the library has."""
    fitted = libraries.fit_pipeline()
    (_, python), _, _ = commands("scikit-learn")
    (_, expecting), (_, console) = commands("What the import checks")

    with working_folder(tmp_path):
        run_python(python + expecting, fitted)
        run_import(console, models)
        table = Path("churn.csv").read_text().replace(",no\n", ",yes\n")
        Path("churn.csv").write_text(table)
        code = main([*shlex.split(console)[1:], "--models", str(models)])

    assert code == 2
    assert [path.name for path in (models / "churn").iterdir() if path.is_dir()] == ["1"]
