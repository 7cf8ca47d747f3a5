"""The report: one page that loads nothing and says what a reviewer must know."""

import re
from pathlib import Path

import pytest

from tests.training.shipped import trained
from training.data.sources import Folders
from training.recipe.loader import read_recipe
from training.run import Outcome, run


def _page(outcome: Outcome) -> str:
    return (outcome.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("recipe", "images"),
    [("ice_cream", 4), ("admission", 7), ("iris", 6), ("xor", 3), ("fruit", 5), ("blobs", 6)],
)
def test_a_report_is_one_page_that_loads_nothing(
    recipe: str, images: int, folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its figures are inside it, and no address outside it is asked for."""
    page = _page(trained(recipe, folders, tmp_path_factory.getbasetemp()))

    assert page.count("<svg") == page.count("<figcaption") == images
    for word in ("http://", "https://", "<script", "<link", "@import"):
        assert word not in page
    assert set(re.findall(r"(?:url\(|href=\"|src=\")(.)", page)) <= {"#", "d"}  # inside, or data


def test_a_report_says_how_it_was_measured_and_made(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Metrics are next to those of the baseline; the command and the whole recipe are there."""
    page = _page(trained("ice_cream", folders, tmp_path_factory.getbasetemp()))

    assert "6-fold cross-validation" in page
    assert "the training mean" in page
    assert "onward train ice_cream" in page
    assert "[[features]]" in page
    assert "sha256" in page


def test_words_of_the_table_cannot_become_html(tmp_path: Path, folders: Folders) -> None:
    """A label written like a tag is shown, not obeyed."""
    recipe = read_recipe("xor", ['target.labels=["<b>same</b>", "different"]'])

    page = _page(run(recipe, tmp_path, folders))

    assert "<b>same" not in page
    assert "&lt;b&gt;same" in page


def test_any_script_and_sign_can_be_a_label(tmp_path: Path, folders: Folders) -> None:
    """Dollars are no formula, and letters that the drawing library lacks are still written."""
    recipe = read_recipe("xor", ['target.labels=["$x^$ & _y_", "不同"]'])

    page = _page(run(recipe, tmp_path, folders))

    assert "$x^$ &amp; _y_</text>" in page
    assert "不同</text>" in page


def test_the_same_run_draws_the_same_page(
    folders: Folders, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two reports of one recipe differ only in their times."""
    outcome = trained("admission", folders, tmp_path_factory.getbasetemp())
    pages = [_page(outcome), _page(run(read_recipe("admission"), tmp_path, folders))]

    first, second = (re.sub(r"trained .* s</span>|<dd>[0-9-]{10} .*</dd>", "", p) for p in pages)
    assert first == second


def test_each_label_has_its_shares(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Precision, recall, specificity and F1 of each label are in a table."""
    outcome = trained("iris", folders, tmp_path_factory.getbasetemp())
    page = _page(outcome)

    assert outcome.manifest.evaluation is not None
    metrics = outcome.manifest.evaluation.metrics
    for label in ("setosa", "versicolor", "virginica"):
        row = page[page.index(f"<tr><td>{label}</td>") :]
        shown = re.findall(r'<td class="number">([0-9.]+)</td>', row)[:4]
        names = ("precision", "recall", "specificity", "f1")
        assert shown == [f"{metrics[f'{name}[{label}]']:.3f}" for name in names]


def test_an_unmeasured_model_shows_its_own_rows(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the truth table all four rows are shown, and none is called measured."""
    page = _page(trained("xor", folders, tmp_path_factory.getbasetemp()))

    assert "Not measured" in page
    assert "Predictions for the training rows" in page
    assert page.count("different (") == 2


def test_rows_are_numbered_as_in_the_table(folders: Folders, tmp_path: Path) -> None:
    """A row without a target teaches nothing, yet it counts."""
    rows = 'data.rows=[[1, 1, ""], [0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]'

    page = _page(run(read_recipe("xor", [rows]), tmp_path, folders))

    found = re.findall(r'<tr><td class="number soft">([0-9]+)</td><td>(same|different)', page)
    assert sorted(found) == [("2", "same"), ("3", "different"), ("4", "different"), ("5", "same")]
