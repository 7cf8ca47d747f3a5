"""The command that imports a model, and what it prints and writes."""

import shlex
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from service.bundle.features import CategoryFeature, FeaturesInput
from service.bundle.manifest import ClassesOutput, Manifest
from service.bundle.store import read_bundle
from training.__main__ import main

_X, _Y = load_iris(return_X_y=True)
_NAMES = ("setosa", "versicolor", "virginica")
_COLUMNS = ("sepal length", "sepal width", "petal length", "petal width")


def linear(weights: list[float], inputs: list[tuple[str, int]] | None = None) -> onnx.ModelProto:
    """A graph of one value: the weighted sum of its columns."""
    matrix = np.array(weights, dtype=np.float32)[:, None]
    nodes = [helper.make_node("MatMul", ["X", "w"], ["value"])]
    source = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", len(weights)])]
    if inputs:
        source = [helper.make_tensor_value_info(name, kind, ["N", 1]) for name, kind in inputs]
        nodes.insert(0, helper.make_node("Concat", [name for name, _ in inputs], ["X"], axis=1))
    target = helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N", 1])
    return helper.make_model(
        helper.make_graph(
            nodes, "linear", source, [target], [numpy_helper.from_array(matrix, "w")]
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


@cache
def classify_iris(names: tuple[str, ...]) -> bytes:
    """A classifier with these labels, fitted once for all tests of it."""
    model = LogisticRegression(max_iter=500).fit(_X.astype(np.float32), np.array(names)[_Y])
    converted = to_onnx(model, _X[:1].astype(np.float32), options={"zipmap": False})
    content: bytes = converted.SerializeToString()
    return content


def write_iris(folder: Path, names: tuple[str, ...] = _NAMES) -> list[str]:
    """Write a classifier and its rows; return the words of the command."""
    labels = np.array(names)[_Y]
    (folder / "iris.onnx").write_bytes(classify_iris(names))
    lines = [
        ",".join([*map(str, row), label]) for row, label in zip(_X.round(1), labels, strict=True)
    ]
    (folder / "iris.csv").write_text("\n".join([",".join([*_COLUMNS, "species"]), *lines]))
    return ["import", str(folder / "iris.onnx"), "--csv", str(folder / "iris.csv")]


def write_values(folder: Path, model: onnx.ModelProto, header: str, rows: list[str]) -> list[str]:
    """Write a model of one value and its rows; return the words of the command."""
    onnx.save(model, folder / "sum.onnx")
    (folder / "sum.csv").write_text("\n".join([header, *rows]) + "\n")
    return ["import", str(folder / "sum.onnx"), "--csv", str(folder / "sum.csv")]


def read_manifest(models: Path, name: str) -> Manifest:
    return read_bundle(models / name / "1").manifest


def test_the_last_lines_say_what_serves_and_how_to_call_it(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Like those of a training run."""
    words = write_iris(tmp_path)

    code = main([*words, "--target", "species", "--models", str(models)])

    *_, serving, curl = capsys.readouterr().out.splitlines()
    assert code == 0
    assert serving.startswith("iris version 1 serves")
    assert shlex.split(curl)[:2] == ["curl", "-s"]
    assert '"sepal length"' in curl


def test_metrics_are_said_to_be_of_the_given_rows(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody recorded whether the model was fitted to them."""
    words = write_iris(tmp_path)

    main([*words, "--target", "species", "--models", str(models)])

    said = capsys.readouterr().out
    evaluation = read_manifest(models, "iris").evaluation
    report = (models / "iris" / "1" / "report.html").read_text()
    assert "the 150 given rows, which may include training rows" in said
    assert "test rows" not in said
    assert evaluation is not None
    assert evaluation.part == "given"
    assert "150 given rows, which may include training rows" in report
    assert "iris.onnx" in report


def test_a_model_worse_than_the_baseline_is_reported_first(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commonest reason is another order of columns, units or labels."""
    rows = [f"{k},{k * 2},{k}" for k in range(20)]
    words = write_values(tmp_path, linear([100.0, -300.0]), "a,b,y", rows)

    main([*words, "--target", "y", "--models", str(models)])

    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Worse than the baseline: rmse")
    assert "order of the columns" in first
    assert "Worse than the baseline" in (models / "sum" / "1" / "report.html").read_text()


def test_labels_may_begin_with_a_minus(tmp_path: Path, models: Path) -> None:
    """`--labels -1,1` is no option of the name 1,1."""
    model = linear([1.0])
    model.graph.node.append(helper.make_node("Sigmoid", ["value"], ["p"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 1]))
    words = write_values(tmp_path, model, "a", [str(k / 4) for k in range(-8, 9)])

    code = main([*words, "--labels", "-1,1", "--models", str(models)])

    output = read_manifest(models, "sum").output
    assert code == 0
    assert isinstance(output, ClassesOutput)
    assert output.labels == ["-1", "1"]


def test_a_list_may_be_split_over_several_options(tmp_path: Path, models: Path) -> None:
    """Every value counts, whether after a comma or in another option of the same name."""
    model = linear([1.0, 2.0, 3.0])
    rows = [f"{k},{k}.5,{k * k},{k + 2 * (k + 0.5) + 3 * k * k}" for k in range(9)]
    words = write_values(tmp_path, model, "age,income,debt,sum", rows)

    features = "--features age,income --features debt --optional age --optional income"
    others = "--units age=y --units debt=EUR --expected sum --models"

    code = main([*words, *features.split(), *others.split(), str(models)])

    described = read_manifest(models, "sum").input
    assert isinstance(described, FeaturesInput)
    assert code == 0
    assert [(one.name, one.optional, one.unit) for one in described.features] == [
        ("age", True, "y"),
        ("income", True, None),
        ("debt", False, "EUR"),
    ]


def test_labels_and_values_may_be_split_over_several_options(tmp_path: Path, models: Path) -> None:
    """The labels and the expected columns of an import, and the words of an evaluation."""
    words = write_iris(tmp_path)
    table = tmp_path / "iris.csv"
    numbers = _X.astype(np.float32)
    library = LogisticRegression(max_iter=500).fit(numbers, np.array(_NAMES)[_Y])
    header, *cells = table.read_text().splitlines()
    lines = [f"{header},p0,p1,p2"]
    lines += [
        ",".join([cell, *map(str, row)])
        for cell, row in zip(cells, library.predict_proba(numbers), strict=True)
    ]
    table.write_text("\n".join(lines))
    labels = "--labels setosa --labels versicolor,virginica --expected p0 p1 --expected p2"
    values = "--values setosa --values versicolor --values virginica --target species"

    imported = main([*words, *labels.split(), "--target", "species", "--models", str(models)])
    evaluated = main(
        ["evaluate", "iris", "--csv", str(table), *values.split(), "--models", str(models)]
    )

    output = read_manifest(models, "iris").output
    assert isinstance(output, ClassesOutput)
    assert output.labels == list(_NAMES)
    assert (imported, evaluated) == (0, 0)


def test_options_describe_columns_without_a_card(tmp_path: Path, models: Path) -> None:
    """Units, gaps and unknown words are options of the command."""
    words = write_values(
        tmp_path, linear([1.0, 2.0]), "weight,height", [f"{k},{k}.5" for k in range(9)]
    )

    code = main(
        [*words, "--optional", "weight", "--units", "weight=kg,height=m", "--models", str(models)]
    )

    described = read_manifest(models, "sum").input
    assert isinstance(described, FeaturesInput)
    assert code == 0
    assert [(one.name, one.optional, one.unit) for one in described.features] == [
        ("weight", True, "kg"),
        ("height", False, "m"),
    ]
    assert not any(isinstance(one, CategoryFeature) for one in described.features)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--units", "weight"], "--units has 'weight'"),
        (["--layout", "nchw"], "--layout is an option for images; add --images"),
        (["--images"], "--csv is an option for tables"),
    ],
)
def test_options_that_do_not_fit_are_reported(
    options: list[str],
    words: str,
    tmp_path: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is ignored in silence."""
    command = write_values(tmp_path, linear([1.0]), "weight", ["1", "2"])

    code = main([*command, *options, "--models", str(models)])

    assert code == 2
    assert words in capsys.readouterr().err


def test_an_imported_model_is_evaluated_on_other_rows(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest names the columns, so no recipe is needed."""
    words = write_iris(tmp_path)
    main([*words, "--target", "species", "--models", str(models)])
    capsys.readouterr()

    code = main(["evaluate", "iris", "--csv", str(tmp_path / "iris.csv"), "--models", str(models)])

    said = capsys.readouterr().out
    evaluation = read_manifest(models, "iris").evaluation
    assert code == 0
    assert evaluation is not None
    assert "iris/1 on 150 rows of iris.csv" in said
    assert f"{evaluation.metrics['accuracy']:.6g}" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no column 'prediction', the name of the model's output. Name the column"),
        (["--target", "sepal width"], "with --values"),
        (["--target", "species", "--values", "a,b"], "names 2 values, but iris has 3 labels"),
    ],
)
def test_evaluation_says_which_option_is_missing(
    options: list[str],
    words: str,
    tmp_path: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The manifest does not know which column of another table has the true values."""
    main([*write_iris(tmp_path), "--features", ",".join(_COLUMNS), "--models", str(models)])

    code = main(
        ["evaluate", "iris", "--csv", str(tmp_path / "iris.csv"), "--models", str(models), *options]
    )

    assert code == 2
    assert words in capsys.readouterr().err


def test_values_name_how_a_column_writes_the_labels(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the labels."""
    words = write_iris(tmp_path)
    main([*words, "--target", "species", "--models", str(models)])
    text = (tmp_path / "iris.csv").read_text()
    for number, name in enumerate(_NAMES):
        text = text.replace(name, str(number))
    (tmp_path / "numbered.csv").write_text(text)
    capsys.readouterr()

    rows: list[Any] = ["--csv", str(tmp_path / "numbered.csv"), "--values", "0,1,2"]
    code = main(["evaluate", "iris", *rows, "--models", str(models)])

    assert code == 0
    assert "accuracy" in capsys.readouterr().out


_WRONG_USES: list[tuple[list[str], str]] = [
    (["--target", "z"], "has no column 'z'; its columns: a, b, y."),
    (["--target", "a"], "--target names 'a', which the model takes as a column."),
    (["--features", "b,a"], "in the order b, a, and the graph takes a, b. Use that order"),
    (["--card", "absent.toml"], "absent.toml cannot be read: No such file or directory"),
    (["--labels-file", "absent.txt"], "absent.txt cannot be read: No such file or directory."),
    (["--images", "absent"], "--csv is an option for tables, not for images; leave it out, or"),
]


@pytest.mark.parametrize(("options", "sentence"), _WRONG_USES)
def test_wrong_options_are_explained(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence names the value and the remedy; nothing is published."""
    inputs: list[tuple[str, int]] = [("a", TensorProto.FLOAT), ("b", TensorProto.FLOAT)]
    rows = [f"{k},{k * 2},{k * 5}" for k in range(9)]
    words = write_values(tmp_path, linear([1.0, 2.0], inputs), "a,b,y", rows)

    code = main([*words, *options, "--models", str(models)])

    assert code == 2
    assert sentence in capsys.readouterr().err
    assert not (models / "sum").exists()


def test_repeated_labels_are_rejected(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label of two classes could not be told from the other."""
    words = write_iris(tmp_path)

    code = main([*words, "--target", "species", "--labels", "a,a,b", "--models", str(models)])

    assert code == 2
    assert "'a' names several classes; give each its own name." in capsys.readouterr().err


def test_one_row_verifies_nothing(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot show whether the rows of a batch change each other."""
    words = write_values(tmp_path, linear([1.0]), "a", ["3"])

    assert main([*words, "--models", str(models)]) == 2
    assert "sum.csv has one row" in capsys.readouterr().err


def test_a_file_that_is_no_model_is_explained(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as an incomplete download, or the page of an error."""
    words = write_values(tmp_path, linear([1.0]), "a", ["3", "4"])
    (tmp_path / "sum.onnx").write_text("not found\n")

    assert main([*words, "--models", str(models)]) == 2
    assert "convert the model again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [("--size", "big", "as in 224x224"), ("--mean", "low", "as in 0.5,0.5,0.5")],
)
def test_malformed_sizes_and_means_are_explained(
    option: str, value: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an example."""
    with pytest.raises(SystemExit):
        main(["import", "x.onnx", "--images", option, value])

    assert sentence in capsys.readouterr().err
