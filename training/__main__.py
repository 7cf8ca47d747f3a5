"""Train models from recipes or CSV files and publish them as bundles that the service loads."""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from service.bundle.errors import BundleError
from service.tabletext import Decimal
from training import cli as commands
from training.autorecipe.corrections import NONE, TYPES, Corrections, parse_types
from training.autorecipe.splits import RequestedSplit
from training.candidates import Candidate
from training.console import flush_lines, write_any_letters
from training.data.sources import Folders
from training.errors import DataError, FitError, TrainingError
from training.export.publish import check_folder
from training.images.checkpoint import CheckpointOptions
from training.import_arguments import (
    ACCUMULATED,
    add_import_options,
    read_image_options,
    read_table_options,
    require_one_kind,
    split_names,
)
from training.importing.images import read_labels
from training.race import Limits
from training.recipe.families import list_draft_families
from training.recipe.image import ImageRecipe
from training.recipe.loader import read_any, read_document
from training.recipe.table import Recipe

Options = argparse.Namespace

# The exit code of shells for a command that ^C interrupted.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 or 130 with a message on standard error."""
    words = _join_values(sys.argv[1:] if arguments is None else arguments)
    parser, verbs = _create_parser()
    if words and not words[0].startswith("-") and words[0] not in verbs:
        words.insert(0, "train")  # the default command
    options, rest = parser.parse_known_args(words)
    unknown = [word for word in rest if word.startswith("-") or "=" not in word]
    if unknown or (rest and "overrides" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:  # argparse does not parse overrides after an option
        options.overrides = [*options.overrides, *rest]
    write_any_letters()
    try:
        options.command(options)
        flush_lines()
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

    _add_new(
        verbs.add_parser("new", help="infer a recipe from your own data, write it and train it")
    )

    _add_search(verbs.add_parser("search", help="search the hyperparameters of a recipe"))

    verb = verbs.add_parser("evaluate", help="measure a published model on a CSV file")
    _add_evaluation_options(verb)

    verb = verbs.add_parser("compare", help="list the metrics of all versions")
    verb.add_argument("names", nargs="*", help="models (default: all)")
    _add_models(verb)
    verb.set_defaults(command=lambda options: commands.compare(options.models, options.names))

    verb = verbs.add_parser(
        "import",
        help="import an ONNX model of another library as a bundle",
        description="Import an ONNX model of another library as a bundle that serves exactly what "
        "the model predicts, or say why not. docs/serve-your-model.md shows how each library "
        "writes the file.",
    )
    add_import_options(verb)
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


def _add_new(verb: argparse.ArgumentParser) -> None:
    data = verb.add_mutually_exclusive_group(required=True)
    data.add_argument("--csv", type=Path, help="a table: CSV, Parquet, Arrow or Excel")
    data.add_argument("--images", type=Path, help="a folder with a folder of images per class")
    verb.add_argument("--target", help="with --csv: the target column, its name or position from 1")
    verb.add_argument("--size", type=int, help="with --images: side in pixels (default: 112)")
    verb.add_argument("--name", help="name of the model (default: that of the file)")
    families = verb.add_mutually_exclusive_group()
    families.add_argument(
        "--family", choices=list_draft_families(), help="(default: the best of several)"
    )
    families.add_argument(
        "--quick", action="store_true", help="with --csv: only fit gradient boosting"
    )
    verb.add_argument(
        "--seconds",
        type=_parse_positive,
        default=math.inf,
        help="with --csv: about how long families are compared and the best is fitted",
    )
    verb.add_argument("--recipe", type=Path, help="where to write it (default: NAME.toml)")
    _add_split_options(verb)
    _add_corrections(verb)
    _add_folders(verb)
    _add_publishing_options(verb)
    verb.set_defaults(command=_new)


def _train(options: Options) -> None:
    _run(read_any(options.recipe, options.overrides), options)


def _run(
    recipe: Recipe | ImageRecipe,
    options: Options,
    own_file: Path | None = None,
    candidates: Sequence[Candidate] = (),
) -> None:
    checkpoints = CheckpointOptions(options.runs, resume=options.resume)
    folders = _create_folders(options, own_file)
    commands.train(
        recipe,
        options.models,
        folders,
        checkpoints,
        force=options.force,
        candidates=candidates,
    )


def _new(options: Options) -> None:
    recipe, candidates = _draft(options), list[Candidate]()
    path = options.recipe or Path(f"{recipe.name}.toml")
    check_folder(options.models, recipe.name)
    commands.check_recipe_path(path)
    if isinstance(recipe, Recipe):
        folders = _create_folders(options, options.csv)
        limits = Limits(options.seconds, options.quick)
        candidates = commands.compare_families(recipe, folders, options.family, limits)
        recipe = candidates[0].recipe if candidates else recipe
    commands.describe_model(recipe)
    created = commands.write_recipe(recipe, path)
    try:
        _run(recipe, options, own_file=options.csv, candidates=candidates)
    except FitError:
        raise  # its message says how to edit the recipe
    except BaseException:
        if created is not None:
            created.unlink(missing_ok=True)
        raise


def _draft(options: Options) -> Recipe | ImageRecipe:
    if options.images:
        if options.target or options.family:
            raise DataError(
                "--target and --family are options of --csv; the folder names are the classes."
            )
        if options.group or options.time or options.split:
            raise DataError("--group, --time and --split are options of --csv.")
        if options.quick or options.seconds < math.inf:
            raise DataError("--quick and --seconds are options of --csv.")
        if _read_corrections(options) != NONE:
            raise DataError(
                "--column, --drop, --positive, --separator, --encoding, --decimal and --sheet are "
                "options of --csv."
            )
        return commands.new_images(options.images, options.name, options.size)
    if not options.target:
        raise DataError("--target is missing: give the name of the column to predict.")
    if options.size:
        raise DataError("--size is an option of --images.")
    split = RequestedSplit(options.group, options.time, random=options.split == "random")
    return commands.new(
        options.csv,
        options.target,
        options.name,
        options.family,
        split=split,
        corrections=_read_corrections(options),
    )


def _add_split_options(verb: argparse.ArgumentParser) -> None:
    split = verb.add_mutually_exclusive_group()
    split.add_argument(
        "--group",
        metavar="COLUMN",
        help="with --csv: rows with the same cell, such as a patient, stay in one set; the column "
        "is not a feature (default: by the table)",
    )
    split.add_argument(
        "--time",
        metavar="COLUMN",
        help="with --csv: the newest rows are the test set (default: by the table)",
    )
    split.add_argument(
        "--split", choices=["random"], help="with --csv: ignore groups and times in the table"
    )


def _add_corrections(verb: argparse.ArgumentParser) -> None:
    corrections = verb.add_argument_group("corrections of what is inferred, with --csv")
    corrections.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="COLUMN=TYPE",
        help=f"{', '.join(TYPES)}, or a format of dates such as DD.MM.YYYY; can be repeated",
    )
    corrections.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column that is not a feature; can be repeated",
    )
    corrections.add_argument(
        "--positive",
        metavar="LABEL",
        help="the one of two labels whose probability is predicted (default: a rare one)",
    )
    corrections.add_argument(
        "--separator", type=_parse_separator, metavar="MARK", help="between cells: a mark, or tab"
    )
    corrections.add_argument("--encoding", help="of the file, such as latin-1")
    corrections.add_argument("--decimal", choices=get_args(Decimal), help="decimal mark")
    corrections.add_argument("--sheet", help="of an Excel file (default: the first)")


