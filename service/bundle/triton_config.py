"""Triton's ``config.pbtxt``: class labels, the version policy and dynamic batching of a model.

The file was written for another server, so a model with an invalid one is still served.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.bundle.errors import BundleError
from service.bundle.policy import Latest, VersionChoice
from service.bundle.store import MAX_SETTINGS_BYTES, path_inside, read_file, read_optional

CONFIG = "config.pbtxt"
# The tokens of a text-format file, including comments and strings. A string without a closing quote
# ends with its line, so that every byte is scanned once.
_TOKEN = re.compile(r"""#[^\n]*+|"(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?|[\w.+-]++|[][{}:,;]""")
# Labels are only read from the model's own folder.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MAX_LABELS_BYTES = 10_000_000
_log = logging.getLogger(__name__)
# The fields of a text-format message: names, and tokens or nested messages. The elements of a list
# are fields of the same name.
Fields = list[tuple[str, "str | Fields"]]


def read_triton_labels(model_folder: Path) -> Mapping[str, Sequence[str]]:
    """Return the class labels by output name, from the label files that ``config.pbtxt`` names.

    A label file has one class label per line. Names and shapes of tensors come from the graph.
    """
    labels = {}
    try:
        for output in _find_blocks(_parse_config(model_folder), "output"):
            texts = {
                key: word[1:-1]
                for key, word in output
                if isinstance(word, str) and word[0] in "\"'"
            }
            name, file = texts.get("name"), texts.get("label_filename", "")
            if name and _FILE_NAME.fullmatch(file):
                content = read_file(path_inside(model_folder, file), _MAX_LABELS_BYTES)
                labels[name] = tuple(content.decode().splitlines())
    except (BundleError, UnicodeDecodeError) as error:
        _warn("labels cannot be read", model_folder, error)
    return labels


def read_triton_versions(model_folder: Path) -> VersionChoice | None:
    """Return the version policy of ``config.pbtxt``, or None if it has none."""
    try:
        for policy in _find_blocks(_parse_config(model_folder), "version_policy"):
            for specific in _find_blocks(policy, "specific"):
                return tuple(_find_numbers(specific, "versions")) or None
            for latest in _find_blocks(policy, "latest"):
                return Latest(latest=next(iter(_find_numbers(latest, "num_versions")), 1))
            if _find_blocks(policy, "all"):
                return "all"
    except (BundleError, ValueError) as error:  # includes UnicodeDecodeError and ValidationError
        _warn("versions cannot be read", model_folder, error)
    return None


def read_triton_batching(model_folder: Path) -> int | None:
    """Return how many rows of several requests may share a run according to ``config.pbtxt``.

    Returns:
        ``max_batch_size`` if it is above 1; 0, for the service's default, if there is only
        ``dynamic_batching``; None if there is neither.
    """
    try:
        fields = _parse_config(model_folder)
        sizes = _find_numbers(fields, "max_batch_size")
    except (BundleError, ValueError) as error:
        _warn("batching cannot be read", model_folder, error)
        return None
    if sizes and sizes[-1] > 1:
        return sizes[-1]
    return 0 if any(name == "dynamic_batching" for name, _ in fields) else None


def _warn(message: str, model_folder: Path, error: Exception) -> None:
    _log.warning(message, extra={"model": model_folder.name, "reason": str(error)})


def _parse_config(model_folder: Path) -> Fields:
    """Parse ``config.pbtxt``; a missing file has no fields, and mistakes in it are ignored."""
    content = read_optional(model_folder / CONFIG, MAX_SETTINGS_BYTES) or b""
    open_blocks: list[tuple[Fields, str]] = [([], "")]  # with the name of the elements of a list
    name = ""
    for word in _TOKEN.findall(content.decode()):
        fields, element_name = open_blocks[-1]
        if word[0] in "#:,;":
            continue
        if word in "}]":
            if len(open_blocks) > 1:
                open_blocks.pop()
        elif word == "[":
            open_blocks.append((fields, name))
        elif word == "{":
            block: Fields = []
            fields.append((name or element_name, block))
            open_blocks.append((block, ""))
        elif name or element_name:
            fields.append((name or element_name, word))
        else:
            name = word
            continue
        name = ""
    return open_blocks[0][0]


def _find_blocks(fields: Fields, name: str) -> list[Fields]:
    """Return the values in braces of all fields of this name."""
    return [value for key, value in fields if key == name and isinstance(value, list)]


def _find_numbers(fields: Fields, name: str) -> list[int]:
    """Return the whole numbers of all fields of this name."""
    words = [value for key, value in fields if key == name and isinstance(value, str)]
    return [int(word) for word in words if word.isdecimal()]
