"""Free text as numbers, compared with scikit-learn, for every family."""

from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from service.bundle.features import TEXT_NAME
from service.freetext import normalize_text
from training.data.table import Dataset, Table, encode, table_from_rows, to_graph_inputs
from training.export import onnx_export
from training.export.merging import merge
from training.learn import fit_model
from training.model.text import TextModel, encode_numbers
from training.model.text_graph import NGrams, TextMap, build_graph
from training.onnx_files import Graph, run_graph
from training.recipe.loader import parse_recipe
from training.recipe.table import Recipe

_TEXTS = [
    "Free entry!!! Text WIN to 80086, T&C's apply",
    "ok... see you at 5, Größe XL?",
    "free text 😀😀 free",
    "",
    "  \t ",
    "a\x00b \x07 c",
    "Straße, straße & STRASSE",
    "naïve cafe\u0301 \U0001f468\u200d\U0001f469",
    "Где мой билет, Ёжик?",
    "ok",
]
_WORDS = ["win cash now", "urgent prize claim", "see you soon", "lunch at noon", "call me later"]


@pytest.mark.parametrize("characters", [False, True])
def test_a_graph_counts_ngrams_as_scikit_learn_does(characters: bool) -> None:  # noqa: FBT001 - a parameter
    """With punctuation, umlauts, emoji, control characters, and empty cells."""
    texts = [normalize_text(text) for text in _TEXTS]
    options: dict[str, Any] = {"analyzer": "char", "ngram_range": (2, 4)}
    if not characters:
        options = {"tokenizer": str.split, "ngram_range": (1, 2)}
    vectorizer = TfidfVectorizer(lowercase=False, token_pattern=None, **options)
    expected = vectorizer.fit_transform(texts[:6]).toarray()
    ngrams = [
        list(ngram) if characters else ngram.split() for ngram in vectorizer.get_feature_names_out()
    ]
    kind = NGrams(characters, ngrams, vectorizer.idf_.tolist())
    width = len(ngrams)
    text_map = TextMap([kind], np.eye(width, dtype=np.float32), np.zeros(width, np.float32))

    found = run_graph(
        build_graph([text_map]), {TEXT_NAME: np.array(texts, np.object_)[:, np.newaxis]}
    )["encoded"]

    np.testing.assert_allclose(found[:6], expected, atol=1e-6)
    np.testing.assert_allclose(found, vectorizer.transform(texts).toarray(), atol=1e-6)


def test_normal_text_has_tokens_in_lower_case() -> None:
    """Nothing else is left: no control characters, and no halves of surrogate pairs."""
    assert normalize_text(" Größe_XL: 42,5€\n😀\ud800\x00!") == "größe _ xl : 42 , 5 € 😀 !"
    assert normalize_text("cafe\u0301") == normalize_text("CAFÉ")


def _table(rows: int = 120) -> Table:
    """Messages whose first words decide, a second column of text, a number and a target."""
    generator = np.random.default_rng(0)
    cells: list[list[float | str]] = []
    for row in range(rows):
        k = int(generator.integers(len(_WORDS)))
        text = f"{_WORDS[k]} {_WORDS[int(generator.integers(len(_WORDS)))]} {row}"
        value = 3.0 * k + generator.normal()
        label = ["spam", "spam", "ham", "ham", "ham"][k]
        cells.append([text, f"note {row % 7} of {k}", float(generator.normal()), value, label])
    return table_from_rows(cells, ["message", "note", "size", "value", "label"])


def _recipe(family: str, target: str) -> Recipe:
    document = {
        "name": "messages",
        "title": "Messages",
        "data": {"rows": [[0]], "columns": ["x"]},
        "target": {"column": target} | ({"labels": ["ham", "spam"]} if target == "label" else {}),
        "features": [
            {"name": "message", "type": "text", "optional": True},
            {"name": "size", "type": "number"},
            {"name": "note", "type": "text", "optional": True},
        ],
        "network": {"family": family},
    }
    plan = {"optimizer": "LBFGS", "learning_rate": 1.0, "epochs": 20}
    trees = {"max_iter": 20, "min_samples_leaf": 5}
    if family in ("linear", "logistic", "mlp"):
        document["training"] = plan
    if family == "mlp":
        document["network"] = {"family": "mlp", "hidden_layer_sizes": [4]}
    if family == "gradient-boosting":
        document["boosting"] = trees
    if family == "ensemble":
        linear = "logistic" if target == "label" else "linear"
        document["members"] = [
            {"weight": 0.5, "network": {"family": linear}, "training": plan},
            {"weight": 0.5, "network": {"family": "gradient-boosting"}, "boosting": trees},
        ]
    return parse_recipe(document, "here")


