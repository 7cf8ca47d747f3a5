"""Dates in rows of JSON and in the cells of a table."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from service.bundle.features import DatetimeFeature, FeaturesInput, Range, client_value
from service.codecs.csv_cells import INVALID, CellReader
from service.codecs.features import FeatureCodec
from service.errors import InvalidInput
from service.timetext import FORMATS, DatetimeFormat, format_datetime
from tests.models import number


def date(name: str = "day", text_format: DatetimeFormat = "YYYY-MM-DD", **options: object) -> DatetimeFeature:  # fmt: skip  # noqa: E501
    """A feature of dates."""
    example = format_datetime(0.5 if text_format == "HH:MM" else 15_826, text_format)
    document = {"type": "datetime", "name": name, "format": text_format, "example": example}
    return DatetimeFeature.model_validate(document | options)


def codec(*features: DatetimeFeature) -> FeatureCodec:
    """The codec of a model with these features, and a number."""
    described = FeaturesInput(kind="features", datatype="FP64", features=[*features, number("n")])
    return FeatureCodec(described)


@pytest.mark.parametrize("text_format", FORMATS)
def test_text_and_number_are_the_same_instant(text_format: DatetimeFormat) -> None:
    """In every format, in objects and arrays, and in a cell."""
    days = 0.75 if text_format == "HH:MM" else 15_826.75
    feature, text = date(text_format=text_format), format_datetime(days, text_format)

    for rows in ([{"day": text, "n": 1}], [[text, 1], [f" {text} ", 1], [days, 1]]):
        matrix = codec(feature).decode_rows(rows)
        assert matrix.dtype == np.float64
        np.testing.assert_array_equal(matrix, [[days, 1]] * len(rows))
    assert CellReader(feature).numbers([text, f" {text}", "?", "", "x", "15826"]).tolist() == (
        pytest.approx([days, days, math.nan, math.nan, INVALID, INVALID], nan_ok=True)
    )
    assert client_value(feature, days) == text


def test_null_is_a_missing_date_if_it_is_optional() -> None:
    """And an error otherwise."""
    rows = [{"day": None, "n": 1}, {"n": 1}]

    found = codec(date(optional=True)).decode_rows(rows)

    assert np.isnan(found[:, 0]).all()
    with pytest.raises(InvalidInput, match="'day'") as raised:
        codec(date()).decode_rows(rows)
    assert raised.value.count == 2


@pytest.mark.parametrize("value", [math.inf, 2_932_897, -719_163, 10**400, True, {}, "1"])
def test_numbers_outside_the_years_1_to_9999_are_no_dates(value: object) -> None:
    """Nor are booleans, objects, and numbers in quotes."""
    with pytest.raises(InvalidInput, match="'day' must be a date YYYY-MM-DD"):
        codec(date()).decode_rows([{"day": value, "n": 1}])


def test_the_first_and_the_last_instant_are_dates() -> None:
    """As text and as a number."""
    ends = ["0001-01-01", "9999-12-31T23:59:59.999"]

    found = codec(date()).decode_rows([{"day": end, "n": 1} for end in ends])
    again = codec(date()).decode_rows(found.tolist())

    np.testing.assert_array_equal(again, found)


def test_warnings_show_dates() -> None:
    """In the format of the feature."""
    feature = date(text_format="MM/DD/YYYY", trained=Range(minimum=15_826, maximum=15_900.5))
    model = codec(feature)

    (warnings,) = model.training_range.warnings(model.decode_rows([["12/31/2030", 1]])).values()

    range_of_text = "05/01/2013 to 07/14/2013 12:00"
    (warning,) = warnings
    assert warning == (
        f"Feature 'day' is 12/31/2030, outside the training range {range_of_text}; "
        "the prediction is unreliable."
    )


def test_a_manifest_with_dates_needs_64_bits() -> None:
    """And a valid example."""
    with pytest.raises(ValidationError, match="datatype must be FP64"):
        FeaturesInput(kind="features", features=[date()])
    with pytest.raises(ValidationError, match="'2013-02-29' is not a date YYYY-MM-DD"):
        date(example="2013-02-29")
