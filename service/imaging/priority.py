"""Which work of this process the operating system is to prefer, where it can be told."""

import contextlib
import os
import sys

# By each step a thread gets a fifth less of a contended core; ten leave it a tenth. More would let
# a large image run into its deadline where small requests take all that a single core has.
_STEPS = 10


def lower_priority() -> None:
    """Have the calling thread take what others leave, where threads have priorities of their own.

    It is for work that nobody expects at once. Once stepped back, a thread stays so.
    """
    # POSIX's nice is about a process; Linux, against the standard, asks it of the thread alone.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where a sandbox forbids it, all are equal
            os.nice(_STEPS)
