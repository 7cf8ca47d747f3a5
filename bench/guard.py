"""Whether ours has fallen since the last run that was kept, told by ratios to the floor."""

from collections.abc import Iterator

from bench.contestants import OURSELVES
from bench.results import Figure, Results


def fallen(kept: Results, now: Results, tolerance: float) -> list[str]:
    """A sentence for each request whose share of the floor has fallen.

    Args:
        kept: the last run.
        now: the one to be judged.
        tolerance: by how much of itself a share may fall.
    """
    return list(_sentences(kept, now, tolerance))


def _sentences(kept: Results, now: Results, tolerance: float) -> Iterator[str]:
    before, after = kept.server(OURSELVES), now.server(OURSELVES)
    if before is None or after is None:
        reason = now.missing.get(OURSELVES, "the kept run was of others")
        yield f"There is nothing to compare: {reason}"
        return
    for was in before.figures:
        found = after.figure(was.request, was.dialect)
        if found is None:
            reason = after.refused.get(f"{was.request} {was.dialect}", "it was not asked")
            yield f"{_called(was)} has no figure any more: {reason}"
        elif found.share < was.share * (1 - tolerance):
            lost = 1 - found.share / was.share
            yield (
                f"{_called(was)} fell by {lost:.0%}, more than {tolerance:.0%}: "
                f"{was.share:.1%} of the floor in the kept run, {found.share:.1%} now."
            )


def _called(figure: Figure) -> str:
    return f"{figure.request} ({figure.dialect})"
