"""What another server's model folder tells besides the graph."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.bundle.policy import Choice, Latest

CONFIG = "config.pbtxt"
# The words of a text-format file; a comment is one too, and strings are not looked into. A string
# that is not closed ends with its line: searching on within it would take quadratic time.
_WORD = re.compile(r"""#[^\n]*+|"(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?|[\w.+-]++|[][{}:,;]""")
# A plain file name: labels are read from the model's own folder and from nowhere else.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MOST_BYTES = 10_000_000

_log = logging.getLogger(__name__)

Labels = Mapping[str, Sequence[str]]


def labels_beside(home: Path) -> Labels:
    """The labels of each output for which Triton's ``config.pbtxt`` names a file of one a line.

    The rest of that file is not needed, for the graph says it.
    """
    config = home / CONFIG
    if not config.is_file():
        return {}
    labels = {}
    try:
        for output, file in _label_files(_read(config)):
            labels[output] = tuple(_read(home / file).splitlines())
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("labels cannot be read", extra={"model": home.name, "reason": str(error)})
    return labels


def versions_beside(home: Path) -> Choice | None:
    """Which versions serve by Triton's ``config.pbtxt``, or None where it does not say.

    It was written for another server, so what cannot be read there is no reason to refuse a model.
    """
    config = home / CONFIG
    if not config.is_file():
        return None
    try:
        words = _block(_read(config), "version_policy")
        if "specific" in words:
            return tuple(int(word) for word in words if word.isdecimal()) or None
        if "latest" in words:
            counts = [int(word) for word in words if word.isdecimal()]
            return Latest(latest=counts[0] if counts else 1)
    except (OSError, ValueError) as error:  # of which the decoder's and pydantic's errors are two
        _log.warning("versions cannot be read", extra={"model": home.name, "reason": str(error)})
        return None
    return "all" if "all" in words else None


def _block(config: str, name: str) -> Sequence[str]:
    """The words within the braces of a field; none where it is not there."""
    words = [word for word in _WORD.findall(config) if not word.startswith("#")]
    if name not in words:
        return ()
    depth = 0
    within = []
    for word in words[words.index(name) + 1 :]:
        depth += (word == "{") - (word == "}")
        if depth == 0 and word == "}":
            break
        within.append(word)
    return within


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
