"""`onward compare` lists the candidates of the newest version of each model."""

from pathlib import Path

import pytest

from service.bundle.provenance import Candidate
from service.bundle.store import read_bundle
from training.__main__ import main
from training.summary import format_candidates

SHIPPED = Path(__file__).parents[2] / "models"


def test_candidates_have_a_line_each_and_one_is_chosen() -> None:
    """The mean and the deviation of the folds, the seconds, and the size of the chosen one."""
    manifest = read_bundle(SHIPPED / "california_linear" / "1").manifest
    assert manifest.provenance is not None
    candidates = [
        Candidate(family=family, metric="rmse", mean=mean, deviation=12.5, folds=5, seconds=3.21)
        for family, mean in (("linear", 68123.4), ("mlp", 70000.0))
    ]
    provenance = manifest.provenance.model_copy(update={"candidates": candidates})

    title, header, first, second = format_candidates(
        manifest.model_copy(update={"provenance": provenance})
    ).splitlines()[1:]

    size = manifest.files["model.onnx"].bytes
    assert "california_linear" in title
    assert header.split() == ["family", "metric", "mean", "deviation", "seconds"]
    assert first.split()[:5] == ["linear", "rmse", "68,123", "12.5", "3.2"]
    assert first.endswith(f"chosen, {size / 1000:,.0f} kB")
    assert second.split() == ["mlp", "rmse", "70,000", "12.5", "3.2"]


def test_a_model_without_a_comparison_has_no_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only its metrics are listed."""
    monkeypatch.chdir(tmp_path)
    assert main(["line"]) == 0
    capsys.readouterr()

    assert main(["compare"]) == 0

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["model", "line/1"]
