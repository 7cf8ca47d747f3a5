"""The results page: every published model beside what it must reach, measured anew."""

from pathlib import Path

from training.published import Published, open_model, published_names
from training.sources import Folders
from training.yardsticks import FIGURES, Figure, trial_of


def results_page(models: Path, folders: Folders) -> str:
    """The page in Markdown.

    Raises:
        TrainingError: a model or its data set cannot be read.
    """
    lines = [_HEAD]
    for name in published_names(models):
        model = open_model(models, name)
        if name in FIGURES:
            figures = FIGURES[name](trial_of(model, models, folders))
            lines += [_row(name, figure) for figure in figures]
    lines.append(_MADE)
    lines += [_made(open_model(models, name)) for name in published_names(models)]
    return "\n".join(lines) + "\n"


def _row(name: str, figure: Figure) -> str:
    holds = "yes" if figure.holds else "**no**"
    return f"| `{name}` | {figure.claim} | {figure.measured} | {holds} |"


def _made(model: Published) -> str:
    made, evaluation = model.manifest.provenance, model.manifest.evaluation
    if made is None:
        return f"| `{model.manifest.name}` | | | | | |"
    measured = "not measured"
    if evaluation is not None and evaluation.part == "test":
        measured = f"{evaluation.rows:,} test rows"
    elif evaluation is not None:
        measured = f"{evaluation.folds} folds"
    digest = model.manifest.files["model.onnx"]
    return (
        f"| `{model.manifest.name}` | {made.split.training:,} | {measured} | {made.seed} "
        f"| {made.duration_seconds:g} s | `{digest.sha256[:16]}`, {digest.bytes / 1024:,.0f} KiB |"
    )


_HEAD = """\
# Results

Made by `python -m training results`, which measures every published model anew beside another \
solver or library on the same rows.
Do not edit it by hand.

Gradient boosting is scikit-learn's `HistGradientBoostingRegressor` with its defaults, fitted on \
every row outside the test part.

| model | must reach | measured | holds |
| --- | --- | --- | --- |"""

_MADE = """
## How they were made

The time is that of the whole run on one machine with two CPU cores: reading, fitting with all \
its folds, measuring, exporting and proving.
The digest is that of `model.onnx`: the same recipe, seed and machine give it again.

| model | training rows | measured on | seed | time | sha256 of `model.onnx` |
| --- | --- | --- | --- | --- | --- |"""
