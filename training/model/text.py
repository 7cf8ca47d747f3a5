"""Free text as numbers: scores of a linear model, and latent semantic analysis, of TF-IDF.

Every family only gets numbers: the text of a row is encoded before its model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict

from service.bundle.features import TEXT_NAME
from service.bundle.manifest import BINARY
from training.data.table import Column, Dataset, Float32s, Floats, Inputs, Rows
from training.errors import DataError
from training.model.blend import Blend
from training.model.estimators import Estimator
from training.model.networks import Predictor
from training.model.text_graph import NGrams, TextMap, build_graph
from training.onnx_files import run_graph
from training.recipe.table import Feature, Recipe

# Of all columns of text together, for words and for characters each, in a bundle of 4 MB.
_MOST_NGRAMS = 3000
_WORDS, _CHARACTERS = (1, 2), (2, 4)
_FOLDS = 5
# On messages and titles, as good as 32 or better.
_COMPONENTS = 16
_LEAST_EXPLAINED = 0.005
_STRENGTH = 30.0
_PENALTY = 1.0


@dataclass(frozen=True)
class EncodedText:
    """A column of text as numbers.

    Attributes:
        text_map: that the graph of a bundle applies.
        encoded: ``[distinct texts of the column, outputs]``.
        training: ``[training rows, outputs]``. Their scores are those of models that were fitted to
            other rows, as the score of a row's own model reveals its target.
    """

    text_map: TextMap
    encoded: Float32s
    training: Float32s


@dataclass(frozen=True)
class TextModel:
    """A model of numbers, after the encoding of columns of text."""

    columns: list[Column]
    texts: list[EncodedText]
    model: Predictor | Estimator | Blend

    @property
    def source(self) -> str:
        """The library of the model, for messages."""
        return self.model.source

    @property
    def width(self) -> int:
        """The number of columns that the model reads."""
        outputs = sum(len(text.text_map.offset) for text in self.texts)
        return len(self.columns) - len(self.texts) + outputs

    def predict(self, features: Inputs) -> Float32s:
        """Map ``[rows, columns]`` of `encode_features` to predictions ``[rows, outputs]``."""
        return self.model.predict(encode_texts(self.columns, self.texts, features))


TableModel = Predictor | Estimator | Blend | TextModel
"""A fitted model of a table."""


def encode_numbers(
    recipe: Recipe, data: Dataset, training: Rows
) -> tuple[list[EncodedText], Recipe, Dataset]:
    """Fit the encoding of each column of text to the training set.

    Returns:
        The encodings, and the recipe and the data set with numbers instead of text, after the
        other columns. Without columns of text, these are the given ones.

    Raises:
        DataError: a column has no text in the training set.
    """
    positions = find_texts(data.columns)
    if not positions:
        return [], recipe, data
    most = max(_MOST_NGRAMS // len(positions), 1)
    y = data.target
    texts = []
    for k in positions:
        codes = data.features[:, k].astype(np.intp)
        found = _fit_cached(
            _Key(data.columns[k].texts, codes[training].tobytes(), y[training].tobytes()),
            labels=len(recipe.target.labels),
            seed=recipe.seed,
            most=most,
        )
        if found is None:
            raise DataError(f"{data.columns[k].feature.name!r} has no text in the training set.")
        texts.append(found)
    features = encode_texts(data.columns, texts, data.features)
    start = len(data.columns) - len(positions)
    features[training, start:] = np.hstack([text.training for text in texts])
    others = [column for column in data.columns if column.feature.type != "text"]
    numbers = [
        Column(Feature(name=f"{data.columns[k].feature.name} [{output}]", type="number"))
        for k, text in zip(positions, texts, strict=True)
        for output in range(len(text.text_map.offset))
    ]
    columns = [*others, *numbers]
    encoded = recipe.model_copy(update={"features": [column.feature for column in columns]})
    return texts, encoded, replace(data, columns=columns, features=features)


def find_texts(columns: Sequence[Column]) -> list[int]:
    """Return the positions of the columns of text."""
    return [k for k, column in enumerate(columns) if column.feature.type == "text"]


def encode_texts(
    columns: Sequence[Column], texts: Sequence[EncodedText], features: Inputs
) -> Inputs:
    """Replace the positions of texts by their numbers, which follow the other columns."""
    positions = find_texts(columns)
    others = [k for k in range(len(columns)) if k not in positions]
    numbers = [
        text.encoded[features[:, k].astype(np.intp)]
        for k, text in zip(positions, texts, strict=True)
    ]
    joined = np.hstack([features[:, others], *numbers])
    return joined.astype(np.float64) if features.dtype == np.float64 else joined.astype(np.float32)


@dataclass(frozen=True)
class _Key:
    """The texts of a column, and the positions and targets of its training rows, as bytes."""

    texts: tuple[str, ...]
    codes: bytes
    target: bytes


# The families that are compared are fitted to the same folds.
@lru_cache(maxsize=16)
def _fit_cached(key: _Key, *, labels: int, seed: int, most: int) -> EncodedText | None:
    """Fit the encoding of a column; None if it has no n-gram in the training set.

    Args:
        key: of the column and its training rows.
        labels: of the target; 0: it is a number.
        seed: of the recipe.
        most: n-grams of a kind.
    """
    codes = np.frombuffer(key.codes, np.intp)
    target = np.frombuffer(key.target, np.float64)
    texts = [key.texts[code] for code in codes]
    fitted = [_fit_ngrams(texts, most, characters=kind) for kind in (False, True)]
    pairs = [pair for pair in fitted if pair is not None]
    if not pairs:
        return None
    counts = sparse.hstack([matrix for _, matrix in pairs]).tocsr()
    out_of_fold, weights, offset = _fit_scores(counts, target, labels, seed)
    components = min(_COMPONENTS, min(counts.shape) - 1)
    if components > 0 and _is_informative(out_of_fold, target, labels):
        decomposition = TruncatedSVD(components, random_state=seed).fit(counts)
        weights = np.hstack([weights, decomposition.components_.T])
        offset = np.append(offset, np.zeros(components))
    if not weights.shape[1]:
        return None
    text_map = TextMap(
        [kind for kind, _ in pairs], weights.astype(np.float32), offset.astype(np.float32)
    )
    rows = np.array(key.texts, np.object_)[:, np.newaxis]
    encoded = run_graph(build_graph([text_map]), {TEXT_NAME: rows})["encoded"]
    training = encoded[codes]
    training[:, : out_of_fold.shape[1]] = out_of_fold
    return EncodedText(text_map, encoded, training)


def _is_informative(out_of_fold: Floats, target: Floats, labels: int) -> bool:
    """Return whether scores of other folds explain enough of the target; true if there are none.

    Components of text that does not are noise: they made gradient boosting worse.
    """
    # Four times what a random score explains.
    least = max(_LEAST_EXPLAINED, 4 / len(target))
    shares = []
    for k, score in enumerate(out_of_fold.T):
        y = target == k if labels > BINARY else target
        if score.std() > 0 and y.std() > 0:
            shares.append(np.corrcoef(score, y)[0, 1] ** 2)
    return not out_of_fold.shape[1] or max(shares, default=0.0) >= least


def _fit_ngrams(
    texts: Sequence[str], most: int, *, characters: bool
) -> tuple[NGrams, sparse.csr_matrix] | None:
    """Fit TF-IDF; return the n-grams and ``[rows, n-grams]``, or None if there is no n-gram."""
    options: dict[str, Any] = {"ngram_range": _WORDS, "tokenizer": str.split, "min_df": 2}
    if characters:
        options = {"ngram_range": _CHARACTERS, "analyzer": "char", "min_df": 3}
    vectorizer = TfidfVectorizer(lowercase=False, token_pattern=None, max_features=most, **options)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # the vocabulary is empty
        return None
    split = list if characters else str.split
    tokens = [split(ngram) for ngram in vectorizer.get_feature_names_out()]
    return NGrams(characters, tokens, vectorizer.idf_.tolist()), matrix


def _fit_scores(
    counts: sparse.csr_matrix, target: Floats, labels: int, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Fit a linear model; return its scores of other folds, its weights, and their offset.

    Returns:
        ``[rows, scores]``, ``[n-grams, scores]`` and ``[scores]``: a score for a number or two
        labels, else one for each label. There is none if a label has a single row.
    """
    rows = len(target)
    model: Any = Ridge(alpha=_PENALTY, random_state=seed)
    splitter: Any = KFold(min(_FOLDS, rows), shuffle=True, random_state=seed)
    y, method = target, "predict"
    if labels:
        y, method = target.astype(np.intp), "decision_function"
        known = np.bincount(y)
        rarest = int(known[known > 0].min())
        if rarest < 2 or np.count_nonzero(known) < labels:  # noqa: PLR2004 - folds
            return np.empty((rows, 0)), np.empty((counts.shape[1], 0)), np.empty(0)
        solver = "liblinear" if labels == BINARY else "lbfgs"
        model = LogisticRegression(
            C=_STRENGTH, solver=solver, max_iter=1000, random_state=seed, tol=1e-3
        )
        splitter = StratifiedKFold(min(_FOLDS, rarest), shuffle=True, random_state=seed)
    out_of_fold = cross_val_predict(model, counts, y, cv=splitter, method=method)
    model.fit(counts, y)
    weights, offset = np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_)
    return out_of_fold.reshape(rows, -1), weights, offset
