"""Names in messages and reports."""

from collections.abc import Sequence


def join_names(names: Sequence[str], most: int) -> str:
    """Return the first names, and how many more there are: ``x, y and 3 more``."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def with_unit(name: str, unit: str | None) -> str:
    """Return ``name (unit)``, or the name if there is no other unit."""
    return f"{name} ({unit})" if unit and unit != name else name
