"""A model in the format of its library is recognized, and its export to ONNX is named."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import joblib  # type: ignore[import-untyped] # it ships no type information
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from training.__main__ import main

Write = Callable[[Path], object]
_PAGE = "docs/serve-your-model.md"


def fitted() -> LogisticRegression:
    return LogisticRegression().fit([[0.0], [1.0]], [0, 1])


def start(content: bytes) -> Write:
    """A file that begins as those of a library that is not installed here."""
    return lambda path: path.write_bytes(content + bytes(99))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(fitted()))


FILES: dict[str, tuple[Write, str, str]] = {
    "model.joblib": (lambda path: joblib.dump(fitted(), path), "scikit-learn", "skl2onnx.to_onnx"),
    "small.joblib": (
        lambda path: joblib.dump(fitted(), path, compress=3),
        "scikit-learn",
        "skl2onnx.to_onnx",
    ),
    "model.pkl": (write_pickle, "scikit-learn", "skl2onnx.to_onnx"),
    "renamed.onnx": (write_pickle, "scikit-learn", "skl2onnx.to_onnx"),
    "model.pt": (lambda path: torch.save(torch.nn.Linear(2, 1), path), "PyTorch", "torch.onnx"),
    "old.bin": (
        lambda path: torch.save(
            torch.nn.Linear(2, 1).state_dict(), path, _use_new_zipfile_serialization=False
        ),
        "PyTorch",
        "torch.onnx.export",
    ),
    "xgboost.pkl": (start(b"\x80\x04\x95\x8c\x0fxgboost.sklearn\x94"), "XGBoost", "onnxmltools"),
    "model.json": (
        lambda path: path.write_text(json.dumps({"learner": {}, "version": [2, 1, 0]})),
        "XGBoost",
        "onnxmltools.convert_xgboost",
    ),
    "model.ubj": (start(b"{L\0\0\0\0\0\0\0\x07learner{"), "XGBoost", "onnxmltools"),
    "model.txt": (start(b"tree\nversion=v4\n"), "LightGBM", "onnxmltools.convert_lightgbm"),
    "model.cbm": (start(b"CBM1"), "CatBoost", 'format="onnx"'),
    "model.h5": (start(b"\x89HDF\r\n\x1a\n"), "Keras", 'format="onnx"'),
    "model.keras": (start(b"PK\x03\x04"), "Keras", 'format="onnx"'),
    "model.tflite": (start(b"\x1c\0\0\0TFL3"), "TensorFlow", "tf2onnx"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("options", [[], ["--images"]], ids=["columns", "images"])
def test_the_message_names_the_library_and_its_export(
    name: str,
    options: list[str],
    tmp_path: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the content of the file, or else by its name, in one sentence."""
    write, library, export = FILES[name]
    write(tmp_path / name)

    code = main(["import", *options, str(tmp_path / name), "--models", str(models)])

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith(f"{name} cannot be imported: it is a model of {library}, not in ONNX: ")
    assert export in said
    assert said.endswith(f"{_PAGE} shows.\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("saved_model.pb", "is a SavedModel of TensorFlow or Keras, not in ONNX: export it with"),
        ("model.pkl", "without the file MLmodel, so it is not an MLflow model. Give an ONNX file"),
    ],
)
def test_a_folder_of_another_library_is_described(
    file: str, words: str, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the page with the export of each library."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / file).touch()

    code = main(["import", str(tmp_path / "folder"), "--models", str(models)])

    said = capsys.readouterr().err
    assert code == 2
    assert words in said
    assert _PAGE in said


def test_a_damaged_onnx_file_is_of_no_other_library(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its message says so, with the reason."""
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch\xff\xff")

    main(["import", str(tmp_path / "model.onnx"), "--models", str(models)])

    assert "it is not a valid ONNX file" in capsys.readouterr().err
