"""Fit a recipe's model to the training set and choose its thresholds on the validation set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from training.data.table import Dataset, Float32s, Floats, Rows
from training.fit import History, TrainingSet, count_batches, fit
from training.fit_together import fit_together
from training.model.blend import Blend
from training.model.convex import solve
from training.model.estimators import Estimator, fit_estimator
from training.model.losses import select_loss
from training.model.network_drafts import NetworkPlan, find_common_keys
from training.model.networks import Ensemble, MixedPredictor, Predictor, ValueHead, build
from training.model.preprocessing import (
    Preprocessing,
    fit_preprocessing,
    fit_scaler,
    list_large_categories,
)
from training.model.statistics import FittedStatistics, fit_statistics
from training.model.text import TableModel, TextModel, encode_numbers
from training.model.thresholds import choose_low_confidence, choose_threshold, compute_confidence
from training.recipe.table import Recipe, Training

_PRECISION = {32: torch.float32, 64: torch.float64}


@dataclass(frozen=True)
class FittedModel:
    """A fitted predictor, with its training history and thresholds."""

    predictor: TableModel
    histories: list[History]
    """Of networks that were fitted in epochs."""
    threshold: float
    """Of two labels, the second is predicted at or above this probability."""
    unsure_below: float | None = None
    """Predictions with a lower probability are marked unsure; None if that cannot be chosen."""


def fit_model(recipe: Recipe, data: Dataset, training: Rows, validation: Rows) -> FittedModel:
    """Fit preprocessing and networks on the training set.

    The validation set decides when to stop, unless the model is fitted again to all rows, and
    chooses the thresholds; it may be empty.
    """
    stopping = validation[:0] if recipe.split.refit else validation
    predictor, histories = fit_predictor(recipe, data, training, stopping)
    predictions = predictor.predict(data.features[validation])
    thresholds = choose_thresholds(recipe, data.target[validation], predictions)
    return FittedModel(predictor, histories, *thresholds)


def choose_thresholds(
    recipe: Recipe, target: Floats, predictions: Float32s
) -> tuple[float, float | None]:
    """Return the decision threshold, and the probability below which predictions are unsure.

    Args:
        recipe: with the rule of the decision threshold.
        target: ``[rows]``, of rows that the model was not fitted to; may be empty.
        predictions: of these rows, ``[rows, outputs]``.
    """
    threshold = choose_threshold(recipe.target.threshold, target, predictions)
    if not recipe.is_classification:
        return threshold, None
    confidence, correct = compute_confidence(target, predictions, threshold)
    return threshold, choose_low_confidence(confidence, correct)


def fit_predictor(
    recipe: Recipe, data: Dataset, training: Rows, validation: Rows
) -> tuple[TableModel, list[History]]:
    """Fit the model of a recipe; the validation set, which may be empty, decides when to stop."""
    texts, numeric, encoded = encode_numbers(recipe, data, training)
    model, histories = _fit_numbers(numeric, encoded, training, validation)
    return (TextModel(data.columns, texts, model) if texts else model), histories


def _fit_numbers(
    recipe: Recipe, data: Dataset, training: Rows, validation: Rows
) -> tuple[Predictor | Estimator | Blend, list[History]]:
    """Fit a recipe without text."""
    if recipe.members:
        return _fit_members(recipe, data, training, validation)
    return _fit_one(recipe, data, training, validation)


def _fit_members(
    recipe: Recipe, data: Dataset, training: Rows, validation: Rows
) -> tuple[Blend, list[History]]:
    groups: dict[object, list[tuple[Recipe, float]]] = {}
    for k, member in enumerate(recipe.list_member_recipes()):
        key = find_group(member) or k
        groups.setdefault(key, []).append((member, recipe.members[k].weight))
    members: list[Predictor | Estimator] = []
    histories: list[History] = []
    for group in groups.values():
        recipes, weights = [member for member, _ in group], [weight for _, weight in group]
        if find_group(recipes[0]) is None:
            predictor, history = _fit_one(recipes[0], data, training, validation)
            members.append(predictor)
            histories += history
        else:
            (fitted,) = fit_networks_together(recipes, [(data, training, validation)])
            members.append(_mix(fitted, weights))
    totals = np.array([sum(weight for _, weight in group) for group in groups.values()])
    return Blend(members, (totals / totals.sum()).tolist()), histories


def _mix(fitted: Sequence[Predictor], weights: Sequence[float]) -> Predictor:
    """Return the weighted mean of predictors with the same preprocessing and output."""
    first = fitted[0]
    if len(fitted) == 1:
        return first
    networks = Ensemble([one.networks for one in fitted])
    shares = [weight / sum(weights) for weight in weights]
    return MixedPredictor(first.preprocessing, networks, first.head, shares).eval()


def find_group(recipe: Recipe) -> str | None:
    """Return a key that is equal for networks that can be fitted together; None for others."""
    if recipe.training is None:
        return None
    plan = NetworkPlan(recipe.network, recipe.preprocessing, recipe.training)
    key = find_common_keys(plan)
    return None if key is None else f"{key} log={recipe.target.log}"


def fit_networks_together(
    recipes: Sequence[Recipe], folds: Sequence[tuple[Dataset, Rows, Rows]]
) -> list[list[Predictor]]:
    """Fit networks that have the same group to each fold.

    Args:
        recipes: of one group.
        folds: of each, the encoded rows, the training set, and the validation set, which decides
            when to stop; all folds have one, or none has.

    Returns:
        For each fold, the predictor of each recipe.
    """
    plans = [
        NetworkPlan(recipe.network, recipe.preprocessing, recipe.training)
        for recipe in recipes
        if recipe.training is not None
    ]
    first = recipes[0]
    prepared = [_prepare(first, plans[0].training, *fold) for fold in folds]
    shapes = [_describe_shape(one, plans[0].training) for one in prepared]
    if len(set(shapes)) > 1:
        return _fit_by_shape(recipes, folds, shapes)
    networks = fit_together(
        plans,
        [one.training for one in prepared],
        [one.validation for one in prepared if one.validation is not None],
        prepared[0].preprocessing.numbers_width,
        first.output_width,
        select_loss(first),
        [_get_seed(recipe) for recipe in recipes],
    )
    return [
        [one.create_predictor([network]) for network in of_fold]
        for one, of_fold in zip(prepared, networks, strict=True)
    ]


def _fit_by_shape(
    recipes: Sequence[Recipe],
    folds: Sequence[tuple[Dataset, Rows, Rows]],
    shapes: Sequence[tuple[int, int, int]],
) -> list[list[Predictor]]:
    """Fit the folds of each shape together."""
    fitted: dict[int, list[Predictor]] = {}
    for shape in set(shapes):
        alike = [k for k, other in enumerate(shapes) if other == shape]
        of_folds = fit_networks_together(recipes, [folds[k] for k in alike])
        fitted |= dict(zip(alike, of_folds, strict=True))
    return [fitted[k] for k in range(len(folds))]


def _describe_shape(prepared: "_Prepared", plan: Training) -> tuple[int, int, int]:
    """Return what training sets have in common to be fitted together.

    Categories and gaps may only be in some folds, and folds by time have different numbers of rows.
    """
    rows, width = prepared.training.x.shape
    batches = count_batches(rows, plan, nn.Identity())  # such networks are not normalized
    return prepared.preprocessing.numbers_width, width, batches


def _fit_one(
    recipe: Recipe, data: Dataset, training: Rows, validation: Rows
) -> tuple[Predictor | Estimator, list[History]]:
    if recipe.training is None:
        return fit_estimator(recipe, data, training, validation), []
    if recipe.network.seed is not None and find_group(recipe) is not None:
        # It was drawn and measured among others, whose batches it had.
        ((predictor,),) = fit_networks_together([recipe], [(data, training, validation)])
        return predictor, []
    return _fit_networks(recipe, recipe.training, data, training, validation)


@dataclass(frozen=True)
class _Prepared:
    """What networks are fitted to, and how their scores become predictions."""

    preprocessing: Preprocessing
    head: nn.Module
    training: TrainingSet
    validation: TrainingSet | None

    def create_predictor(self, networks: list[nn.Module]) -> Predictor:
        """Return the predictor of fitted networks."""
        predictor = Predictor(self.preprocessing, Ensemble(networks), self.head)
        predictor.float().eval()
        return predictor


def _prepare(
    recipe: Recipe, plan: Training, data: Dataset, training: Rows, validation: Rows
) -> _Prepared:
    dtype = _PRECISION[plan.precision]
    head, scaled_target = _build_head(recipe, data.target, training)
    statistics = _fit_statistics(recipe, data, training, scaled_target)
    preprocessing = fit_preprocessing(
        recipe.preprocessing, data.columns, data.features[training], statistics
    )
    preprocessing.to(dtype)
    row_weights = np.ones(len(scaled_target))
    if plan.class_weight == "balanced" and recipe.is_classification:
        row_weights = compute_sample_weight("balanced", data.target, indices=training)

    def create_examples(rows: Rows, out_of_fold: torch.Tensor | None = None) -> TrainingSet:
        x = preprocessing(torch.from_numpy(data.features[rows]), out_of_fold)
        y, weight = (
            torch.from_numpy(values[rows]).to(dtype) for values in (scaled_target, row_weights)
        )
        return TrainingSet(x, y, weight)

    others = None if statistics is None else torch.from_numpy(statistics.out_of_fold)
    validated = create_examples(validation) if len(validation) else None
    return _Prepared(preprocessing, head, create_examples(training, others), validated)


def _fit_networks(
    recipe: Recipe, plan: Training, data: Dataset, training: Rows, validation: Rows
) -> tuple[Predictor, list[History]]:
    prepared = _prepare(recipe, plan, data, training, validation)
    networks: list[nn.Module] = []
    histories = []
    for member in range(recipe.network.members):
        torch.manual_seed(_get_seed(recipe) + member)
        width = prepared.preprocessing.numbers_width
        network = build(recipe.network, prepared.training.x, width, recipe.output_width)
        rows = prepared.training
        if plan.optimizer == "scikit-learn" and isinstance(network, nn.Linear):
            labels = len(recipe.target.labels)
            solve(network, (rows.x, rows.y, rows.weight), plan.l2, labels)
        else:
            histories.append(fit(network, select_loss(recipe), rows, prepared.validation, plan))
        networks.append(network)
    return prepared.create_predictor(networks), histories


def _get_seed(recipe: Recipe) -> int:
    return recipe.seed if recipe.network.seed is None else recipe.network.seed


def _fit_statistics(
    recipe: Recipe, data: Dataset, training: Rows, target: Floats
) -> FittedStatistics | None:
    """Fit the statistics of the columns with too many categories for one-hot columns."""
    positions = list_large_categories(data.columns)
    if not positions:
        return None
    labels = len(recipe.target.labels)
    rows = data.features[training]
    return fit_statistics(positions, rows, target[training], labels=labels, seed=recipe.seed)


def _build_head(recipe: Recipe, target: Floats, training: Rows) -> tuple[nn.Module, Floats]:
    """Return the last module, and the target in the scale of its inputs."""
    if not recipe.is_classification:
        value = np.log1p(target) if recipe.target.log else target
        scaler = fit_scaler("standard", value[training, np.newaxis])
        scaled = (value - scaler.offset.numpy()) / scaler.scale.numpy()
        return ValueHead(scaler, log=recipe.target.log), scaled
    if recipe.task == "multiclass":
        return nn.Softmax(dim=-1), target
    hard = recipe.family.binary_activation == "hard-sigmoid"
    return (nn.Hardsigmoid() if hard else nn.Sigmoid()), target
