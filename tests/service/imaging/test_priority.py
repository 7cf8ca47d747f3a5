"""Threads whose work nobody expects at once."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from service.codecs.images import DecodingPool
from service.imaging.priority import lower_priority
from service.limits import Limits
from service.settings import Settings

# Elsewhere threads have no priority of their own that can be told.
STEPS = 10 if sys.platform == "linux" else 0
LEAST = 19


def own_steps() -> int:
    """How far down the calling thread is."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_a_thread_steps_back_and_no_other_with_it() -> None:
    """The event loop's thread, which answers small requests, keeps its priority."""
    before = own_steps()

    with ThreadPoolExecutor(1, initializer=lower_priority) as threads:
        within = threads.submit(own_steps).result()

    assert within == min(before + STEPS, LEAST)
    assert own_steps() == before


def test_a_thread_that_is_last_already_stays_so() -> None:
    """It goes no further down than there is, and no error ends it."""
    with ThreadPoolExecutor(1) as threads:
        for _ in range(3):
            threads.submit(lower_priority).result()
        within = threads.submit(own_steps).result()

    assert within == min(own_steps() + 3 * STEPS, LEAST)


def test_large_images_are_decoded_behind_small_requests() -> None:
    """The threads for them have stepped back before their first image."""
    decoding = DecodingPool(max_pixels=1, max_bytes=1, limits=Limits(Settings()))

    for pool in (decoding.shared, decoding.large):
        with pool as threads:
            within = threads.submit(own_steps).result()
        assert within == min(own_steps() + STEPS, LEAST)
