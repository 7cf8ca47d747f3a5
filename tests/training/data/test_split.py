"""Splits are reproducible, disjoint and stratified, and respect groups and time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.split import RowSplit, Splitter, read_groups, read_times
from training.data.table import Floats, Rows, table_from_rows
from training.errors import DataError
from training.recipe.table import Split


def at_random(target: Floats, seed: int = 1, *, classes: bool = False) -> Splitter:
    """A splitter without groups and times."""
    return Splitter(target, seed, classes)


def in_groups(
    groups: Rows, target: Floats | None = None, seed: int = 1, *, classes: bool = False
) -> Splitter:
    """A splitter that never separates the rows of a group."""
    target = np.zeros(len(groups)) if target is None else target
    return Splitter(target, seed, classes, "patient", groups)


def by_time(times: Floats, target: Floats | None = None) -> Splitter:
    """A splitter that holds out the newest rows."""
    target = np.zeros(len(times)) if target is None else target
    return Splitter(target, 1, classes=False, column="day", times=times)


def list_folds(splitter: Splitter, count: int) -> list[tuple[Rows, Rows]]:
    """All folds over all rows."""
    return list(splitter.folds(np.arange(len(splitter.target)), count))


def list_sets(parts: RowSplit) -> list[Rows]:
    """The three sets."""
    return [parts.training, parts.validation, parts.test]


@given(rows=st.integers(10, 300), seed=st.integers(0, 99), classes=st.booleans())
def test_every_row_is_in_one_set(rows: int, seed: int, classes: bool) -> None:  # noqa: FBT001
    """The sets are disjoint and complete, and the same seed gives the same sets."""
    target = (np.arange(rows) % 2).astype(np.float64)
    shares = Split(test=0.3, validation=0.3)

    parts = at_random(target, seed, classes=classes).split(shares)

    assert sorted(np.concatenate(list_sets(parts))) == list(range(rows))
    again = at_random(target, seed, classes=classes).split(shares)
    assert np.array_equal(again.test, parts.test)
    assert np.array_equal(again.training, parts.training)


def test_sets_are_stratified() -> None:
    """A rare class has the same share in each set."""
    target = np.array([1.0] * 20 + [0.0] * 180)

    parts = at_random(target, classes=True).split(Split(test=0.25, validation=0.25))

    for part in list_sets(parts):
        assert target[part].mean() == pytest.approx(0.1, abs=0.011)


def test_a_class_of_one_row_cannot_be_split() -> None:
    """The message suggests how to fix the recipe."""
    with pytest.raises(DataError, match=r"split\.test = 0"):
        at_random(np.array([0.0, 0.0, 0.0, 0.0, 1.0]), classes=True).split(Split(test=0.4))


@pytest.mark.parametrize(
    ("rows", "count", "classes"), [(6, 6, False), (40, 10, True), (7, 7, True)]
)
def test_folds_measure_every_row_once(rows: int, count: int, classes: bool) -> None:  # noqa: FBT001
    """Each row is in one fold, and not in the training rows of that fold."""
    target = (np.arange(rows) % 2).astype(np.float64)

    measured = []
    for rest, fold in list_folds(at_random(target, classes=classes), count):
        assert not set(rest) & set(fold)
        measured += fold.tolist()

    assert sorted(measured) == list(range(rows))


def test_more_folds_than_rows_are_rejected() -> None:
    """The message has the number of folds and the number of rows."""
    with pytest.raises(DataError, match="7 folds need as many rows; there are 6"):
        list_folds(at_random(np.zeros(6)), 7)
    with pytest.raises(DataError, match="the rarest has 1"):
        list_folds(at_random(np.array([0.0] * 5 + [1.0]), classes=True), 3)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=4, max_size=40),
    seed=st.integers(0, 99),
    classes=st.booleans(),
)
def test_a_group_is_in_one_set_and_one_fold(
    sizes: list[int],
    seed: int,
    classes: bool,  # noqa: FBT001
) -> None:
    """For every seed, with groups of any sizes in any order, each row is in exactly one part."""
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    target = (groups % 2).astype(np.float64)
    splitter = in_groups(groups, target, seed, classes=classes)

    sets = list_sets(splitter.split(Split(test=0.2, validation=0.2)))
    folds = [fold for _, fold in list_folds(splitter, 3)]

    for parts in (sets, folds):
        assert sorted(np.concatenate(parts)) == list(range(len(groups)))
        assert all(len(part) for part in parts)
        members = [set(groups[part]) for part in parts]
        assert sum(map(len, members)) == len(sizes)
    for rest, fold in list_folds(splitter, 3):
        assert sorted([*rest, *fold]) == list(range(len(groups)))


def test_groups_are_stratified() -> None:
    """With classes that differ between groups, each set has about the same share of each."""
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 10)
    target = np.repeat(generator.permutation(np.arange(60) % 3), 10).astype(np.float64)

    parts = in_groups(groups, target, classes=True).split(Split(test=0.2, validation=0.2))

    assert len(parts.test) == pytest.approx(120, abs=20)
    for part in list_sets(parts):
        shares = np.bincount(target[part].astype(int), minlength=3) / len(part)
        assert shares == pytest.approx([1 / 3] * 3, abs=0.12)


@pytest.mark.parametrize("seed", range(10))
def test_a_class_with_one_group_stays_in_the_training_set(seed: int) -> None:
    """The only patient with a class is never held out."""
    groups = np.repeat(np.arange(10), 5)
    target = (groups == 7).astype(np.float64)

    parts = in_groups(groups, target, seed, classes=True).split(Split(test=0.2, validation=0.2))

    assert 7 in groups[parts.training]


@pytest.mark.parametrize("seed", range(10))
def test_every_class_stays_in_the_training_set(seed: int) -> None:
    """Also if half of the classes have a single group, and the others two."""
    groups = np.repeat(np.arange(60), 4)
    target = np.minimum(groups, 40 + groups % 10).astype(np.float64)

    parts = in_groups(groups, target, seed, classes=True).split(Split(test=0.2, validation=0.2))

    assert set(target[parts.training]) == set(target)
    assert len(parts.test)
    assert len(parts.validation)
    assert not set(groups[parts.training]) & set(groups[parts.test])


def test_groups_of_different_sizes_are_close_to_the_share() -> None:
    """One patient with half of the rows is not the test set of a fifth."""
    groups = np.concatenate([np.zeros(100, dtype=np.intp), np.repeat(np.arange(1, 21), 5)])

    parts = in_groups(groups).split(Split(test=0.2))

    assert len(parts.test) / len(groups) == pytest.approx(0.2, abs=0.08)


def test_too_few_groups_are_rejected() -> None:
    """The messages have the column and the number of its values."""
    with pytest.raises(
        DataError, match=r"5 folds need as many groups.* 3 different values of 'pat"
    ):
        list_folds(in_groups(np.repeat(np.arange(3), 10)), 5)
    with pytest.raises(DataError, match="all 10 rows to split have one value of 'patient'"):
        in_groups(np.zeros(10, dtype=np.intp)).split(Split(test=0.2))
    of_two = np.repeat(np.arange(2), 10)
    with pytest.raises(DataError, match="all rows of a class are in one group of 'patient'"):
        in_groups(of_two, of_two.astype(np.float64), classes=True).split(Split(test=0.5))


@given(
    days=st.lists(st.integers(0, 30), min_size=20, max_size=100).filter(
        lambda days: len(set(days)) > 6
    )
)
def test_the_newest_rows_are_the_test_set(days: list[int]) -> None:
    """In any order of the rows, training is older than validation, and validation than the test."""
    times = np.array(days, dtype=np.float64)

    parts = by_time(times).split(Split(test=0.2, validation=0.2))

    assert sorted(np.concatenate(list_sets(parts))) == list(range(len(days)))
    assert times[parts.training].max() < times[parts.validation].min()
    assert times[parts.validation].max() < times[parts.test].min()


def test_shares_of_different_times_are_exact() -> None:
    """The newest fifth, and the newest tenth of all rows before it."""
    parts = by_time(np.arange(100.0)[::-1]).split(Split(test=0.2, validation=0.1))

    assert parts.test.tolist() == list(range(20))
    assert parts.validation.tolist() == list(range(20, 30))


@given(
    days=st.lists(st.integers(0, 30), min_size=20, max_size=100).filter(
        lambda days: len(set(days)) > 4
    ),
    count=st.integers(2, 4),
)
def test_folds_by_time_are_measured_by_older_rows(days: list[int], count: int) -> None:
    """Windows expand: each fold trains on all rows before it, and rows of a day stay together."""
    times = np.array(days, dtype=np.float64)

    folds = list_folds(by_time(times), count)

    assert len(folds) == count
    for rest, fold in folds:
        assert times[rest].max() < times[fold].min()
        assert set(rest) == set(np.flatnonzero(times < times[fold].min()))
    measured = np.concatenate([fold for _, fold in folds])
    assert set(measured) == set(range(len(days))) - set(folds[0][0])
    assert len(set(measured)) == len(measured)


def test_folds_by_time_have_equal_sizes() -> None:
    """Of rows with different times, each fold has as many as the first window."""
    sizes = [(len(rest), len(fold)) for rest, fold in list_folds(by_time(np.arange(60.0)), 5)]

    assert sizes == [(10, 10), (20, 10), (30, 10), (40, 10), (50, 10)]


def test_too_few_times_are_rejected() -> None:
    """The message has the column, and how many different values it has and needs."""
    with pytest.raises(DataError, match=r"6 successive periods .* values of 'day'.* have 3"):
        list_folds(by_time(np.repeat(np.arange(3.0), 10)), 5)
    with pytest.raises(DataError, match=r"2 successive periods .* have 1"):
        by_time(np.zeros(10)).split(Split(test=0.2))


def test_groups_are_cells_or_their_beginning() -> None:
    """With a mark, a group is the text before its last one; other cells remain as they are."""
    table = table_from_rows([["m_7_1"], ["m_7_2"], ["m_8_1"], ["m"]], ["id"])

    assert len(set(read_groups(table, "id"))) == 4
    shortened = read_groups(table, "id", "_")
    assert shortened[0] == shortened[1]
    assert len(set(shortened)) == 3


def test_unusable_cells_are_reported() -> None:
    """An empty cell has its row; a column that cannot be ordered has a cell; names are compared."""
    table = table_from_rows([["a", "2024-01-31"], ["", "soon"], ["b", "2024-02-01"]], ["id", "day"])

    with pytest.raises(DataError, match=r"row 2: 'id' is empty"):
        read_groups(table, "id")
    with pytest.raises(DataError, match=r"'day' cannot be ordered by time.*31\.01\.2024"):
        read_times(table, "day")
    with pytest.raises(DataError, match="did you mean 'day'"):
        read_times(table, "days")
