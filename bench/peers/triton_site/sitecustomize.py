"""Triton's bundled interpreter has locks without a method that Python 3.11.7's library calls."""

import threading

if not hasattr(threading.RLock(), "_recursion_count"):
    threading.RLock = threading._PyRLock  # noqa: SLF001
