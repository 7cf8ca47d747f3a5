"""The operating system's limit of open files, which also bounds the number of connections."""

import logging
import sys

if sys.platform != "win32":
    import resource

# For models, logs, the event loop, the channel between workers and temporary files.
_RESERVED = 128

_log = logging.getLogger(__name__)


def raise_open_files_limit() -> None:
    """Use as many files as the system allows; many start programs with 1024, less than they may."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS allows less than its hard limit says
        hard = soft
    _log.info("limit of open files", extra={"files": hard if hard >= 0 else "unlimited"})


def available_connections(max_connections: int) -> int:
    """How many connections may be open at a time, so that files remain for everything else.

    Args:
        max_connections: the operator's limit.
    """
    if sys.platform == "win32":
        return max_connections
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max_connections if files < 0 else max(min(max_connections, files - _RESERVED), 1)
