"""Load tables: public data sets by name, CSV files, or rows in the recipe.

Every download is pinned twice: by the commit in its URL and by the sha256 of its content.
"""

import contextlib
import hashlib
import io
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn import datasets

from service.bundle.store import open_replacement
from training.data.csv import create_layout, parse_path
from training.data.files import read_table
from training.data.table import Table, table_from_rows
from training.errors import DataError, DataSetNotFound
from training.recipe.table import Data

_TIMEOUT_SECONDS = 30
# More than twice the largest of the files.
_MAX_DOWNLOAD = 64 << 20
GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Source:
    """A public data set, identified by its digest."""

    path: str
    sha256: str
    url: str
    header: bytes | None = None
    """A replacement for the first line; empty removes it, None leaves it."""
    columns: tuple[str, ...] = ()
    """The names of the columns, for a file without a header."""


SOURCES = {
    # Exercise data of Andrew Ng's course Machine Learning (Stanford, Coursera). The course does not
    # publish single files; the copy is a private one, in which a header was added.
    "admissions": Source(
        "admissions/ex2data1.txt",
        "ed7298995232c17a7f1bc50c9807cb7216337563e4a7c00bfcaa8f5d6bd32f02",
        f"{GITHUB}/noir-hub/txtFiles/aa0fbb614fbf602918f80eb32ebe3f4b507369d3/ex2data1.txt",
        header=b"",
        columns=("exam_1", "exam_2", "admitted"),
    ),
    "portland_houses": Source(
        "house_prices/ex1data2.txt",
        "c19f8051a03d4b73be5bb9a60ace1c2f24adba2947cc0028e0f184d5680d4d21",
        f"{GITHUB}/noir-hub/txtFiles/aa0fbb614fbf602918f80eb32ebe3f4b507369d3/ex1data2.txt",
        header=b"",
        columns=("size", "bedrooms", "price"),
    ),
    # The 1990 census (Pace and Barry, 1997), as published with Géron's book Hands-On Machine
    # Learning.
    "california_housing": Source(
        "california_housing/housing.csv",
        "8a3727f4cf54ac1a327f69b1d5b4db54c5834ea81c6e4efc0d163300022a685e",
        f"{GITHUB}/ageron/handson-ml2/aa555aa16b9d0af6c84e67c7757f3317d05acb12"
        "/datasets/housing/housing.csv",
    ),
    # Sales recorded by King County, Washington, 2014 and 2015; usually listed as CC0. No publisher
    # has a direct link to this file; the copy is a private one, in which a column was renamed.
    "king_county": Source(
        "house_prices/kc_house_data.csv",
        "d0875baa0251b21d4bdc9d2ae940a4fe0bb6009824f23dd0e2a5b2bf04557b7e",
        f"{GITHUB}/FanToMaS-api/ML_ProjectWork/5d83d017c4deba92b45d4646eb3dde3ee56f092f"
        "/kc_house_data.csv",
        header=b"id,date,price,bedrooms,bathrooms,sqft_living,sqft_lot,floors,waterfront,view,"
        b"condition,grade,sqft_above,sqft_basement,yr_built,yr_renovated,zipcode,lat,long,"
        b"sqft_living15,sqft_lot15\n",
    ),
    # Published by IBM.
    "telco_churn": Source(
        "imbalanced/Telco-Customer-Churn.csv",
        "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91",
        f"{GITHUB}/IBM/telco-customer-churn-on-icp4d/7a805166f3ed919cbf60120b664eccc1eb0b1444"
        "/data/Telco-Customer-Churn.csv",
    ),
    # Woods et al. (1993), from the well-known collection of Machine Learning Mastery.
    "mammography": Source(
        "imbalanced/mammography.csv",
        "7d3dea3f075f30bbdbb8980e7725684059b4fe3d0f850fadd0f635f6993d8730",
        f"{GITHUB}/jbrownlee/Datasets/ae93223ff9895d5eab3e3c03d1f9bebc26e3138e/mammography.csv",
    ),
}


@dataclass(frozen=True)
class Folders:
    """Folders to search for data."""

    data: Path | None
    """Copies of the public data sets at their `Source.path`."""
    cache: Path
    """The cache of downloads."""
    given: Path | None = None
    """The user's file, which may be a copy of a public data set."""