def _encode(family: str, target: str) -> tuple[Recipe, Dataset]:
    recipe = _recipe(family, target)
    return recipe, encode(_table(), recipe, np.arange(80))


@pytest.mark.parametrize(
    ("family", "target"),
    [
        ("linear", "value"),
        ("logistic", "label"),
        ("mlp", "value"),
        ("gradient-boosting", "label"),
        ("gradient-boosting", "value"),
        ("ensemble", "label"),
    ],
)
def test_every_family_reads_text_by_the_same_graph(family: str, target: str) -> None:
    """The graph agrees with the model on all rows, and rows outside training are predicted."""
    recipe, data = _encode(family, target)
    training, measured = np.arange(80), np.arange(80, 120)

    predictor = fit_model(recipe, data, training, training[:0]).predictor

    assert isinstance(predictor, TextModel)
    name = "probability" if target == "label" else "value"
    graph = onnx_export.export(predictor, name, len(data.columns))
    onnx_export.verify(graph, predictor, data.features, data.columns)
    assert len(graph) < 1_000_000
    found = predictor.predict(data.features[measured])[:, 0]
    assert np.corrcoef(found, data.target[measured])[0, 1] > 0.8


def test_graphs_with_text_can_be_merged() -> None:
    """The mean of two models reads the same inputs."""
    recipe, data = _encode("linear", "value")
    halves = [np.arange(60), np.arange(20, 80)]

    models = [fit_model(recipe, data, rows, rows[:0]).predictor for rows in halves]
    graphs = [onnx_export.export(one, "value", len(data.columns)) for one in models]
    graph = Graph(merge(graphs, [0.25, 0.75], "value"))

    found = graph.predict(to_graph_inputs(data.columns, data.features))
    first, second = (one.predict(data.features) for one in models)
    np.testing.assert_allclose(found, 0.25 * first + 0.75 * second, rtol=1e-4)


def test_a_text_alone_is_the_only_input() -> None:
    """A graph has no input without columns."""
    recipe, _ = _encode("gradient-boosting", "value")
    recipe = recipe.model_copy(update={"features": [recipe.features[0]]})
    data = encode(_table(), recipe, np.arange(80))

    predictor = fit_model(recipe, data, np.arange(80), np.arange(0)).predictor
    graph = onnx_export.export(predictor, "value", 1)
    examples = onnx_export.create_examples(predictor, data.features, "value", columns=data.columns)

    onnx_export.verify(graph, predictor, data.features, data.columns)
    assert examples.input.datatype == "BYTES"
    assert examples.text is None


def test_only_training_rows_are_learned() -> None:
    """Other rows, their words and targets, change neither the vocabulary nor the weights."""
    recipe, data = _encode("linear", "value")
    training = np.arange(80)
    others = np.r_[training, np.arange(100, 120)]
    target = data.target.copy()
    target[80:] = 99.0
    changed = Dataset(data.columns, data.features, target, None)

    first = encode_numbers(recipe, data, training)[0]
    second = encode_numbers(recipe, changed, training)[0]
    third = encode_numbers(recipe, data, others)[0]

    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.text_map.projection, other.text_map.projection)
    assert first[0].text_map.kinds[1].tokens != third[0].text_map.kinds[1].tokens


def test_scores_of_training_rows_do_not_reveal_their_target() -> None:
    """A random target is not learned from texts that are all different."""
    generator = np.random.default_rng(1)
    words = [f"word{k}" for k in range(30)]
    cells: list[list[float | str]] = [
        [" ".join(generator.choice(words, 6)), float(generator.normal())] for _ in range(200)
    ]
    table = table_from_rows(cells, ["message", "value"])
    recipe = _recipe("linear", "value")
    recipe = recipe.model_copy(update={"features": [recipe.features[0]]})
    data = encode(table, recipe, np.arange(200))

    texts, _, encoded = encode_numbers(recipe, data, np.arange(200))

    score = encoded.features[:, 0]
    own = texts[0].encoded[data.features[:, 0].astype(int), 0]
    assert abs(np.corrcoef(score, data.target)[0, 1]) < 0.25
    assert np.corrcoef(own, data.target)[0, 1] > 0.5