def _parse_separator(text: str) -> str:
    mark = "\t" if text in ("tab", "\\t") else text
    if len(mark) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, such as ';', or tab")
    return mark


def _read_corrections(options: Options) -> Corrections:
    return Corrections(
        types=parse_types(options.column),
        dropped=options.drop,
        positive=options.positive,
        separator=options.separator,
        encoding=options.encoding,
        decimal=options.decimal,
        sheet=options.sheet,
    )


def _add_search(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("recipe", help="a shipped recipe's name, or the path of a .toml file")
    verb.add_argument(
        "overrides",
        nargs="*",
        metavar="key=low..high",
        help="values to search, also key=a|b|c; key=value changes a key for all trials",
    )
    verb.add_argument("--trials", type=_parse_positive, default=30, help="(default: 30)")
    verb.add_argument(
        "--seconds", type=_parse_positive, default=math.inf, help="no trial begins after this time"
    )
    verb.add_argument("--write", type=Path, help="where to write the best recipe")
    _add_folders(verb)
    verb.set_defaults(
        command=lambda o: commands.search(
            o.recipe,
            o.overrides,
            _create_folders(o),
            trials=o.trials,
            seconds=o.seconds,
            path=o.write,
        )
    )


def _parse_positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _add_evaluation_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", help="name, or name/version (default: the version that serves)")
    verb.add_argument("--csv", type=Path, required=True, help="rows with their target column")
    verb.add_argument(
        "--target", help="of an imported model: the target column (default: name of the output)"
    )
    verb.add_argument(
        "--values",
        type=split_names,
        **ACCUMULATED,
        metavar="A,B",
        help="of an imported model: how the target column writes each label, in their order",
    )
    _add_models(verb)
    verb.set_defaults(
        command=lambda o: commands.evaluate(o.model, o.csv, o.models, o.target, o.values)
    )


def _import(options: Options) -> None:
    overrides = [*options.overrides, *(word for word in options.expected if "=" in word)]
    if options.features:
        names = [f"{{name = {json.dumps(name)}}}" for name in options.features]
        overrides.append(f"features=[{', '.join(names)}]")
    if options.target:
        overrides.append(f"target.column={json.dumps(options.target)}")
    document = read_document(options.card, overrides)
    labels = read_labels(options.labels_file) if options.labels_file else options.labels
    require_one_kind(options)
    if options.images is not None:
        commands.import_images(
            options.path, document, read_image_options(options, labels), options.models
        )
        return
    commands.import_onnx(
        options.path, document, options.csv, options.models, read_table_options(options, labels)
    )


def _join_values(words: Sequence[str]) -> list[str]:
    """Join options with values that argparse reads otherwise.

    It takes ``-1,1`` for another option, and the file after ``import --images`` for a folder.
    """
    joined: list[str] = []
    for word in words:
        last = joined[-1] if joined else ""
        if last.startswith("--") and "=" not in last and _is_negative(word):
            joined[-1] += f"={word}"
        elif last == "--images" and joined[0] == "import" and _is_model(Path(word)):
            joined[-1:] = ["--images=", word]
        else:
            joined.append(word)
    return joined


def _is_model(path: Path) -> bool:
    return path.suffix == ".onnx" or path.is_file() or (path / "MLmodel").exists()


def _is_negative(word: str) -> bool:
    return word.startswith("-") and word[1:2].isdecimal()


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
