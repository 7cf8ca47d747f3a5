"""Values of Python, numpy, pandas and polars: each is predicted as its form in JSON."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
)
from service.bundle.manifest import Examples, Tensor, Tolerance, ValueOutput
from service.client import InvalidData, InvalidRequest
from tests.client.conftest import AnyClient, Connect
from tests.conftest import Serve
from tests.models import assembled, manifest, number, publish

_OPTIONAL = {"optional": True}
_CATEGORIES = {"categories": ["red", "blue"], "unseen": "other"}
FEATURES: list[Feature] = [
    number("number", optional=True),
    IntegerFeature(name="integer", type="integer", example=3, optional=True),
    BooleanFeature(name="truth", type="boolean", example=True, optional=True),
    CategoryFeature(name="word", type="category", example="red", **_CATEGORIES, **_OPTIONAL),
    DatetimeFeature(
        name="day", type="datetime", format="DD.MM.YYYY", example="1.5.2013", **_OPTIONAL
    ),
    DatetimeFeature(
        name="moment",
        type="datetime",
        format="DD.MM.YYYY",
        example="1.5.2013 7:30",
        **_OPTIONAL,
    ),
    DatetimeFeature(name="hour", type="datetime", format="HH:MM", example="7:30", **_OPTIONAL),
]
CELLS = [feature.name for feature in FEATURES]
TYPICAL = {
    "number": 1.5,
    "integer": 20,
    "truth": True,
    "word": "red",
    "day": "2024-01-05",
    "moment": "2024-01-05T07:30:00",
    "hour": "07:30",
}
WEIGHTS = [1, 2, 4, 8, 0.5, 0.25, 16]
MISSING = [100, 200, 400, 800, 1600, 3200, 6400]


def publish_kinds(models: Path) -> None:
    """Publish a weighted sum of columns of every kind, with a number for each missing one."""
    names = ("weights", WEIGHTS), ("missing_weights", MISSING)
    weights = [
        numpy_helper.from_array(np.array([[w] for w in column], np.float64), name)
        for name, column in names
    ]
    zero = numpy_helper.from_array(np.array(0, np.float64), "zero")
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("Cast", ["missing"], ["indicator"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["filled", "weights"], ["sum"]),
        helper.make_node("MatMul", ["indicator", "missing_weights"], ["offset"]),
        helper.make_node("Add", ["sum", "offset"], ["exact"]),
        helper.make_node("Cast", ["exact"], ["value"], to=TensorProto.FLOAT),
    ]
    model = assembled(
        nodes,
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["batch", len(FEATURES)])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        [*weights, zero],
    )
    described = manifest("kinds", [number("x")], ValueOutput(kind="value", name="sum"))
    wide = FeaturesInput(kind="features", datatype="FP64", features=FEATURES)
    described = described.model_copy(update={"input": wide})
    example = Examples(
        input=Tensor(
            name="features", datatype="FP64", shape=[1, len(FEATURES)], data=[1] * len(FEATURES)
        ),
        output=Tensor(name="value", shape=[1, 1], data=[sum(WEIGHTS)]),
        tolerance=Tolerance(absolute=1e-5, relative=1e-5),
    )
    publish(models, described, model, example)


@pytest.fixture(scope="module")
def service(serve: Serve) -> httpx.Client:
    """A service with a model that has a column of every kind, all optional."""
    return serve(publish_kinds)


@pytest.fixture
def onward(connect: Connect, service: httpx.Client) -> AnyClient:
    """A client of this service."""
    return connect(service.base_url)


def value_of(service: httpx.Client, row: dict[str, object]) -> float:
    """The prediction of plain HTTP."""
    response = service.post("/models/kinds/predict", json=row)
    assert response.status_code == 200, response.text
    value: float = response.json()["value"]
    return value


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, Decimal("NaN")]
)
def test_every_missing_value_is_null(
    onward: AnyClient, service: httpx.Client, missing: object
) -> None:
    """In a row, and in a DataFrame of any type."""
    expected = [value_of(service, TYPICAL | {name: None}) for name in CELLS]
    rows: list[dict[str, Any]] = [TYPICAL | {name: missing} for name in CELLS]

    assert [onward.predict("kinds", row).value for row in rows] == expected
    cells = {name: [*(row[name] for row in rows), TYPICAL[name]] for name in CELLS}
    frame = pd.DataFrame({name: pd.Series(cells[name], dtype=object) for name in CELLS})
    for typed in (frame, frame.infer_objects(), frame.replace({pd.NaT: None}).convert_dtypes()):
        assert onward.predict("kinds", typed)["value"].tolist()[:-1] == expected


DTYPES: dict[str, list[Callable[[list[Any]], pd.Series]]] = {
    "number": [
        lambda cells: pd.Series(cells, dtype="float64"),
        lambda cells: pd.Series(cells, dtype="Float64"),
        lambda cells: pd.Series([None if c is None else Decimal(str(c)) for c in cells]),
    ],
    "integer": [
        lambda cells: pd.Series(cells, dtype="Int64"),
        lambda cells: pd.Series(cells, dtype="float32"),
        lambda cells: pd.Series(cells, dtype="category"),
    ],
    "truth": [
        lambda cells: pd.Series(cells, dtype="boolean"),
        lambda cells: pd.Series(cells, dtype=object),
    ],
    "word": [
        lambda cells: pd.Series(cells, dtype="string"),
        lambda cells: pd.Series(cells, dtype="category"),
        lambda cells: pd.Series(cells, dtype=object),
    ],
    "day": [
        lambda cells: pd.to_datetime(pd.Series(cells)),
        lambda cells: pd.Series([c and date.fromisoformat(c) for c in cells], dtype=object),
    ],
    "moment": [
        lambda cells: pd.to_datetime(pd.Series(cells)),
        lambda cells: pd.to_datetime(pd.Series(cells)).dt.tz_localize("Europe/Berlin"),
        lambda cells: pd.to_datetime(pd.Series(cells)).astype("datetime64[s]"),
    ],
    "hour": [lambda cells: pd.Series([c and time.fromisoformat(c) for c in cells], dtype=object)],
}
BERLIN = "2024-01-05T06:30:00"


@pytest.mark.parametrize("name", DTYPES)
def test_every_type_of_column_of_pandas(
    onward: AnyClient, service: httpx.Client, name: str
) -> None:
    """Nullable, categorical, decimal and of dates and times, with a gap each."""
    for convert in DTYPES[name]:
        column = convert([TYPICAL[name], None])
        frame = pd.DataFrame([TYPICAL, TYPICAL]).assign(**{name: column})
        given = BERLIN if isinstance(column.dtype, pd.DatetimeTZDtype) else TYPICAL[name]
        expected = [value_of(service, TYPICAL | {name: cell}) for cell in (given, None)]

        assert onward.predict("kinds", frame)["value"].tolist() == pytest.approx(expected)


def test_every_type_of_column_of_polars(onward: AnyClient, service: httpx.Client) -> None:
    """The same values in the types of polars."""
    frame = pl.DataFrame(
        {
            "number": pl.Series([1.5, None, float("nan")], dtype=pl.Float32),
            "integer": pl.Series([20, None, None], dtype=pl.UInt8),
            "truth": [True, None, None],
            "word": pl.Series(["red", None, None], dtype=pl.Categorical),
            "day": [date(2024, 1, 5), None, None],
            "moment": [datetime(2024, 1, 5, 7, 30, tzinfo=UTC), None, None],
            "hour": [time(7, 30), None, None],
        }
    )

    predicted = onward.predict("kinds", frame)

    nothing = value_of(service, dict.fromkeys(CELLS))
    expected = [value_of(service, TYPICAL), nothing, nothing]
    assert predicted["value"].to_list() == pytest.approx(expected)
    assert predicted.columns == ["value", "warnings"]


def test_a_row_may_have_values_of_numpy_and_pandas(
    onward: AnyClient, service: httpx.Client
) -> None:
    """Scalars and timestamps, in a dict, in a list, in a Series and as a tuple."""
    row: dict[str, Any] = {
        "number": np.float32(1.5),
        "integer": np.int8(20),
        "truth": np.array([True])[0],
        "word": np.str_("red"),
        "day": np.datetime64("2024-01-05"),
        "moment": pd.Timestamp("2024-01-05 07:30:00.000000000"),
        "hour": time(7, 30),
    }
    expected = pytest.approx(value_of(service, TYPICAL))

    assert onward.predict("kinds", row).value == expected
    assert onward.predict("kinds", pd.Series({**row, "customer": "Ada"})).value == expected
    listed = onward.predict("kinds", [list(row.values()), tuple(row.values()), row])
    assert [one.value for one in listed] == [expected] * 3
    assert onward.predict("kinds", {**row, "day": pd.Period("2024-01-05", "D")}).value == expected
    exact = {"number": Decimal("1.5"), "integer": Decimal("2E+1")}
    assert onward.predict("kinds", {**row, **exact}).value == expected


def test_arrays_of_numbers_are_rows(connect: Connect, shipped_client: httpx.Client) -> None:
    """One row or several, of any type of number."""
    shipped = connect(shipped_client.base_url)
    rows = np.array([[61, 74], [30, 40]])
    expected = shipped.predict("admission", rows.tolist())

    for array in (rows, rows.astype(np.float32), rows.astype(np.uint8)):
        assert shipped.predict("admission", array) == expected
        assert shipped.predict("admission", list(array)) == expected
    assert shipped.predict("admission", rows[0]) == expected[0]


def test_a_table_without_rows_has_no_predictions(onward: AnyClient) -> None:
    """The columns are there, so that it can be joined with others."""
    for frame in (pd.DataFrame(columns=CELLS), pl.DataFrame(schema=CELLS)):
        predicted = onward.predict("kinds", frame)
        assert [*predicted.columns] == ["value", "warnings"]
        assert len(predicted) == 0


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (pd.DataFrame({"number": [1.0, float("inf")]}), "Row 1, column 'number': The number inf"),
        ([{"number": 1.0}, {"number": float("-inf")}], "Row 1: The number -inf has no form"),
        ({"day": pd.Timedelta(1, "d")}, "A value of type Timedelta has no form in JSON"),
        ({"word": b"red"}, "A value of type bytes has no form in JSON"),
        (pl.LazyFrame({"number": [1.0]}), "A LazyFrame has no rows yet"),
        (pd.DataFrame([[1.0, 2.0]], columns=["number", "number"]), "'number' more than once"),
        (3, "A value of type int cannot be predicted"),
        ("customers.csv", "customers.csv is a table; use score() for it."),
        ([object()], "A value of type object has no form in JSON"),
    ],
)
def test_what_cannot_be_sent_is_explained(onward: AnyClient, data: object, sentence: str) -> None:
    """Nothing is sent, and the error is a ValueError too."""
    with pytest.raises(InvalidData) as raised:
        onward.predict("kinds", data)

    assert sentence in str(raised.value)
    assert isinstance(raised.value, ValueError)
    assert raised.value.status is None


def test_an_empty_text_is_missing_only_where_the_service_says_so(
    onward: AnyClient, service: httpx.Client
) -> None:
    """A category and a date read it as missing, as in a table; a number in JSON rejects it."""
    for name in ("word", "day", "moment", "hour"):
        missing = value_of(service, TYPICAL | {name: None})
        assert onward.predict("kinds", TYPICAL | {name: ""}).value == missing
    for name in ("number", "integer", "truth"):
        with pytest.raises(InvalidRequest, match='got ""'):
            onward.predict("kinds", pd.DataFrame([TYPICAL | {name: ""}]))
