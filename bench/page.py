"""Write ``RESULTS.md``; each measurement replaces its own section."""

import re
from collections.abc import Iterable
from pathlib import Path

_RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = "# Results\n\nCompare the ratios: all other figures depend on the speed of the machine.\n"


def replace_section(title: str, lines: Iterable[str]) -> str:
    """Replace the section of this title, and return its text."""
    text = _RESULTS.read_text() if _RESULTS.exists() else _HEAD
    section = "\n".join([f"## {title}", "", *lines]) + "\n"
    others = re.split(r"(?m)^(?=## )", text)
    sections = [part.rstrip() + "\n" for part in others if not part.startswith(f"## {title}\n")]
    _RESULTS.write_text("\n".join([*sections, section]))
    return section
