"""Remarks on the quality of a table, and where they are displayed."""

from html import unescape
from pathlib import Path

import numpy as np
import pytest

from tests.recipes import read_recipe
from training.autorecipe.draft import Draft, draft
from training.autorecipe.quality import (
    describe_columns,
    describe_fit,
    describe_format,
    find_rare_label,
)
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders, load
from training.run import run


def _drafted(folder: Path) -> Draft:
    """300 rows of which two repeat, four without a target, one label in six rare."""
    generator = np.random.default_rng(1)
    lines = [
        f"{k % 7},{generator.normal():.4f},same,{1000 + 7 * k},{'rare' if k % 6 == 0 else 'usual'}"
        for k in range(294)
    ]
    lines += lines[:2] + ["1,0.5,same,77,"] * 4
    path = folder / "table.csv"
    path.write_text("\n".join(["x,z,constant,customer_id,y", *lines]), encoding="utf-8")
    return draft(read_csv(path, UNKNOWN), str(path), "y", "table", None)


def test_a_report_contains_the_remarks_of_the_draft(folders: Folders, tmp_path: Path) -> None:
    """Warnings are above the table of metrics; what the model does not use has its own section."""
    drafted = _drafted(tmp_path)

    folder = run(drafted.recipe, tmp_path, folders).folder

    page = unescape((folder / "report.html").read_text(encoding="utf-8"))
    before, _, after = page.partition('<th scope="col">metric</th>')
    for sentence in (
        "Duplicate rows: 2",
        "The label 'rare' is rare (16.9%)",
        'To predict it more often, set target.threshold = "f1" in the recipe.',
    ):
        assert sentence in before
    left_out = after.partition('<h2 id="left-out">')[2].partition("</section>")[0]
    for sentence in (
        "4 rows have no valid target and are skipped.",
        "Not used: constant (constant).",
        "Not used: customer_id (an identifier).",
    ):
        assert sentence in left_out
    assert drafted.recipe.target.labels == ["usual", "rare"]


def test_unused_columns_are_listed(folders: Folders) -> None:
    """Columns that cannot be used are listed with the reason."""
    recipe = read_recipe("king_county")

    said = describe_columns(recipe, load(recipe.data, folders))

    assert "Not used: id (an identifier)." in said


@pytest.mark.parametrize(("rows", "rare"), [(40, "admitted"), (10, "admitted"), (45, None)])
def test_one_of_two_labels_may_be_rare(rows: int, rare: str | None) -> None:
    """Above 35 % of the rows neither label is rare."""
    target = np.zeros(115)
    target[:rows] = 1

    assert find_rare_label(read_recipe("admission"), target) == rare


@pytest.mark.parametrize(
    ("cell", "remark"),
    [
        ('"u,1\n2,v,2\n3,w,3\n4,x"', "1 row cannot be read (line 42)"),
        ('"u\n5,v,6\n5,v,6"', "row 41, column 'b': the cell has 2 lines like rows"),
        ('"two\nlines"', None),
        ('"a, b\nc, d\ne"', None),
    ],
)
def test_rows_within_a_cell_are_reported(tmp_path: Path, cell: str, remark: str | None) -> None:
    """A quote that is not closed makes one cell of many rows."""
    path = tmp_path / "table.csv"
    path.write_text("a,b,y\n" + "1,u,2\n3,v,4\n" * 20 + f"5,{cell},6\n")

    _, *remarks = describe_format(read_csv(path, UNKNOWN))

    assert len(remarks) == (remark is not None)
    assert all(remark in text for text in remarks if remark)


def test_a_network_of_a_comparison_is_described_without_a_best_epoch() -> None:
    """Nothing stops it early."""
    recipe = read_recipe("california_mlp")
    network = recipe.network.model_copy(update={"seed": 3})

    (usual,), (drawn,) = (
        describe_fit(one) for one in (recipe, recipe.model_copy(update={"network": network}))
    )

    assert "best epoch" in usual
    assert "epochs of AdamW. Measured on" in drawn
