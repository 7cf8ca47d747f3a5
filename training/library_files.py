"""Recognize the model files of other libraries, and say how each is exported to ONNX."""

import re
from dataclasses import dataclass
from pathlib import Path

_PAGE = "docs/serve-your-model.md"
# The names of classes, which show the library of a pickle, are near its beginning.
_START_BYTES = 64 * 1024
_SAVED_MODEL = "saved_model.pb"


@dataclass(frozen=True)
class _Library:
    """A library with model files of its own."""

    name: str
    export: str
    """The call or the command that writes ONNX."""
    suffixes: tuple[str, ...] = ()
    signature: re.Pattern[bytes] | None = None
    """Matches the beginning of its files."""
    package: bytes | None = None
    """How a pickle names its classes."""


def _pattern(signature: bytes) -> re.Pattern[bytes]:
    return re.compile(signature, re.DOTALL)


_PICKLE = _pattern(rb"\x80[\x02-\x05]")
_TENSORFLOW = _Library(
    "TensorFlow",
    "python -m tf2onnx.convert",
    (".tflite", ".pb"),
    _pattern(rb".{4}TFL3"),
)
_LIBRARIES = (
    _Library(
        "scikit-learn",
        "skl2onnx.to_onnx",
        (".joblib", ".pkl", ".pickle", ".sav"),
        package=b"sklearn",
    ),
    _Library(
        "XGBoost",
        "onnxmltools.convert_xgboost",
        (".ubj", ".xgb"),
        # JSON or UBJSON, in which a length is before the name.
        _pattern(rb'\s*\{.{0,100}?"?learner'),
        b"xgboost",
    ),
    _Library(
        "LightGBM",
        "onnxmltools.convert_lightgbm",
        (".lgb",),
        _pattern(rb"tree\s+version=v"),
        b"lightgbm",
    ),
    _Library(
        "CatBoost",
        'model.save_model("model.onnx", format="onnx")',
        (".cbm",),
        _pattern(rb'CBM1|\s*\{\s*"(?:ctr_data|features_info|model_info|oblivious_trees)"'),
        b"catboost",
    ),
    _Library(
        "PyTorch",
        "torch.onnx.export",
        (".pt", ".pth", ".pt2", ".ckpt", ".safetensors"),
        package=b"torch",
    ),
    _Library(
        "Keras",
        'model.export("model.onnx", format="onnx")',
        (".keras", ".h5", ".hdf5"),
        _pattern(rb"\x89HDF"),
    ),
    _TENSORFLOW,
)


def describe_library_file(path: Path) -> str | None:
    """Say which library a file is of, and how to export it; None if it is of none of them.

    The file is not loaded, since loading a pickle runs its code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except OSError:
        return None
    library = _find_by_content(start) or _find_by_suffix(path.suffix.lower())
    return None if library is None else f"it is a model of {library.name}, {_advise(library)}"


def describe_library_folder(folder: Path) -> str | None:
    """Say which library a folder is of, as for a file."""
    if (folder / _SAVED_MODEL).is_file():
        return f"{folder} is a SavedModel of TensorFlow or Keras, {_advise(_TENSORFLOW)}"
    return None


def _advise(library: _Library) -> str:
    return f"not in ONNX: export it with {library.export} as {_PAGE} shows."


def _find_by_content(start: bytes) -> _Library | None:
    for library in _LIBRARIES:
        if library.signature and library.signature.match(start):
            return library
    if not _PICKLE.match(start):
        return None
    # A model may use further libraries, so the first one named is the model's.
    named = {
        position: library
        for library in _LIBRARIES
        if library.package and (position := start.find(library.package)) >= 0
    }
    return named[min(named)] if named else None


def _find_by_suffix(suffix: str) -> _Library | None:
    return next((library for library in _LIBRARIES if suffix in library.suffixes), None)
