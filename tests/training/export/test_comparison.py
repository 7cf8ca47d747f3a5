"""A new version is compared with the one that serves, and a clearly worse one does not serve."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import Baseline, Evaluation, Manifest
from service.bundle.policy import POLICY
from service.bundle.store import read_bundle
from tests.models import publish_iris, publish_price
from training.__main__ import main
from training.data.table import Float32s, table_from_rows
from training.errors import PublishError
from training.export import comparison
from training.export.comparison import Comparison, compare_tables
from training.export.publish import Publication, check_folder, publish

ROWS = 60
GENERATOR = np.random.default_rng(5)
TARGET = GENERATOR.normal(100, 20, ROWS)
NOISE = GENERATOR.normal(0, 1, ROWS)


def predictions(error: float) -> Float32s:
    """``[rows, 1]`` with errors of about this size."""
    return (TARGET + error * NOISE).astype(np.float32)[:, None]


def evaluated(manifest: Manifest, mae: float) -> Manifest:
    """The manifest with the metrics of a cross-validation."""
    baseline = Baseline(name="the mean", metrics={})
    evaluation = Evaluation(
        part="cross-validation", folds=5, rows=ROWS, metrics={"mae": mae}, baseline=baseline
    )
    return manifest.model_copy(update={"evaluation": evaluation})


def publish_again(folder: Path, manifest: Manifest, comparison: Comparison | None) -> Publication:
    """The bundle of a folder as the next version."""
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    return publish(folder.parents[1], manifest, files, comparison)


@pytest.mark.parametrize(("error", "outcome"), [(2.0, "worse"), (1.05, "alike"), (0.5, "alike")])
def test_recorded_metrics_are_compared_without_common_rows(
    models: Path, error: float, outcome: str
) -> None:
    """After cross-validation, the noise of both versions counts."""
    folder = publish_price(models)
    manifest = evaluated(read_bundle(folder).manifest, float(np.abs(NOISE).mean()))
    publish_again(folder, manifest, None)
    table = table_from_rows([[1.0]] * ROWS, ["size"])

    found = compare_tables(
        models,
        manifest,
        table,
        np.arange(ROWS),
        comparison.TestPredictions(TARGET, predictions(error)),
    )

    assert found is not None
    assert (found.version, found.worse) == (2, outcome == "worse")
    assert "mean absolute error" in found.summary


def test_another_kind_of_prediction_is_not_compared(models: Path) -> None:
    """A classifier cannot be compared with a regression."""
    folder = publish_price(models)
    manifest = evaluated(read_bundle(folder).manifest, 1.0)
    iris = read_bundle(publish_iris(models)).manifest
    other = manifest.model_copy(update={"name": iris.name})
    measured = comparison.TestPredictions(TARGET, predictions(9.0))

    found = compare_tables(models, other, table_from_rows([[1.0]], ["x"]), np.arange(1), measured)

    assert found is not None
    assert not found.worse
    assert found.summary == "Not compared with version 1: it predicts something else."


def test_a_first_version_is_not_compared(models: Path) -> None:
    """The first version of a model serves without a comparison."""
    folder = publish_price(models)
    manifest = read_bundle(folder).manifest.model_copy(update={"name": "other"})

    measured = comparison.TestPredictions(TARGET, predictions(1.0))
    table = table_from_rows([[1.0]], ["size"])
    assert compare_tables(models, manifest, table, np.arange(1), measured) is None
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    assert publish(models, manifest, files).serves


def test_a_worse_version_is_published_but_does_not_serve(models: Path) -> None:
    """The alias of the serving version is set before the new version is published."""
    folder = publish_price(models)
    manifest = read_bundle(folder).manifest
    worse = Comparison(1, worse=True, summary="")

    held = publish_again(folder, manifest, worse)

    assert (held.version, held.serving, held.serves) == (2, 1, False)
    assert json.loads((models / "price" / POLICY).read_text())["aliases"]["stable"]["version"] == 1
    assert publish_again(folder, manifest, replace(worse, worse=False)).serves
    assert not publish_again(folder, manifest, worse).serves
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    assert publish(models, manifest, files, worse, force=True).serves


def test_an_invalid_policy_is_reported_before_the_fit(models: Path) -> None:
    """The serving version is unknown, so nothing is published."""
    publish_price(models)
    (models / "price" / POLICY).write_text("{")

    with pytest.raises(PublishError, match=r"policy\.json is not valid.*remove it first"):
        check_folder(models, "price")


def test_a_run_reports_a_worse_version_and_how_to_serve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both versions are measured on the same test rows; --force serves the worse one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONWARD_MODELS", raising=False)
    rows = "\n".join(f"{x:.2f},{3 * x + e:.2f}" for x, e in zip(TARGET, NOISE, strict=True))
    (tmp_path / "houses.csv").write_text(f"size,price\n{rows}\n")
    worse = ["houses.toml", "training.l2=1000"]
    assert main(["new", "--csv", "houses.csv", "--target", "price", "--family", "linear"]) == 0
    first = capsys.readouterr().out

    assert main(["train", *worse, "split.test=0.3", "split.folds=0"]) == 0
    second = capsys.readouterr().out.splitlines()
    assert main(["train", *worse, "split.test=0.3", "split.folds=0", "--force"]) == 0
    third = capsys.readouterr().out.splitlines()

    assert "Created the models folder" in first
    assert "houses version 1 serves" in first
    assert second[-3:-1] == [
        "Version 2 is clearly worse than version 1.",
        (
            "houses version 2 does not serve; version 1 still serves. "
            "To serve it: onward publish houses 2"
        ),
    ]
    assert "/models/houses/versions/2/predict" in second[-1]
    assert "houses version 3 serves" in third[-2]
    assert third[-1].startswith("  curl -s http://127.0.0.1:")
