"""The command line: `python -m training <recipe>`, and what else there is to do with models."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from service.bundle.errors import BundleError
from service.bundle.files import versions_in
from service.bundle.manifest import Evaluation
from training.config import read_recipe, recipe_names
from training.errors import TrainingError
from training.run import run
from training.sources import Folders

_HEADLINES = ("rmse", "r2", "accuracy", "roc_auc", "log_loss")
_CACHE = Path.home() / ".cache" / "onward"

Options = argparse.Namespace
Command = Callable[[Options], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 with a sentence on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_train, _add_list):
        add(verbs)
    if words and not words[0].startswith("-") and words[0] not in verbs.choices:
        words.insert(0, "train")  # a recipe's name alone means: train it
    options = parser.parse_args(words)
    command: Command = options.command
    try:
        command(options)
    except (TrainingError, BundleError) as error:
        _say(str(error), sys.stderr)
        return 2
    return 0


def _add_train(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = verbs.add_parser("train", help="train a recipe and publish its model (the default)")
    verb.add_argument("recipe", help="a shipped recipe's name, or the path of a .toml file")
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="change a key of it")
    _add_folders(verb)
    verb.set_defaults(command=_train)


def _train(options: Options) -> None:
    recipe = read_recipe(options.recipe, options.overrides)
    outcome = run(recipe, options.models, _folders(options))
    evaluation = outcome.manifest.evaluation
    _say(f"Published {outcome.folder}")
    if evaluation is not None:
        _say(_summary(evaluation))


def _add_list(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = verbs.add_parser("list", help="name the shipped recipes and their published versions")
    verb.add_argument("--models", type=Path, default=_default_models())
    verb.set_defaults(command=_list)


def _list(options: Options) -> None:
    for name in recipe_names():
        versions = ", ".join(map(str, versions_in(options.models / name))) or "none"
        _say(f"{name:<20} {read_recipe(name).title}  [published: {versions}]")


def _summary(evaluation: Evaluation) -> str:
    part = (
        f"{evaluation.rows} test rows"
        if evaluation.part == "test"
        else (f"{evaluation.rows} rows, {evaluation.folds}-fold cross-validation")
    )
    lines = [f"Measured on {part}; in brackets {evaluation.baseline.name}:"]
    for name in _HEADLINES:
        if name in evaluation.metrics:
            naive = evaluation.baseline.metrics.get(name)
            beside = "" if naive is None else f"  ({naive:.4g})"
            lines.append(f"  {name:<10} {evaluation.metrics[name]:.4g}{beside}")
    return "\n".join(lines)


def _add_folders(verb: argparse.ArgumentParser) -> None:
    data = os.environ.get("ONWARD_DATA")
    verb.add_argument("--models", type=Path, default=_default_models(), help="where to publish")
    verb.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        help="folder of public data sets, before any download (setting ONWARD_DATA)",
    )


def _folders(options: Options) -> Folders:
    return Folders(options.data, _CACHE)


def _say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream)


def _default_models() -> Path:
    return Path(os.environ.get("ONWARD_MODELS", "models"))


if __name__ == "__main__":
    sys.exit(main())
