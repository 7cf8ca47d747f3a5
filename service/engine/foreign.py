"""What another server's model folder tells besides the graph."""

import logging
import re
from pathlib import Path

_CONFIG = "config.pbtxt"
# A plain file name: labels are read from the model's own folder and from nowhere else.
_LABEL_FILE = re.compile(r'\blabel_filename\s*:\s*["\']([A-Za-z0-9_-][A-Za-z0-9_.-]*)["\']')
_MOST_BYTES = 10_000_000

_log = logging.getLogger(__name__)


def labels_beside(home: Path) -> tuple[str, ...]:
    """The labels, one a line, of the file that Triton's ``config.pbtxt`` names; else none.

    The rest of that file is not needed, for the graph says it, and not read.
    """
    try:
        named = _LABEL_FILE.search(_read(home / _CONFIG))
        return tuple(_read(home / named[1]).splitlines()) if named else ()
    except FileNotFoundError as error:
        missing_labels = error.filename != str(home / _CONFIG)
        reason = error.strerror if missing_labels else None
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error)
    if reason:
        _log.warning("labels cannot be read", extra={"model": home.name, "reason": reason})
    return ()


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_MOST_BYTES)
