"""Parts of dates are those of Python's datetime, and ONNX Runtime finds the same ones."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.data.table import Column, Floats
from training.export.onnx_export import export_module
from training.model.calendar import (
    Calendar,
    find_hour,
    find_month,
    find_parts,
    find_weekday,
    list_parts,
)
from training.model.preprocessing import fit_preprocessing
from training.onnx_files import Graph
from training.recipe import table as recipe
from training.recipe.table import Feature

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - dates without an offset
_FIRST = date.min.toordinal() - _EPOCH.toordinal()
_LAST = date.max.toordinal() - _EPOCH.toordinal()
_DATE = Column(Feature(name="d", type="datetime", optional=True))
_PLAN = recipe.Preprocessing(scaler="none")


class Parts(nn.Module):
    """Month, weekday and hour of one column."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, 1]`` to ``[rows, 3]``."""
        return torch.stack([find(x[:, 0]) for find in (find_month, find_weekday, find_hour)], 1)


def days(*texts: str) -> Floats:
    """The column of some instants, ``[rows, 1]``."""
    instants = map(datetime.fromisoformat, texts)
    return np.array([[(instant - _EPOCH) / timedelta(days=1)] for instant in instants])


def test_parts_are_those_of_datetime_in_every_year() -> None:
    """Every day of four centuries around now, and random seconds of the years 1 to 9999."""
    generator = np.random.default_rng(1)
    whole = np.arange(-80_000, 80_000)
    day = np.concatenate([whole, generator.integers(_FIRST, _LAST, 20_000), [_FIRST, _LAST]])
    second = np.concatenate([whole * 0, generator.integers(0, 86_400, len(day) - len(whole))])
    column = (day + second / 86_400)[:, np.newaxis]

    found = Parts()(torch.from_numpy(column)).numpy()
    graph = Graph(export_module(Parts(), torch.zeros(3, 1, dtype=torch.float64), "x", "y"))

    dates = [date.fromordinal(int(one) + _EPOCH.toordinal()) for one in day]
    months, weekdays = [one.month for one in dates], [one.weekday() for one in dates]
    np.testing.assert_array_equal(found, np.array([months, weekdays, second // 3600]).T)
    np.testing.assert_array_equal(graph.predict(column), found)


def test_only_parts_that_vary_are_used() -> None:
    """Mondays at noon have a month, but neither a weekday nor an hour."""
    mondays = days("2024-01-01T12:00", "2024-02-05T12:00", "2024-03-04T12:00")
    clock = days("1970-01-01T07:30", "1970-01-01T19:00")

    of_mondays, of_clock = Calendar(0, mondays[:, 0]), Calendar(0, clock[:, 0])

    assert of_mondays.groups == {"month": [1, 2, 3]}
    assert of_mondays.cycles == []
    assert of_clock.groups == {"hour": [7, 19]}
    assert of_clock.cycles == ["day"]


@pytest.mark.parametrize(
    "ends",
    [("2024-01-01", "2024-02-01", "2024-03-01"), ("2024-01-31", "2024-02-29", "2024-03-31T12:00")],
)
def test_a_month_has_no_weekday(ends: tuple[str, ...]) -> None:
    """The first day of a month stands for the month, and so does the last one."""
    assert "weekday" not in Calendar(0, days(*ends)[:, 0]).groups
    assert "weekday" in Calendar(0, days(*ends, "2024-04-02")[:, 0]).groups


def test_a_season_needs_more_than_a_year() -> None:
    """With less it is a part of the trend."""
    assert Calendar(0, days("2023-01-01", "2023-12-31")[:, 0]).cycles == []
    assert Calendar(0, days("2023-01-01", "2024-01-03")[:, 0]).cycles == ["year"]


def test_the_parts_of_a_column_are_scaled_numbers_waves_and_one_hot_columns() -> None:
    """Days since the first date, its position in the day, sine and cosine, and the groups."""
    training = days("2024-01-01T06:00", "2024-01-03T18:00")

    found = fit_preprocessing(_PLAN, [_DATE], training)(torch.from_numpy(training)).numpy()

    expected = [[0, 0.25, 1, 0, 1, 0, 1, 0], [2.5, 0.75, -1, 0, 0, 1, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_parts_of_several_columns_are_in_the_order_of_the_columns() -> None:
    """Each part is computed once, for all columns that have it; a column may have none."""
    one = days("2024-01-01T06:00", "2024-01-03T18:00")
    other = days("2023-05-01", "2024-06-30")
    constant = days("2024-01-01", "2024-01-01")
    columns = [Calendar(0, one[:, 0]), Calendar(1, other[:, 0]), Calendar(2, constant[:, 0])]
    columns[2].trend = False

    found = find_parts(columns, torch.from_numpy(np.hstack([one, other, constant]))).numpy()

    alone = [
        find_parts([Calendar(0, dates[:, 0])], torch.from_numpy(dates)).numpy()
        for dates in (one, other)
    ]
    assert [column.parts for column in columns] == [
        ["trend", "day", "weekday", "hour"],
        ["trend", "year", "month", "weekday"],
        [],
    ]
    np.testing.assert_array_equal(found, np.hstack(alone))
    assert list_parts(columns, ["weekday"]) == [2, 7]


def test_dates_beyond_the_training_set_count_as_its_ends() -> None:
    """The number of days is clipped, and a new month has zeros in all columns."""
    training = days("2024-01-01", "2024-02-01")
    preprocessing = fit_preprocessing(_PLAN, [_DATE], training)

    found = preprocessing(torch.from_numpy(days("1999-03-01", "2099-03-01"))).numpy()

    assert found[:, 0].tolist() == [0, 31]
    np.testing.assert_array_equal(found[:, 1:3], np.zeros((2, 2)))


def test_a_missing_date_has_the_median_and_an_indicator() -> None:
    """In PyTorch as in ONNX Runtime, whose minimum and maximum propagate NaN."""
    training = np.concatenate([days("2023-01-01", "2024-02-05", "2024-03-04"), [[np.nan]]])
    preprocessing = fit_preprocessing(_PLAN, [_DATE], training).float().eval()

    found = preprocessing(torch.from_numpy(training)).numpy()
    probe = torch.zeros(3, 1, dtype=torch.float64)
    graph = Graph(export_module(preprocessing, probe, "x", "y"))

    assert found[-1, 0] == np.median(found[:-1, 0])
    assert found[-1, -1] == 1
    assert found[-1, 2:-1].tolist() == [0] * (found.shape[1] - 3)
    np.testing.assert_allclose(graph.predict(training), found, rtol=0, atol=2e-7)


def test_onnx_runtime_finds_the_same_numbers_to_the_bit() -> None:
    """Days and positions have no rounding of constants to 32 bits, which bins would magnify."""
    generator = np.random.default_rng(4)
    training = generator.uniform(15_000.123, 20_000.789, (500, 1))
    rows = generator.uniform(14_000, 21_000, (2000, 1))
    preprocessing = fit_preprocessing(_PLAN, [_DATE], training).float().eval()

    found = preprocessing(torch.from_numpy(rows)).numpy()
    probe = torch.zeros(3, 1, dtype=torch.float64)
    graph = Graph(export_module(preprocessing, probe, "x", "y"))

    served = graph.predict(rows)
    np.testing.assert_array_equal(
        np.delete(served, range(3, 7), 1), np.delete(found, range(3, 7), 1)
    )
    np.testing.assert_allclose(served, found, rtol=0, atol=2e-7)


def test_numbers_of_64_bits_that_do_not_fit_32_are_the_largest_that_do() -> None:
    """A column of numbers that has dates next to it."""
    columns = [_DATE, Column(Feature(name="n", type="number"))]
    training = np.column_stack([days("2024-01-01", "2024-02-01"), [1.0, 2.0]])
    preprocessing = fit_preprocessing(_PLAN, columns, training).float()
    training[:, 1] = [1e300, -1e300]

    found = preprocessing(torch.from_numpy(training)).numpy()

    assert np.isfinite(found).all()
    assert found[:, 0] == pytest.approx([3.4028235e38, -3.4028235e38])
