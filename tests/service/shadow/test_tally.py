"""The sum of several workers' tallies equals the tally of a single worker."""

from collections import Counter

import orjson

from service.shadow.runner import MAX_DIFFERENCES, Difference, Tally


def tally(seed: int) -> Tally:
    return Tally(
        "1",
        since=100.0 - seed,
        compared=seed,
        dropped=2 * seed,
        failed=1,
        rows=3 * seed,
        same=2 * seed,
        pairs=Counter({("a", "a"): 2 * seed, ("a", "b"): seed}),
        difference_sum=0.5 * seed,
        largest=[Difference(float(seed * factor), 1, 2, {"x": 3}, 4, "id") for factor in (3, 2, 1)],
        serving_seconds=[0.1 * seed],
        candidate_seconds=[0.2 * seed],
    )


def test_tallies_add_up() -> None:
    """Counts are sums, the start is the earliest, and the largest differences stay sorted."""
    total = Tally("1", since=1000.0)

    for seed in range(1, 6):
        total.add(tally(seed))

    assert (total.since, total.compared, total.dropped, total.failed) == (95.0, 15, 30, 5)
    assert (total.rows, total.same, total.difference_sum) == (45, 30, 7.5)
    assert total.pairs == {("a", "a"): 30, ("a", "b"): 15}
    amounts = [difference.amount for difference in total.largest]
    expected = sorted((seed * factor for seed in range(1, 6) for factor in (1, 2, 3)), reverse=True)
    assert amounts == expected[:MAX_DIFFERENCES]
    assert len(total.serving_seconds) == len(total.candidate_seconds) == 5


def test_a_tally_survives_a_round_trip_through_json() -> None:
    """Workers send their tallies as JSON."""
    sent = tally(3)

    assert Tally.from_json(orjson.loads(orjson.dumps(sent.to_json()))) == sent


def test_only_the_newest_durations_are_retained() -> None:
    """A candidate may run for weeks."""
    total = Tally("1", since=0.0)

    for seed in range(1, 6):
        total.add(tally(seed), max_durations=2)

    assert total.serving_seconds == [0.4, 0.5]
