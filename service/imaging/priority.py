"""Lower the scheduling priority of threads, where the operating system supports it."""

import contextlib
import os
import sys

# Each step gives a thread a fifth less of a contended core; ten leave a tenth. With more steps, a
# large image would miss its deadline where small requests use all of a single core.
_STEPS = 10


def lower_priority() -> None:
    """Let the calling thread use only what others leave of a contended core, for good.

    It has an effect only where each thread has its own priority, which is on Linux.
    """
    # In POSIX, nice applies to a process; on Linux it applies only to the calling thread.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(_STEPS)
