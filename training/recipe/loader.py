"""Read recipes from TOML with `key=value` overrides; report all problems at once."""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from training.errors import RecipeError
from training.recipe.image import ImageRecipe
from training.recipe.table import Card, Preprocessing, Purpose, Recipe

T = TypeVar("T", bound=Purpose)
RECIPES = Path(__file__).parents[1] / "recipes"
Checks = list[tuple[bool, str]]
"""Conditions that are problems, with their messages."""


def recipe_names() -> list[str]:
    """Return the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_any(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe | ImageRecipe:
    """Read a recipe for tables or images: a shipped one by its name, or a `.toml` file.

    Each override ``key=value`` changes a key.

    Raises:
        RecipeError: with all problems; unknown keys with the closest known key.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
        if name_or_path not in recipe_names():
            raise RecipeError(name_or_path, [_no_such_recipe(name_or_path)])
    document = read_document(path, overrides)
    if "image" in document:
        return parse_image_recipe(document, name_or_path)
    return parse_recipe(document, name_or_path)


def read_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe for tables as `read_any` does.

    Raises:
        RecipeError: with all problems, or because it is for images.
    """
    recipe = read_any(name_or_path, overrides)
    if isinstance(recipe, ImageRecipe):
        raise RecipeError(name_or_path, ["image: a recipe for a table has no such section"])
    return recipe


def read_document(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file, if given, and apply `key=value` overrides.

    Raises:
        RecipeError: it cannot be read.
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(str(path), [f"{path.name} cannot be read: {error}"]) from None
    for override in overrides:
        _override(document, override)
    return document


def parse_recipe(document: dict[str, Any], origin: str) -> Recipe:
    """Validate a parsed recipe for tables.

    Raises:
        RecipeError: with all problems.
    """
    recipe = _checked(Recipe, document, origin)
    if problems := cross_field_problems(recipe):
        raise RecipeError(origin, problems)
    return recipe


def parse_image_recipe(document: dict[str, Any], origin: str) -> ImageRecipe:
    """Validate a parsed recipe for images.

    Raises:
        RecipeError: with all problems.
    """
    return _checked(ImageRecipe, document, origin)


def parse_card(document: dict[str, Any], origin: str) -> Card:
    """Validate the parsed card of an imported model.

    Raises:
        RecipeError: with all problems.
    """
    return _checked(Card, document, origin)


def toml_of(recipe: Recipe | ImageRecipe) -> str:
    """Write the recipe as TOML, from which the same recipe can be read."""
    document = recipe.model_dump(mode="json", exclude_defaults=True)
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    features = document.pop("features", [])
    lines = _lines({key: value for key, value in document.items() if key not in tables})
    for key in ("data", "target"):
        lines += ["", f"[{key}]", *_lines(tables.pop(key))]
    for feature in features:
        lines += ["", "[[features]]", *_lines(feature)]
    for key, section in tables.items():
        lines += ["", f"[{key}]", *_lines(section)]
    return "\n".join(lines) + "\n"


def _checked(kind: type[T], document: dict[str, Any], origin: str) -> T:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        problems = [_problem(kind, p) for p in error.errors()]
        raise RecipeError(origin, problems) from None


def _no_such_recipe(name: str) -> str:
    near = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"there is no recipe with this name{hint}; "
        f"available: {', '.join(recipe_names())}, or the path of a .toml file"
    )


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(
            override, ["an override is written key=value, for example training.epochs=50"]
        )
    try:
        value: JsonValue = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.split(".")
    position = document
    for section in sections:
        inner = position.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(override, [f"{section} is not a section, so {key} cannot be set"])
        position = inner
    position[last] = value


def _problem(document: type[BaseModel], error: ErrorDetails) -> str:
    kind, loc, found = error["type"], error["loc"], error["input"]
    message = error["msg"].removeprefix("Value error, ")
    where = ".".join(str(step) for step in loc if not _is_branch(step))
    if kind == "extra_forbidden":
        known = sorted(_section_at(document, loc[:-1]).model_fields)
        near = _in_sections(document, str(loc[-1])) or difflib.get_close_matches(
            str(loc[-1]), known, n=1, cutoff=0.5
        )
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{where}: there is no such key; {hint}"
    if kind == "missing":
        return f"{where}: this key is required"
    return f"{where}: {message[0].lower()}{message[1:]}, but it is {found!r}"


def _in_sections(document: type[BaseModel], key: str) -> list[str]:
    """List the sections that have a key that was written without its section."""
    sections = {name: _section_at(document, (name,)) for name in document.model_fields}
    return [
        f"{name}.{key}"
        for name, section in sections.items()
        if section is not document and key in section.model_fields
    ]


def _is_branch(step: int | str) -> bool:
    # For union types, pydantic adds the branch, such as "literal['half']".
    return isinstance(step, str) and any(mark in step for mark in "[(")


def _section_at(section: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    for step in loc:
        if isinstance(step, str) and step in section.model_fields:
            annotation = section.model_fields[step].annotation
            for kind in (annotation, *get_args(annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    section = kind
    return section


def _lines(section: Mapping[str, Any]) -> list[str]:
    # TOML values are written like JSON, except for one control character.
    written = {key: json.dumps(value, ensure_ascii=False) for key, value in section.items()}
    return [f"{key} = " + value.replace("\x7f", "\\u007f") for key, value in written.items()]


def cross_field_problems(recipe: Recipe) -> list[str]:
    """List problems between keys that are each valid."""
    checks = _of_the_table(recipe) + _of_the_learning(recipe) + _of_the_family(recipe)
    return [sentence for wrong, sentence in checks if wrong]


def _of_the_table(recipe: Recipe) -> Checks:
    data, target, split = recipe.data, recipe.target, recipe.split
    names = [feature.name for feature in recipe.features]
    numbers = [feature.name for feature in recipe.features if feature.type != "category"]
    rotated = [name for pair in recipe.preprocessing.rotated for name in pair]
    return [
        (
            sum(part is not None for part in (data.source, data.file, data.rows)) != 1,
            "data: set exactly one of source, file and rows",
        ),
        (
            data.rows is not None and data.columns is None,
            "data.columns: required for a table in data.rows",
        ),
        (
            data.header is True and data.columns is not None,
            "data.columns: a file with a header already names its columns; remove one of the two",
        ),
        (
            data.thousands == data.decimal,
            f"data.thousands: {data.thousands!r} is the decimal mark",
        ),
        (len(set(names)) != len(names), "features: two features have the same name"),
        (
            not set(rotated) <= set(numbers),
            f"preprocessing.rotated: {', '.join(rotated)} must be features that are numbers",
        ),
        (target.column in names, f"features: {target.column} is the target, not a feature"),
        (len(target.labels) == 1, "target.labels: a class needs at least two labels"),
        (
            bool(target.values) and len(target.values) != len(target.labels),
            "target.values: must have the same length as labels",
        ),
        (
            target.threshold in ("f1", "youden") and split.validation == 0,
            f"target.threshold: {target.threshold} is chosen on split.validation, which is 0",
        ),
        (bool(target.labels) and target.log, "target.log: a class has no logarithm"),
        (split.test + split.validation >= 1, "split: nothing is left to train on"),
        (split.folds == 1, "split.folds: one fold leaves nothing to train on; use 2 or more"),
        (
            split.interval_folds == 1,
            "split.interval_folds: one fold leaves nothing to train on; use 2 or more",
        ),
        (
            bool(target.labels) and split.interval_folds > 0,
            "split.interval_folds: intervals are for regression, but this target has labels",
        ),
        (
            (split.test == 0 and split.folds == 0) != split.unmeasured,
            "split: set test or folds to measure the model, or set unmeasured = true",
        ),
    ]


def _of_the_learning(recipe: Recipe) -> Checks:
    network, training, family = recipe.network, recipe.training, recipe.family
    classes = bool(recipe.target.labels)
    loss = training.loss if training else None
    return [
        (
            not classes and "regression" not in family.tasks,
            f"network.family: {network.family} predicts classes; give target.labels",
        ),
        (
            classes and recipe.task not in family.tasks,
            f"network.family: {network.family} predicts a number; for labels use logistic or mlp",
        ),
        (
            family.hidden_layers and not network.hidden_layer_sizes,
            f"network.hidden_layer_sizes: {network.family} needs the sizes of its layers",
        ),
        (
            not family.hidden_layers and network.hidden_layer_sizes != [],
            f"network.hidden_layer_sizes: {network.family} has no hidden layers",
        ),
        (
            loss is not None and classes != (loss in ("cross-entropy", "hinge", "perceptron")),
            f"training.loss: {loss} does not fit this target",
        ),
        (
            loss in ("hinge", "perceptron") and recipe.task == "multiclass",
            f"training.loss: {loss} needs exactly two labels",
        ),
        (
            training is not None and training.nesterov and training.momentum == 0,
            "training.nesterov: needs momentum",
        ),
    ]


def _of_the_family(recipe: Recipe) -> Checks:
    family = recipe.network.family
    if recipe.family.library == "PyTorch":
        return [(recipe.training is None, "training: this section is required")]
    return [
        (
            recipe.training is not None,
            f"training: scikit-learn fits a {family}; remove this section",
        ),
        (
            recipe.preprocessing != Preprocessing(),
            f"preprocessing: a {family} uses raw columns; remove this section",
        ),
        (
            any(feature.optional or feature.type == "category" for feature in recipe.features),
            f"features: a {family} only supports numbers and booleans without missing values",
        ),
    ]
