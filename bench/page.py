"""RESULTS.md: each measurement replaces its own section and leaves the others."""

import re
from collections.abc import Iterable
from pathlib import Path

_RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = "# Results\n\nRead the ratios; the machine's own speed is in every other figure.\n"


def replace_section(title: str, lines: Iterable[str]) -> str:
    """Replace the section of this title, and return its text."""
    text = _RESULTS.read_text() if _RESULTS.exists() else _HEAD
    section = "\n".join([f"## {title}", "", *lines]) + "\n"
    others = re.split(r"(?m)^(?=## )", text)
    sections = [part.rstrip() + "\n" for part in others if not part.startswith(f"## {title}\n")]
    _RESULTS.write_text("\n".join([*sections, section]))
    return section
