"""Read recipes from TOML with ``key=value`` overrides; report all problems at once."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from service.spelling import closest_name, format_suggestion
from training.errors import RecipeError
from training.recipe.image import ImageCard, ImageRecipe
from training.recipe.rules import list_cross_field_problems
from training.recipe.table import ModelCard, ModelDescription, Recipe

T = TypeVar("T", bound=ModelDescription)
M = TypeVar("M", bound=BaseModel)
RECIPES = Path(__file__).parents[1] / "recipes"
Location = tuple[int | str, ...]


def recipe_names() -> list[str]:
    """Return the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_any(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe | ImageRecipe:
    """Read a recipe for tables or images: a shipped one by its name, or a ``.toml`` file.

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


def read_document(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file, if given, and apply ``key=value`` overrides.

    Raises:
        RecipeError: it cannot be read.
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            reason = f"{path.name} cannot be read: {error.strerror}{_suggest_file(path)}"
            raise RecipeError(str(path), [reason]) from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
    if problems := list_cross_field_problems(recipe):
        raise RecipeError(origin, problems)
    return recipe


def parse_published_recipe(document: dict[str, Any], origin: str) -> Recipe:
    """Validate the keys of a recipe that has been trained, as the manifest of its model has it.

    The rules between keys say which recipes may be trained. A rule that is newer than the model
    does not make the model unreadable.

    Raises:
        RecipeError: with all problems.
    """
    return _checked(Recipe, document, origin)


def parse_image_recipe(document: dict[str, Any], origin: str) -> ImageRecipe:
    """Validate a parsed recipe for images.

    Raises:
        RecipeError: with all problems.
    """
    return _checked(ImageRecipe, document, origin)


def parse_card(document: dict[str, Any], origin: str) -> ModelCard:
    """Validate the parsed card of an imported model.

    Raises:
        RecipeError: with all problems.
    """
    return _checked(ModelCard, document, origin)


def parse_image_card(document: dict[str, Any], origin: str) -> ImageCard:
    """Validate the parsed card of an imported model of images.

    Raises:
        RecipeError: with all problems.
    """
    return _checked(ImageCard, document, origin)


def format_toml(recipe: Recipe | ImageRecipe) -> str:
    """Write the recipe as TOML, from which the same recipe can be read."""
    document = recipe.model_dump(mode="json", exclude_defaults=True)
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    features, members = document.pop("features", []), document.pop("members", [])
    lines = _lines({key: value for key, value in document.items() if key not in tables})
    for key in ("data", "target"):
        lines += ["", f"[{key}]", *_lines(tables.pop(key))]
    for feature in features:
        lines += ["", "[[features]]", *_lines(feature)]
    for key, section in tables.items():
        lines += ["", f"[{key}]", *_lines(section)]
    for member in members:
        inner = {key: value for key, value in member.items() if isinstance(value, dict)}
        plain = {key: value for key, value in member.items() if key not in inner}
        lines += ["", "[[members]]", *_lines(plain)]
        for key, section in inner.items():
            lines += ["", f"[members.{key}]", *_lines(section)]
    return "\n".join(lines) + "\n"


def _checked(kind: type[T], document: dict[str, Any], origin: str) -> T:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        errors = error.errors()
        problems = [_problem(kind, each) for each in errors]
        if kind is Recipe:
            invalid = [each["loc"] for each in errors]
            partial_recipe = _without_invalid_keys(Recipe, document, invalid)
            problems += list_cross_field_problems(partial_recipe, is_partial=True)
        raise RecipeError(origin, problems) from None


def _suggest_file(path: Path) -> str:
    """Return a question with the closest recipe for a file that does not exist, or nothing.

    It is one of the same folder, or a shipped one.
    """
    if path.exists():
        return ""
    files = [other.name for other in path.parent.glob("*.toml")]
    if near := closest_name(path.name, files):
        return f"; did you mean {path.with_name(near)}?"
    near = closest_name(path.stem, recipe_names())
    return f"; did you mean the recipe {near}?" if near else ""


def _no_such_recipe(name: str) -> str:
    near = closest_name(name, recipe_names())
    hint = f" (did you mean {near}?)" if near else ""
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
        key = str(loc[-1])
        near = _with_section(document, key) or closest_name(key, known, likeness=0.5)
        hint = format_suggestion(near, f"known here: {', '.join(known)}", str)
        return f"{where}: there is no such key; {hint}"
    if kind == "missing":
        return f"{where}: this key is required"
    return f"{where}: {message[0].lower()}{message[1:]}, but it is {found!r}"


def _with_section(document: type[BaseModel], key: str) -> str | None:
    """Return a key that was written without its section, with the first section that has it."""
    for name in document.model_fields:
        section = _section_at(document, (name,))
        if section is not document and key in section.model_fields:
            return f"{name}.{key}"
    return None


def _is_branch(step: int | str) -> bool:
    # For union types, pydantic adds the branch, such as "literal['half']".
    return isinstance(step, str) and any(mark in step for mark in "[(")


def _section_at(section: type[BaseModel], loc: Location) -> type[BaseModel]:
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


def _without_invalid_keys(
    kind: type[M],
    document: Mapping[str, Any],
    invalid: Sequence[Location],
    *,
    misspelled: bool = False,
) -> M:
    """Construct a section whose invalid keys raise an AttributeError when they are read.

    An unknown key may be the misspelling of any key that is not set, here or in a section below;
    those keys raise the error too.
    """
    misspelled = misspelled or not document.keys() <= kind.model_fields.keys()
    values: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        inner = [loc[1:] for loc in invalid if loc[0] == name]
        if name not in document or () in inner:
            continue
        value, section = document[name], _section_at(kind, (name,))
        if section is kind or value is None:
            if not inner:
                values[name] = TypeAdapter(field.rebuild_annotation()).validate_python(value)
        elif isinstance(value, list):
            values[name] = [
                _without_invalid_keys(
                    section, item, [loc[1:] for loc in inner if loc[0] == k], misspelled=misspelled
                )
                for k, item in enumerate(value)
                if (k,) not in inner
            ]
        else:
            values[name] = _without_invalid_keys(section, value, inner, misspelled=misspelled)
    constructed = kind.model_construct(**values)
    for name in kind.model_fields.keys() - values.keys():
        if misspelled or name in document:
            vars(constructed).pop(name, None)
    return constructed
