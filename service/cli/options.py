"""Settings as options of a command line."""

import argparse
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.errors import CannotStart
from service.settings import Settings, may_have_unit

# Of pydantic's errors, those whose own words do not help.
_SENTENCES = {
    "int_parsing": "it must be a whole number",
    "float_parsing": "it must be a number",
    "bool_parsing": "it must be true or false",
}
USAGE_ERROR = 2
"""The exit status of a command that could not do what it was run for."""


def add_settings(parser: argparse.ArgumentParser, names: Collection[str] | None = None) -> None:
    """Add settings as options; without names, all of them."""
    for name, field in Settings.model_fields.items():
        if names is not None and name not in names:
            continue
        shown = str(field.default).replace("%", "%%")
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="VALUE",
            help=f"{(field.description or '').replace('%', '%%')} (default: {shown})",
        )


def read_settings(options: Mapping[str, Any]) -> Settings:
    """Create the settings from options, and from the environment for options not given.

    Raise `CannotStart` if values are invalid; the message names all of them.
    """
    given = {
        name: value
        for name, value in options.items()
        if name in Settings.model_fields and value is not None
    }
    try:
        return Settings(**given)
    except ValidationError as error:
        raise CannotStart("\n".join(map(_problem, error.errors()))) from None


def _problem(problem: ErrorDetails) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    option = f"--{name.replace('_', '-')} (ONWARD_{name.upper()})"
    sentence = _SENTENCES.get(problem["type"]) or _rephrase(problem["msg"])
    if problem["type"] == "int_parsing" and may_have_unit(name):
        sentence += ", or a size such as 64MiB"
    return f"{option} is {problem['input']!r}: {sentence}."


def _rephrase(message: str) -> str:
    """Return pydantic's message as the end of a sentence."""
    message = message.replace("Input should be", "it must be")
    # Of a check in `service.settings`.
    return re.sub("^Value error, (must )?", lambda found: "it must " if found[1] else "", message)
