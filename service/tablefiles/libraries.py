"""The libraries of the extra ``tables``, which are imported when the first file is read.

A service that gets no such file starts without them, which saves a third of a second and 40 MB.
"""

import importlib
import importlib.util
from typing import Any

from service.errors import InvalidRequest
from service.spelling import format_install

_LIBRARIES = ("polars", "fastexcel")


def are_installed() -> bool:
    """Return whether the libraries are installed, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in _LIBRARIES)


def load_library(name: str) -> Any:  # noqa: ANN401 - a module
    """Import one of the libraries; raise `InvalidRequest` if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InvalidRequest(
            f"Parquet, Arrow and Excel files need the extra 'tables'; {format_install('tables')}."
        ) from None
