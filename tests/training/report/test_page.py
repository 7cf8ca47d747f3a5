"""The report of a table model."""

import re
from html import unescape
from pathlib import Path

import pytest

from service.bundle.features import CategoryFeature, Feature
from service.bundle.manifest import ValueOutput
from tests.models import manifest
from tests.recipes import read_recipe
from tests.training.shipped import trained
from training.data.sources import Folders
from training.export.publish import Publication
from training.report.imported import Origin, render
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
    requests = page.replace("http://localhost:8000", "")
    for word in ("http://", "https://", "<script", "<link", "@import"):
        assert word not in requests
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


def test_the_contents_lead_to_every_section(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the order of the page, each by its title."""
    page = _page(trained("iris", folders, tmp_path_factory.getbasetemp()))

    contents = page.partition("<nav")[2].partition("</nav>")[0]
    links = re.findall(r'<a href="#([a-z-]+)">([^<]+)</a>', contents)
    assert links == re.findall(r'<h2 id="([a-z-]+)">([^<]+)</h2>', page)
    assert page.count("<h2") == len(links) >= 6


def test_tables_can_be_scrolled_with_the_keyboard(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each one is a region with a name that can have the focus."""
    page = _page(trained("admission", folders, tmp_path_factory.getbasetemp()))

    regions = re.findall(
        r'scroll[^"]*" role="region" aria-label="[^"]+" tabindex="0"><table>', page
    )
    assert len(regions) == page.count("<table>") > 3


def test_the_requests_of_a_report_are_those_of_its_model(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With curl and in Python, each with the example row."""
    page = unescape(_page(trained("admission", folders, tmp_path_factory.getbasetemp())))

    row = '{"exam_1": 45, "exam_2": 85}'
    assert "curl -s http://localhost:8000/models/admission/predict -H 'content-type" in page
    assert f"-d '{row}'" in page
    assert 'client = Client("http://localhost:8000")' in page
    assert "print(client.predict(\"admission\", {'exam_1': 45, 'exam_2': 85}))" in page


def test_backticks_of_a_description_are_code(tmp_path: Path, folders: Folders) -> None:
    """They are not shown; a single one is."""
    recipe = read_recipe("xor", ["description='by `onward <new>`, 5` long'"])
    other = read_recipe("xor", ["description='by `onward <new>`'"])

    assert "by `onward &lt;new&gt;`, 5` long" in _page(run(recipe, tmp_path, folders))
    assert "by <code>onward &lt;new&gt;</code></p>" in _page(run(other, tmp_path, folders))


def test_a_long_list_of_categories_is_folded() -> None:
    """The first six are shown, and a click shows the others, without a script."""
    words = [f"word {number}" for number in range(40)]
    features: list[Feature] = [
        CategoryFeature(type="category", name="long", categories=words, example="word 0"),
        CategoryFeature(type="category", name="short", categories=words[:6], example="word 0"),
    ]
    stated = manifest("words", features, ValueOutput(kind="value", name="value"))

    page = render(stated, Origin("words.onnx", "0", "a test", "2 rows")).decode()

    cells = re.findall(r'<td class="words">(.*?)</td>', page, re.DOTALL)
    shown = ", ".join(words[:6])
    assert cells[0].split() == (
        f"{shown}<details><summary>and 34 more</summary>{', '.join(words[6:])}</details>".split()
    )
    assert cells[1].strip() == shown