def load(data: Data, folders: Folders) -> Table:
    """Load the table of a recipe, with all cells as text.

    Raises:
        DataError: the data set is unknown, cannot be obtained, or is not a usable CSV file.
    """
    if data.rows is not None:
        return table_from_rows(data.rows, data.columns or [], data.missing)
    layout = create_layout(data)
    if data.file is not None:
        return read_table(parse_path(data.file), layout, data.columns)
    name = data.source or ""
    if name in _FROM_SCIKIT_LEARN:
        return _FROM_SCIKIT_LEARN[name]()
    if name not in SOURCES:
        known = ", ".join(sorted([*SOURCES, *_FROM_SCIKIT_LEARN]))
        raise DataError(f"There is no public data set {name!r}; known: {known}.")
    source = SOURCES[name]
    columns = data.columns or list(source.columns) or None
    return read_table(find(name, source, folders), layout, columns, name=f"{name}: {source.path}")


def find(name: str, source: Source, folders: Folders) -> Path:
    """Find the file of a data set in the user's folders or the cache, or download it.

    The user's own file is copied to the cache, so that the recipe can be trained again.

    Raises:
        DataError: it cannot be found or has another digest; the message says how to get it.
    """
    if folders.given is not None:
        content = folders.given.read_bytes()
        if hashlib.sha256(content).hexdigest() == source.sha256:
            with contextlib.suppress(OSError):  # without a cache, the next run downloads
                replace_file(folders.cache / source.path, content)
            return folders.given
    for folder in (folders.data, folders.cache):
        if folder is not None and (folder / source.path).is_file():
            path = folder / source.path
            _check(path.read_bytes(), source, str(path))
            return path
    content = _download(name, source, folders)
    _check(content, source, source.url)
    return replace_file(folders.cache / source.path, content)


def public_data(table: Table) -> dict[str, Any] | None:
    """Return the data section of a recipe for a table that is a copy of a public data set."""
    for name, source in SOURCES.items():
        if source.sha256 == table.sha256:
            return {"source": name} | ({"columns": table.frame.columns} if source.columns else {})
    return None


def _download(name: str, source: Source, folders: Folders) -> bytes:
    try:
        with urllib.request.urlopen(source.url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - only the URLs above
            content: bytes = response.read(_MAX_DOWNLOAD)  # more does not match the digest
    except OSError as error:
        searched = folders.data / source.path if folders.data else "no data folder is set"
        raise DataSetNotFound(
            f"The data set {name!r} is not on this machine ({searched}) and {source.url} cannot "
            f"be downloaded: {error}. Put a copy at {source.path} below a folder and "
            f"pass that folder by --data or the setting ONWARD_DATA."
        ) from None
    if source.header is None:
        return content
    return source.header + content.partition(b"\n")[2]


def _check(content: bytes, source: Source, where: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise DataError(
            f"{where} is not the data set of the recipe: its sha256 is {found}, "
            f"not {source.sha256}. Replace it, or set data.file to train on it."
        )


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file and its folders; after a crash, the old or the new content is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_replacement(path) as file:
        file.write(content)
    return path


def _iris() -> Table:
    iris = datasets.load_iris()
    columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    frame = pl.DataFrame(np.asarray(iris.data), schema=columns).cast(pl.String)
    species = pl.Series("species", [str(iris.target_names[k]) for k in iris.target])
    return _generated("iris: scikit-learn's own copy", frame.with_columns(species))


def _blobs() -> Table:
    points, blob = datasets.make_blobs(300, n_features=2, centers=3, random_state=3)
    frame = pl.DataFrame(points.round(4), schema=["x", "y"]).cast(pl.String)
    frame = frame.with_columns(pl.Series("blob", [str(k) for k in blob]))
    return _generated("blobs: 300 points of scikit-learn's make_blobs, random_state 3", frame)


def _generated(name: str, frame: pl.DataFrame) -> Table:
    written = io.BytesIO()
    frame.write_csv(written)
    return Table(name, frame, hashlib.sha256(written.getvalue()).hexdigest())


_FROM_SCIKIT_LEARN = {"iris": _iris, "blobs": _blobs}
