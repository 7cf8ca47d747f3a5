"""Detect requests that became slower since the last stored run, by ratios to the floor."""

from collections.abc import Iterator

from bench.contestants import OURSELVES
from bench.results import Figure, Results


def fallen(stored: Results, now: Results, tolerance: float) -> list[str]:
    """A sentence for each request whose share of the floor has fallen.

    Args:
        stored: the last stored run.
        now: the new run.
        tolerance: the largest relative loss of a share that is not reported.
    """
    return list(_sentences(stored, now, tolerance))


def _sentences(stored: Results, now: Results, tolerance: float) -> Iterator[str]:
    before, after = stored.server(OURSELVES), now.server(OURSELVES)
    if before is None or after is None:
        reason = now.missing.get(OURSELVES, "the stored run was of others")
        yield f"There is nothing to compare: {reason}"
        return
    for was in before.figures:
        found = after.figure(was.request, was.protocol)
        if found is None:
            reason = after.not_measured.get(f"{was.request} {was.protocol}", "it was not requested")
            yield f"{_called(was)} has no figure any more: {reason}"
        elif found.share < was.share * (1 - tolerance):
            lost = 1 - found.share / was.share
            yield (
                f"{_called(was)} fell by {lost:.0%}, more than {tolerance:.0%}: "
                f"{was.share:.1%} of the floor in the stored run, {found.share:.1%} now."
            )


def _called(figure: Figure) -> str:
    return f"{figure.request} ({figure.protocol})"
