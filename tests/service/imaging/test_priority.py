"""The priority of the threads that decode images."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from service.codecs.images import DecodingPool
from service.imaging.decode import lower_priority
from service.limits import Limits
from service.settings import Settings

# On other systems, threads do not have their own priority.
STEPS = 10 if sys.platform == "linux" else 0
LOWEST = 19


def niceness() -> int:
    """Return the niceness of the calling thread."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_only_the_calling_thread_gets_a_lower_priority() -> None:
    """The thread of the event loop keeps its priority."""
    before = niceness()

    with ThreadPoolExecutor(1, initializer=lower_priority) as threads:
        within = threads.submit(niceness).result()

    assert within == min(before + STEPS, LOWEST)
    assert niceness() == before


def test_a_thread_at_the_lowest_priority_stays_there() -> None:
    """Lowering it again is not an error."""
    with ThreadPoolExecutor(1) as threads:
        for _ in range(3):
            threads.submit(lower_priority).result()
        within = threads.submit(niceness).result()

    assert within == min(niceness() + 3 * STEPS, LOWEST)


def test_large_images_are_decoded_with_a_lower_priority() -> None:
    """The threads have it before their first image."""
    decoding = DecodingPool(max_pixels=1, max_bytes=1, limits=Limits(Settings()))

    for pool in (decoding.shared, decoding.large):
        with pool as threads:
            within = threads.submit(niceness).result()
        assert within == min(niceness() + STEPS, LOWEST)
