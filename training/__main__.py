"""Train models from recipes or CSV files and publish them as bundles that the service loads."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from service.bundle.errors import BundleError
from training import cli as commands
from training.data.sources import Folders
from training.errors import DataError, FitError, TrainingError
from training.images.checkpoint import CheckpointOptions
from training.recipe.families import list_draft_families
from training.recipe.image import ImageRecipe
from training.recipe.loader import read_any, read_document
from training.recipe.table import Recipe

Options = argparse.Namespace

# The exit code of shells for a command that ^C interrupted.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 or 130 with a message on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, verbs = _create_parser()
    if words and not words[0].startswith("-") and words[0] not in verbs:
        words.insert(0, "train")  # the default command
    options, rest = parser.parse_known_args(words)
    unknown = [word for word in rest if word.startswith("-") or "=" not in word]
    if unknown or (rest and "overrides" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:  # argparse does not parse overrides after an option
        options.overrides = [*options.overrides, *rest]
    try:
        options.command(options)
    except (TrainingError, BundleError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; published models are unchanged.\n")
        return _INTERRUPTED
    return 0


def _create_parser() -> tuple[argparse.ArgumentParser, set[str]]:
    parser = argparse.ArgumentParser(prog="onward", description=__doc__)
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    verb = verbs.add_parser("train", help="train a recipe; this is the default command")
    verb.add_argument("recipe", help="a shipped recipe's name, or the path of a .toml file")
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="change a key")
    _add_folders(verb)
    _add_publishing_options(verb)
    verb.set_defaults(command=_train)

    verb = verbs.add_parser("list", help="list the shipped recipes and their published versions")
    _add_models(verb)
    verb.set_defaults(command=lambda options: commands.list_recipes(options.models))

    verb = verbs.add_parser("new", help="infer a recipe from your own data, write it and train it")
    data = verb.add_mutually_exclusive_group(required=True)
    data.add_argument("--csv", type=Path, help="a table")
    data.add_argument("--images", type=Path, help="a folder with a folder of images per class")
    verb.add_argument("--target", help="with --csv: the target column, its name or position from 1")
    verb.add_argument("--size", type=int, help="with --images: side in pixels (default: 112)")
    verb.add_argument("--name", help="name of the model (default: that of the file)")
    verb.add_argument("--family", choices=list_draft_families(), help="(default: by the table)")
    verb.add_argument("--recipe", type=Path, help="where to write it (default: NAME.toml)")
    _add_folders(verb)
    _add_publishing_options(verb)
    verb.set_defaults(command=_new)

    verb = verbs.add_parser("evaluate", help="measure a published model on a CSV file")
    verb.add_argument("model", help="name, or name/version (default: the version that serves)")
    verb.add_argument("--csv", type=Path, required=True, help="rows with their target column")
    _add_models(verb)
    verb.set_defaults(command=lambda o: commands.evaluate(o.model, o.csv, o.models))

    verb = verbs.add_parser("compare", help="list the metrics of all versions")
    verb.add_argument("names", nargs="*", help="models (default: all)")
    _add_models(verb)
    verb.set_defaults(command=lambda options: commands.compare(options.models, options.names))

    verb = verbs.add_parser("import", help="import an ONNX model of another library as a bundle")
    verb.add_argument("onnx", type=Path, help="the ONNX file")
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="change a key of the card")
    verb.add_argument("--card", type=Path, help=".toml file: name, title, features, target …")
    verb.add_argument("--features", help="names of the columns, in the order of the graph: a,b,c")
    verb.add_argument("--labels", help="names of the classes, in the order of the graph: a,b,c")
    verb.add_argument("--csv", type=Path, help="rows to verify the bundle with")
    verb.add_argument("--target", help="target column of these rows, to measure the model")
    _add_models(verb)
    verb.set_defaults(command=_import)

    verb = verbs.add_parser("results", help="compare all shipped models with other solvers")
    verb.add_argument("--page", type=Path, default=Path("docs/results.md"), help="page to write")
    verb.add_argument("--also", type=Path, help="another folder of models")
    _add_folders(verb)
    verb.set_defaults(
        command=lambda o: commands.results(o.models, _create_folders(o), o.page, o.also)
    )
    return parser, set(verbs.choices)


def _train(options: Options) -> None:
    _run(read_any(options.recipe, options.overrides), options)


def _run(recipe: Recipe | ImageRecipe, options: Options, own_file: Path | None = None) -> None:
    checkpoints = CheckpointOptions(options.runs, resume=options.resume)
    folders = _create_folders(options, own_file)
    commands.train(recipe, options.models, folders, checkpoints, force=options.force)


def _new(options: Options) -> None:
    recipe = _draft(options)
    path = options.recipe or Path(f"{recipe.name}.toml")
    is_new = not path.exists()
    try:
        commands.write_recipe(recipe, path)
        _run(recipe, options, own_file=options.csv)
    except FitError:
        raise  # its message says how to edit the recipe
    except (TrainingError, KeyboardInterrupt):
        if is_new:
            path.unlink(missing_ok=True)
        raise


def _draft(options: Options) -> Recipe | ImageRecipe:
    if options.images:
        if options.target or options.family:
            raise DataError(
                "--target and --family are options of --csv; the folder names are the classes."
            )
        return commands.new_images(options.images, options.name, options.size)
    if not options.target:
        raise DataError("--target is missing: give the name of the column to predict.")
    if options.size:
        raise DataError("--size is an option of --images.")
    return commands.new(options.csv, options.target, options.name, options.family)


def _import(options: Options) -> None:
    overrides = list(options.overrides)
    if options.features:
        names = [f"{{name = {json.dumps(name)}}}" for name in options.features.split(",")]
        overrides.append(f"features=[{', '.join(names)}]")
    if options.labels:
        overrides.append(f"target.labels={json.dumps(options.labels.split(','))}")
    if options.target:
        overrides.append(f"target.column={json.dumps(options.target)}")
    document = read_document(options.card, overrides)
    commands.import_onnx(options.onnx, document, options.csv, options.models)


def _create_folders(options: Options, own_file: Path | None = None) -> Folders:
    return Folders(options.data, Path.home() / ".cache" / "onward", own_file)


def _add_folders(verb: argparse.ArgumentParser) -> None:
    _add_models(verb)
    verb.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("ONWARD_DATA"),
        help="folder with copies of public data sets (setting ONWARD_DATA)",
    )


def _add_publishing_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--force",
        action="store_true",
        help="serve the new version even if it is clearly worse than the one that serves",
    )
    verb.add_argument("--resume", action="store_true", help="images: continue an interrupted run")
    verb.add_argument(
        "--runs", type=Path, default=Path("runs"), help="images: folder for checkpoints"
    )


def _add_models(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--models",
        type=Path,
        default=os.environ.get("ONWARD_MODELS", "models"),
        help="folder of published models (setting ONWARD_MODELS, default models)",
    )


if __name__ == "__main__":
    sys.exit(main())
