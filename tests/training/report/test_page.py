"""The report of a table model."""

import re
from pathlib import Path

import pytest

from tests.recipes import read_recipe
from tests.training.shipped import trained
from training.data.sources import Folders
from training.export.publish import Publication
from training.run import run


def _page(outcome: Publication) -> str:
    return (outcome.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("recipe", "images"),
    [("ice_cream", 4), ("admission", 7), ("iris", 6), ("xor", 3), ("fruit", 5), ("blobs", 6)],
)
def test_a_report_loads_no_external_resources(
    recipe: str, images: int, folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its charts are embedded, and it has no external URL."""
    page = _page(trained(recipe, folders, tmp_path_factory.getbasetemp()))

    assert page.count("<svg") == page.count("<figcaption") == images
    for word in ("http://", "https://", "<script", "<link", "@import"):
        assert word not in page
    assert set(re.findall(r"(?:url\(|href=\"|src=\")(.)", page)) <= {"#", "d"}  # inside, or data


def test_a_report_has_metrics_and_provenance(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Metrics are next to the baseline; command and complete recipe are included."""
    page = _page(trained("ice_cream", folders, tmp_path_factory.getbasetemp()))

    assert "6-fold cross-validation" in page
    assert "the training mean" in page
    assert "onward train ice_cream" in page
    assert "[[features]]" in page
    assert "sha256" in page


def test_labels_are_escaped_in_html(tmp_path: Path, folders: Folders) -> None:
    """A label like a tag is shown as text."""
    recipe = read_recipe("xor", ['target.labels=["<b>same</b>", "different"]'])

    page = _page(run(recipe, tmp_path, folders))

    assert "<b>same" not in page
    assert "&lt;b&gt;same" in page


def test_labels_may_have_any_character(tmp_path: Path, folders: Folders) -> None:
    """Dollar signs are not math, and glyphs that matplotlib lacks are still written."""
    recipe = read_recipe("xor", ['target.labels=["$x^$ & _y_", "不同"]'])

    page = _page(run(recipe, tmp_path, folders))

    assert "$x^$ &amp; _y_</text>" in page
    assert "不同</text>" in page


def test_a_report_is_reproducible(
    folders: Folders, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two reports of one recipe only differ in their times."""
    outcome = trained("admission", folders, tmp_path_factory.getbasetemp())
    pages = [_page(outcome), _page(run(read_recipe("admission"), tmp_path, folders))]

    first, second = (re.sub(r"trained .* s</span>|<dd>[0-9-]{10} .*</dd>", "", p) for p in pages)
    assert first == second


def test_each_label_has_its_metrics(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A table has precision, recall, specificity and F1 of each label."""
    outcome = trained("iris", folders, tmp_path_factory.getbasetemp())
    page = _page(outcome)

    assert outcome.manifest.evaluation is not None
    metrics = outcome.manifest.evaluation.metrics
    for label in ("setosa", "versicolor", "virginica"):
        row = page[page.index(f"<tr><td>{label}</td>") :]
        shown = re.findall(r'<td class="number">([0-9.]+)</td>', row)[:4]
        names = ("precision", "recall", "specificity", "f1")
        assert shown == [f"{metrics[f'{name}[{label}]']:.3f}" for name in names]


def test_an_unmeasured_model_shows_its_training_rows(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All four rows of the truth table, which are not called measured."""
    page = _page(trained("xor", folders, tmp_path_factory.getbasetemp()))

    assert "Not measured" in page
    assert "Predictions for the training rows" in page
    assert page.count("different (") == 2


def test_rows_are_numbered_as_in_the_table(folders: Folders, tmp_path: Path) -> None:
    """Rows without a target are counted."""
    rows = 'data.rows=[[1, 1, ""], [0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]'

    page = _page(run(read_recipe("xor", [rows]), tmp_path, folders))

    found = re.findall(r'<tr><td class="number soft">([0-9]+)</td><td>(same|different)', page)
    assert sorted(found) == [("2", "same"), ("3", "different"), ("4", "different"), ("5", "same")]
