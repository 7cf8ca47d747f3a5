"""Tallies: what several workers have counted adds up to what one would have counted."""

from collections import Counter

import orjson

from service.shadow.tally import MOST_DIFFERENCES, Difference, Tally


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
        largest=[Difference(float(seed * place), 1, 2, {"x": 3}, 4, "id") for place in (3, 2, 1)],
        serving_seconds=[0.1 * seed],
        candidate_seconds=[0.2 * seed],
    )


def test_tallies_add_up() -> None:
    """Counts are sums, the beginning is the earliest, and the largest of all are kept in order."""
    total = Tally("1", since=1000.0)

    for seed in range(1, 6):
        total.add(tally(seed))

    assert (total.since, total.compared, total.dropped, total.failed) == (95.0, 15, 30, 5)
    assert (total.rows, total.same, total.difference_sum) == (45, 30, 7.5)
    assert total.pairs == {("a", "a"): 30, ("a", "b"): 15}
    amounts = [one.amount for one in total.largest]
    every = sorted((seed * place for seed in range(1, 6) for place in (1, 2, 3)), reverse=True)
    assert amounts == every[:MOST_DIFFERENCES]
    assert len(total.serving_seconds) == len(total.candidate_seconds) == 5


def test_a_tally_travels_whole() -> None:
    """Through JSON and back it is the same."""
    sent = tally(3)

    assert Tally.from_json(orjson.loads(orjson.dumps(sent.to_json()))) == sent


def test_of_the_times_the_newest_are_kept() -> None:
    """A candidate may be tried for weeks."""
    total = Tally("1", since=0.0)

    for seed in range(1, 6):
        total.add(tally(seed), most_times=2)

    assert total.serving_seconds == [0.4, 0.5]
