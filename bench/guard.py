"""Detect requests that became slower since the last stored run, by ratios to the floor."""

from collections.abc import Iterator

from bench.results import Figure, Results
from bench.servers import OURSELVES


def losses(stored: Results, now: Results, tolerance: float) -> Iterator[str]:
    """Describe each request whose share of the floor has become smaller.

    Args:
        stored: the last stored run.
        now: the new run.
        tolerance: the largest relative loss of a share that is not reported.
    """
    before, after = stored.server(OURSELVES), now.server(OURSELVES)
    if before is None or after is None:
        reason = now.missing.get(OURSELVES, "the stored run has no figures of this service")
        yield f"There is nothing to compare: {reason}"
        return
    for was in before.figures:
        found = after.figure(was.request, was.protocol)
        if found is None:
            reason = after.not_measured.get(f"{was.request} {was.protocol}", "it was not requested")
            yield f"{_name(was)} has no figure: {reason}"
        elif found.share < was.share * (1 - tolerance):
            lost = 1 - found.share / was.share
            yield (
                f"{_name(was)} lost {lost:.0%}, more than {tolerance:.0%}: "
                f"{was.share:.1%} of the floor in the stored run, {found.share:.1%} in this run."
            )


def _name(figure: Figure) -> str:
    return f"{figure.request} ({figure.protocol})"
