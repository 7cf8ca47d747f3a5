"""A report's page from its template; every report has one look, that of `report.html.j2`."""

from pathlib import Path

import jinja2

from training.recipe.image import ImageRecipe
from training.recipe.loader import recipe_names
from training.recipe.table import Recipe
from training.report.tables import number

_TEMPLATES = Path(__file__).parent


def render_page(template: str, **shown: object) -> bytes:
    """The page as HTML; whatever is shown is text, and no tag.

    Args:
        template: its file beside this one.
        shown: the template's names; one that lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    # The name of a file may hold bytes that are no letters; they must not cost the model.
    return environment.get_template(template).render(shown).encode(errors="backslashreplace")


def command_of(recipe: Recipe | ImageRecipe) -> str:
    """What makes the model again: a shipped recipe goes by its name, another one by its file."""
    if recipe.name in recipe_names():
        return f"python -m training {recipe.name}"
    return f"python -m training {recipe.name}.toml    # the recipe below"
