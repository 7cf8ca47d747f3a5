"""Imported models give the predictions of the library in every format of every protocol."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.conftest import StartApp
from tests.imported import (
    Served,
    assert_served,
    expect,
    import_file,
    save,
    write_table,
)
from training.export.publish import Publication
from training.importing.options import ImportOptions

_ROWS = 40
Imported = tuple[Publication, Path, Served]


def _columns() -> dict[str, list[Any]]:
    """Columns of every type: words with blanks, the word None, and a gap."""
    generator = np.random.default_rng(11)
    return {
        "age": generator.integers(18, 90, _ROWS).tolist(),
        "work": generator.choice([" Private", " State-gov", "None", "NA"], _ROWS).tolist(),
        "income": generator.uniform(0, 1e5, _ROWS).round(2).tolist(),
        "member": generator.choice([True, False], _ROWS).tolist(),
        "score": [*generator.normal(size=_ROWS - 1).round(3).tolist(), ""],
    }


def _every_type(folder: Path, models: Path) -> Imported:
    """A pipeline with one named input of each type, as scikit-learn's converter makes them."""
    columns = _columns()
    numbers = [float(cell) if cell != "" else np.nan for cell in columns["score"]]
    rows = np.array(
        list(
            zip(
                columns["age"],
                columns["work"],
                columns["income"],
                columns["member"],
                numbers,
                strict=True,
            )
        ),
        dtype=object,
    )
    fitted = make_pipeline(
        ColumnTransformer(
            [
                ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), [1]),
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [0, 2, 4]),
            ]
        ),
        LogisticRegression(),
    )
    target = np.where(rows[:, 1] == " Private", "yes", "no")
    fitted.fit(rows, target)
    kinds = {
        "age": FloatTensorType,
        "work": StringTensorType,
        "income": FloatTensorType,
        "member": BooleanTensorType,
        "score": FloatTensorType,
    }
    path = save(
        to_onnx(fitted, initial_types=[(name, kind([None, 1])) for name, kind in kinds.items()]),
        folder,
        "every_type",
    )
    table = write_table(folder, columns, "every_type")
    imported = import_file(path, models, table, ImportOptions(optional=("score",)))
    return imported, table, expect(fitted.predict_proba(rows), fitted.predict(rows))


def _identifiers(folder: Path, models: Path) -> Imported:
    """A tree that separates neighboring identifiers, which 32 bits cannot."""
    cells = 20_000_000 + np.arange(_ROWS)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    fitted = make_pipeline(ColumnTransformer([("id", encoder, [0])]), LinearRegression())
    fitted.fit(cells.reshape(-1, 1), cells % 9)
    path = save(
        to_onnx(fitted, initial_types=[("id", Int64TensorType([None, 1]))]), folder, "identifiers"
    )
    table = write_table(folder, {"id": cells.tolist()}, "identifiers")
    return import_file(path, models, table), table, expect(fitted.predict(cells.reshape(-1, 1)))


def _minutes(folder: Path, models: Path) -> Imported:
    """A line through seconds since 1970, in double precision."""
    cells = (1_700_000_000 + 20.0 * np.arange(_ROWS)).reshape(-1, 1)
    fitted = make_pipeline(StandardScaler(), LinearRegression()).fit(cells, np.arange(_ROWS))
    path = save(
        to_onnx(fitted, initial_types=[("time", DoubleTensorType([None, 1]))]), folder, "minutes"
    )
    table = write_table(folder, {"time": cells.ravel().tolist()}, "minutes")
    return import_file(path, models, table), table, expect(fitted.predict(cells))


def _forest(folder: Path, models: Path) -> Imported:
    """A forest with ties and a ZipMap."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(_ROWS, 4)).astype(np.float32)
    fitted = RandomForestClassifier(10, random_state=0).fit(x, np.where(x[:, 0] > 0, "b", "a"))
    path = save(to_onnx(fitted, x[:1]), folder, "forest")
    table = write_table(folder, {name: x[:, k].tolist() for k, name in enumerate("wxyz")}, "forest")
    return (
        import_file(path, models, table),
        table,
        expect(fitted.predict_proba(x), fitted.predict(x)),
    )


def _neighbors(folder: Path, models: Path) -> Imported:
    """Whole-number classes, of which one is negative."""
    generator = np.random.default_rng(4)
    x = generator.normal(size=(_ROWS, 2)).astype(np.float32)
    fitted = KNeighborsClassifier(3).fit(x, np.digitize(x[:, 0], [-0.5, 0.5]) * 5 - 5)
    path = save(to_onnx(fitted, x[:1], options={"zipmap": False}), folder, "neighbors")
    table = write_table(folder, {"a": x[:, 0].tolist(), "b": x[:, 1].tolist()}, "neighbors")
    return (
        import_file(path, models, table),
        table,
        expect(fitted.predict_proba(x), fitted.predict(x)),
    )


def _boosting(folder: Path, models: Path) -> Imported:
    """Three classes of words."""
    generator = np.random.default_rng(6)
    x = generator.normal(size=(_ROWS, 3)).astype(np.float32)
    y = np.array(["low", "medium", "high"])[np.digitize(x[:, 1], [-0.5, 0.5])]
    fitted = GradientBoostingClassifier(n_estimators=5, random_state=0).fit(x, y)
    path = save(to_onnx(fitted, x[:1]), folder, "boosting")
    table = write_table(
        folder, {name: x[:, k].tolist() for k, name in enumerate("abc")} | {"y": y}, "boosting"
    )
    return (
        import_file(path, models, table, target="y"),
        table,
        expect(fitted.predict_proba(x), fitted.predict(x)),
    )


@pytest.mark.parametrize(
    "publish", [_every_type, _identifiers, _minutes, _forest, _neighbors, _boosting]
)
def test_every_format_gives_the_predictions_of_the_library(
    publish: Callable[[Path, Path], Imported], models: Path, start: StartApp, tmp_path: Path
) -> None:
    """JSON, v1, v2 and CSV, with the cells of the file as they are."""
    imported, table, expected = publish(tmp_path, models)

    assert_served(start(), imported, table, expected, tolerance=5e-6)
