"""The rules of a recipe on features that are dates."""

from service.timetext import describe_format, parse_datetime
from training.recipe.table import Recipe


def find_date_mistakes(recipe: Recipe) -> list[str]:
    """Return the mistakes in features of dates, and the formats of other features."""
    mistakes = []
    for feature in recipe.features:
        name, text_format = feature.name, feature.text_format
        if feature.type != "datetime":
            mistakes += [f"{name} has a format, but is no datetime"] if feature.format else []
            continue
        if not (feature.minimum is feature.maximum is None):
            mistakes.append(f"{name} has a minimum or maximum, which only numbers have")
        if feature.example and parse_datetime(str(feature.example), text_format) is None:
            mistakes.append(f"the example of {name} is not {describe_format(text_format)}")
    return mistakes
