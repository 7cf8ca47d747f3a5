"""What another server's model folder tells besides the graph."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_CONFIG = "config.pbtxt"
# The words of a text-format file; a comment is one too, and strings are not looked into.
_WORD = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[\w.+-]+|[][{}:,;]""")
# A plain file name: labels are read from the model's own folder and from nowhere else.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MOST_BYTES = 10_000_000

_log = logging.getLogger(__name__)

Labels = Mapping[str, Sequence[str]]


def labels_beside(home: Path) -> Labels:
    """The labels of each output for which Triton's ``config.pbtxt`` names a file of one a line.

    The rest of that file is not needed, for the graph says it.
    """
    config = home / _CONFIG
    if not config.is_file():
        return {}
    labels = {}
    try:
        for output, file in _label_files(_read(config)):
            labels[output] = tuple(_read(home / file).splitlines())
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("labels cannot be read", extra={"model": home.name, "reason": str(error)})
    return labels


def _label_files(config: str) -> Iterator[tuple[str, str]]:
    """The name of each output that has labels, and that of their file."""
    for output in _outputs(config):
        name, file = output.get("name", ""), output.get("label_filename", "")
        if name and _PLAIN.fullmatch(file):
            yield name, file


def _outputs(config: str) -> Iterator[Mapping[str, str]]:
    """The strings of each ``output { … }``, also in a list of them."""
    within: list[str] = []  # the names of the braces and brackets that are open
    strings: dict[str, str] = {}
    key = ""
    for word in _WORD.findall(config):
        if word in "{[":
            within.append(key or (within[-1] if within else ""))
        elif word in "}]":
            if word == "}" and set(within) == {"output"}:
                yield strings
                strings = {}
            del within[-1:]
        elif word[0] in "\"'" and key and set(within) == {"output"}:
            strings[key] = word[1:-1]
        key = word if word[0].isalpha() else key * (word == ":")


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_MOST_BYTES)
