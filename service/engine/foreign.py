"""What another server's model folder tells besides the graph."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.bundle.disk import MAX_SETTINGS_BYTES, path_inside, read_file, read_optional
from service.bundle.errors import BundleError
from service.bundle.policy import Choice, Latest

CONFIG = "config.pbtxt"
# The words of a text-format file; a comment is one too, and strings are not looked into. A string
# without its closing quote ends with its line, so that every byte is looked at once.
_WORD = re.compile(r"""#[^\n]*+|"(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?|[\w.+-]++|[][{}:,;]""")
# A plain file name: labels are read from the model's own folder and from nowhere else.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MAX_LABELS_BYTES = 10_000_000

_log = logging.getLogger(__name__)

Labels = Mapping[str, Sequence[str]]


def labels_beside(home: Path) -> Labels:
    """The labels of each output for which Triton's ``config.pbtxt`` names a file of one a line.

    The rest of that file is not needed, for the graph says it.
    """
    labels = {}
    try:
        for output, file in _label_files(_config(home)):
            content = read_file(path_inside(home, file), _MAX_LABELS_BYTES)
            labels[output] = tuple(content.decode().splitlines())
    except (BundleError, UnicodeDecodeError) as error:
        _warn("labels cannot be read", home, error)
    return labels


def versions_beside(home: Path) -> Choice | None:
    """Which versions serve by Triton's ``config.pbtxt``, or None where it does not say.

    It was written for another server, so what cannot be read there is no reason to refuse a model.
    """
    try:
        words = _block(_config(home), "version_policy")
        if "specific" in words:
            return tuple(int(word) for word in words if word.isdecimal()) or None
        if "latest" in words:
            counts = [int(word) for word in words if word.isdecimal()]
            return Latest(latest=counts[0] if counts else 1)
    except (BundleError, ValueError) as error:  # of which the decoder's and pydantic's are two
        _warn("versions cannot be read", home, error)
        return None
    return "all" if "all" in words else None


def batching_beside(home: Path) -> int | None:
    """How many rows of several requests may share a run by Triton's ``config.pbtxt``.

    Returns:
        Its ``max_batch_size`` where that is above 1; 0, which leaves the number to the service,
        where it has only ``dynamic_batching``; None where it has neither.
    """
    try:
        fields = list(_top_level(_config(home)))
        sizes = [value for name, value in fields if name == "max_batch_size"]
        if sizes and sizes[-1].isdecimal() and int(sizes[-1]) > 1:
            return int(sizes[-1])
    except (BundleError, ValueError) as error:
        _warn("batching cannot be read", home, error)
        return None
    return 0 if any(name == "dynamic_batching" for name, _ in fields) else None


def _config(home: Path) -> str:
    """The text of ``config.pbtxt``; empty where there is none."""
    content = read_optional(home / CONFIG, MAX_SETTINGS_BYTES)
    return "" if content is None else content.decode()


def _warn(what: str, home: Path, error: Exception) -> None:
    _log.warning(what, extra={"model": home.name, "reason": str(error)})


def _words(config: str) -> Iterator[str]:
    return (word for word in _WORD.findall(config) if not word.startswith("#"))


def _top_level(config: str) -> Iterator[tuple[str, str]]:
    """Each field that is within no braces: its name, and the first word of its value."""
    depth = 0
    name = ""
    for word in _words(config):
        if word in "{[":
            if not depth and name:
                yield name, word
            depth, name = depth + 1, ""
        elif word in "}]":
            depth -= 1
        elif not depth and word not in ":,;":
            if name:
                yield name, word
            name = "" if name else word


def _block(config: str, name: str) -> Sequence[str]:
    """The words within the braces of a field; none where it is not there."""
    words = list(_words(config))
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
    others = 0  # how many of them are not "output"
    strings: dict[str, str] = {}
    key = ""
    for word in _WORD.findall(config):
        of_output = bool(within) and not others
        if word in "{[":
            within.append(key or (within[-1] if within else ""))
            others += within[-1] != "output"
        elif word in "}]":
            if word == "}" and of_output:
                yield strings
                strings = {}
            others -= bool(within) and within[-1] != "output"
            del within[-1:]
        elif word[0] in "\"'" and key and of_output:
            strings[key] = word[1:-1]
        key = word if word[0].isalpha() else key * (word == ":")
