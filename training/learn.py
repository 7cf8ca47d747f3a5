"""Fit a recipe's model to the training set and choose its thresholds on the validation set."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from training.data.table import Dataset, Floats, Rows
from training.fit import History, TrainingSet, fit
from training.model.blend import Blend
from training.model.estimators import Estimator, fit_estimator
from training.model.losses import select_loss
from training.model.networks import Ensemble, Predictor, ValueHead, build
from training.model.preprocessing import fit_preprocessing, fit_scaler
from training.model.text import TableModel, TextModel, find_texts, fit_texts
from training.model.thresholds import choose_low_confidence, choose_threshold, compute_confidence
from training.recipe.table import Recipe, Training

_PRECISION = {32: torch.float32, 64: torch.float64}


@dataclass(frozen=True)
class FittedModel:
    """A fitted predictor, with its training history and thresholds."""

    predictor: TableModel
    histories: list[History]
    threshold: float
    """Of two labels, the second is predicted at or above this probability."""
    unsure_below: float | None = None
    """Predictions with a lower probability are marked unsure; None if that cannot be chosen."""


def fit_model(recipe: Recipe, data: Dataset, training: Rows, validation: Rows) -> FittedModel:
    """Fit preprocessing and networks on the training set.

    The validation set decides when to stop, the decision threshold, and below which probability a
    prediction is unsure; it may be empty.
    """
    predictor: TableModel
    if find_texts(data.columns):
        texts, numeric, encoded = fit_texts(recipe, data, training)
        model, histories = _fit_numbers(numeric, encoded, training, validation)
        predictor = TextModel(data.columns, texts, model)
    else:
        predictor, histories = _fit_numbers(recipe, data, training, validation)
    predictions = predictor.predict(data.features[validation])
    threshold = choose_threshold(recipe.target.threshold, data.target[validation], predictions)
    unsure = None
    if recipe.is_classification:
        unsure = choose_low_confidence(
            *compute_confidence(data.target[validation], predictions, threshold)
        )
    return FittedModel(predictor, histories, threshold, unsure)


def _fit_numbers(
    recipe: Recipe, data: Dataset, training: Rows, validation: Rows
) -> tuple[Predictor | Estimator | Blend, list[History]]:
    """Fit a recipe without text."""
    if recipe.members:
        return _fit_members(recipe, data, training, validation)
    return _fit_predictor(recipe, data, training, validation)


def _fit_members(
    recipe: Recipe, data: Dataset, training: Rows, validation: Rows
) -> tuple[Blend, list[History]]:
    members, histories = [], []
    for member in recipe.list_member_recipes():
        predictor, history = _fit_predictor(member, data, training, validation)
        members.append(predictor)
        histories += history
    weights = np.array([member.weight for member in recipe.members])
    return Blend(members, (weights / weights.sum()).tolist()), histories


def _fit_predictor(
    recipe: Recipe, data: Dataset, training: Rows, validation: Rows
) -> tuple[Predictor | Estimator, list[History]]:
    if recipe.training is None:
        return fit_estimator(recipe, data, training, validation), []
    return _fit_networks(recipe, recipe.training, data, training, validation)


def _fit_networks(
    recipe: Recipe, plan: Training, data: Dataset, training: Rows, validation: Rows
) -> tuple[Predictor, list[History]]:
    dtype = _PRECISION[plan.precision]
    preprocessing = fit_preprocessing(recipe.preprocessing, data.columns, data.features[training])
    preprocessing.to(dtype)
    head, scaled_target = _build_head(recipe, data.target, training)
    row_weights = np.ones(len(scaled_target))
    if plan.class_weight == "balanced" and recipe.is_classification:
        row_weights = compute_sample_weight("balanced", data.target, indices=training)

    def create_examples(rows: Rows) -> TrainingSet:
        x = preprocessing(torch.from_numpy(data.features[rows]))
        y, weight = (
            torch.from_numpy(values[rows]).to(dtype) for values in (scaled_target, row_weights)
        )
        return TrainingSet(x, y, weight)

    training_examples = create_examples(training)
    validation_examples = create_examples(validation) if len(validation) else None
    networks: list[nn.Module] = []
    histories = []
    for member in range(recipe.network.members):
        torch.manual_seed(recipe.seed + member)
        network = build(
            recipe.network, training_examples.x, preprocessing.numbers_width, recipe.output_width
        )
        histories.append(
            fit(network, select_loss(recipe), training_examples, validation_examples, plan)
        )
        networks.append(network)
    predictor = Predictor(preprocessing, Ensemble(networks), head)
    predictor.float().eval()
    return predictor, histories


def _build_head(recipe: Recipe, target: Floats, training: Rows) -> tuple[nn.Module, Floats]:
    """Return the last module, and the target in the scale of its inputs."""
    if not recipe.is_classification:
        value = np.log1p(target) if recipe.target.log else target
        scaler = fit_scaler("standard", value[training, np.newaxis])
        scaled = (value - scaler.offset.numpy()) / scaler.scale.numpy()
        return ValueHead(scaler, log=recipe.target.log), scaled
    if recipe.task == "multiclass":
        return nn.Softmax(dim=1), target
    hard = recipe.family.binary_activation == "hard-sigmoid"
    return (nn.Hardsigmoid() if hard else nn.Sigmoid()), target
