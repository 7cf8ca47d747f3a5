"""The report: one page that loads nothing and says what a reviewer must know."""

from pathlib import Path

import numpy as np
import pytest

from training.config import read_recipe
from training.evaluate import measure
from training.predictor import learn
from training.report import permutation_importance
from training.run import run
from training.sources import Folders
from training.tabular import encode, table_of_rows


def _report(name: str, folders: Folders, models: Path) -> str:
    outcome = run(read_recipe(name), models, folders)
    return (outcome.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("recipe", "pictures"), [("ice_cream", 4), ("admission", 6), ("iris", 6), ("xor", 2)]
)
def test_a_report_is_one_page_that_loads_nothing(
    recipe: str, pictures: int, folders: Folders, tmp_path: Path
) -> None:
    """Its figures are inside it, and no address outside it is asked for."""
    page = _report(recipe, folders, tmp_path)

    assert page.count("data:image/svg+xml;base64,") == pictures
    for word in ("http://", "https://", "<script", "<link", "url("):
        assert word not in page


def test_a_report_says_how_it_was_measured_and_made(folders: Folders, tmp_path: Path) -> None:
    """Metrics stand beside the naive predictor's; the command and the whole recipe are there."""
    page = _report("ice_cream", folders, tmp_path)

    assert "6-fold cross-validation" in page
    assert "the training mean" in page
    assert "python -m training ice_cream" in page
    assert "[[features]]" in page
    assert "sha256" in page


def test_words_of_the_table_cannot_become_html(tmp_path: Path, folders: Folders) -> None:
    """A label written like a tag is shown, not obeyed."""
    recipe = read_recipe("xor", ['target.labels=["<b>same</b>", "different"]'])

    page = (run(recipe, tmp_path, folders).folder / "report.html").read_text(encoding="utf-8")

    assert "<b>same" not in page
    assert "&lt;b&gt;same" in page


def test_a_column_that_decides_nothing_is_not_important() -> None:
    """Shuffling the deciding column hurts; shuffling noise does not."""
    generator = np.random.default_rng(1)
    x, noise = generator.normal(size=(2, 200))
    rows = [[float(a), float(b), float(3 * a)] for a, b in zip(x, noise, strict=True)]
    document = read_recipe("line").model_dump() | {
        "features": [{"name": "x", "type": "number"}, {"name": "noise", "type": "number"}]
    }
    recipe = type(read_recipe("line")).model_validate(document)
    everything = np.arange(200)
    data = encode(table_of_rows(rows, ["x", "noise", "y"]), recipe, everything)
    learned = learn(recipe, data, everything, everything[:0])

    metric, importance = permutation_importance(recipe, data, learned, everything)

    perfect = measure(recipe, data.target, learned.predictor.predict(data.features), 0.5)
    assert perfect[metric] == pytest.approx(0, abs=1e-4)
    assert importance["x"] > 1
    assert importance["noise"] == pytest.approx(0, abs=1e-4)
