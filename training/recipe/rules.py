"""The rules between keys of a recipe that are each valid."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

from training.recipe.dates import find_date_mistakes
from training.recipe.table import Boosting, Preprocessing, Recipe

Rules = Sequence[Callable[[Recipe], str | bool]]
"""Rules between keys; each returns its problem, or False."""


def list_cross_field_problems(recipe: Recipe, *, is_partial: bool = False) -> list[str]:
    """List problems between keys that are each valid.

    A rule that depends on an invalid key, which a partial recipe lacks, finds no problem.
    """
    problems = []
    for rule in _RULES:
        with suppress(AttributeError) if is_partial else nullcontext():
            problems += [str(problem)] if (problem := rule(recipe)) else []
    return problems


def _numbers(recipe: Recipe) -> set[str]:
    return {f.name for f in recipe.features if f.type not in ("category", "datetime")}


def _rotated(recipe: Recipe) -> list[str]:
    return [name for pair in recipe.preprocessing.rotated for name in pair]


def _loss(recipe: Recipe) -> str | None:
    return recipe.training.loss if recipe.training else None


def _is_convex(recipe: Recipe) -> bool:
    """Return whether the loss is convex in the weights, and smooth."""
    is_linear = recipe.network.family in ("linear", "logistic")
    has_penalty = recipe.training is not None and recipe.training.l1 > 0
    return is_linear and not has_penalty and _loss(recipe) in (None, "mse", "cross-entropy")


def _has_training_loop(recipe: Recipe) -> bool:
    return recipe.family.fitter == "PyTorch"


def _select_supported(recipe: Recipe) -> Preprocessing:
    """Return the preprocessing that a family without a training loop supports."""
    is_boosted = recipe.network.family == "gradient-boosting"
    return Preprocessing(rotated=recipe.preprocessing.rotated if is_boosted else [])


def _describe_members(recipe: Recipe) -> str:
    """Return the problems of the members of an ensemble."""
    return "; ".join(
        f"members.{k}.{problem}"
        for k, member in enumerate(recipe.list_member_recipes())
        for problem in list_cross_field_problems(member)
    )


def _missing_categories(recipe: Recipe) -> list[str]:
    return [
        f"{word!r} of {feature.name!r}"
        for feature in recipe.features
        for word in feature.categories
        if word in (*recipe.data.missing, *feature.missing)
    ]


def _limited_texts(recipe: Recipe) -> list[str]:
    return [
        feature.name
        for feature in recipe.features
        if feature.type == "text"
        and (feature.categories or not (feature.minimum is feature.maximum is None))
    ]


def _missing_labels(recipe: Recipe) -> list[str]:
    target = recipe.target
    words = {*recipe.data.missing, *target.missing}
    return [repr(word) for word in target.values or target.labels if word in words]


_RULES: Rules = [
    lambda r: (
        sum(part is not None for part in (r.data.source, r.data.file, r.data.rows)) != 1
        and "data: set exactly one of source, file and rows"
    ),
    lambda r: (
        r.data.rows is not None
        and r.data.columns is None
        and "data.columns: required for a table in data.rows"
    ),
    lambda r: (
        r.data.header is True
        and r.data.columns is not None
        and "data.columns: a file with a header already names its columns; remove one of the two"
    ),
    lambda r: (
        r.data.thousands == r.data.decimal
        and f"data.thousands: {r.data.thousands!r} is the decimal mark"
    ),
    lambda r: (
        len({feature.name for feature in r.features}) != len(r.features)
        and "features: two features have the same name"
    ),
    lambda r: (
        not set(_rotated(r)) <= _numbers(r)
        and f"preprocessing.rotated: {', '.join(_rotated(r))} must be features that are numbers"
    ),
    lambda r: find_date_mistakes(r) != [] and f"features: {'; '.join(find_date_mistakes(r))}",
    lambda r: (
        _limited_texts(r) != []
        and f"features: {', '.join(_limited_texts(r))} has text, and only other types have a "
        "minimum, a maximum or categories"
    ),
    lambda r: (
        r.target.column in [feature.name for feature in r.features]
        and f"features: {r.target.column} is the target, not a feature"
    ),
    lambda r: (
        _missing_categories(r) != []
        and f"features: {', '.join(_missing_categories(r))} is a missing value, not a category; "
        "list the missing values without it in data.missing"
    ),
    lambda r: (
        _missing_labels(r) != []
        and f"target: {', '.join(_missing_labels(r))} is a missing value, not a label; "
        "list the missing values without it in data.missing"
    ),
    lambda r: len(r.target.labels) == 1 and "target.labels: a class needs at least two labels",
    lambda r: (
        len(r.target.values) not in (0, len(r.target.labels))
        and "target.values: must have the same length as labels"
    ),
    lambda r: (
        r.target.threshold in ("f1", "youden")
        and r.split.validation == 0
        and (r.split.test > 0 or r.split.folds == 0)
        and f"target.threshold: {r.target.threshold} is chosen on split.validation, which is 0, or "
        "on the folds of a recipe without a test set"
    ),
    lambda r: bool(r.target.labels) and r.target.log and "target.log: a class has no logarithm",
    lambda r: r.split.test + r.split.validation >= 1 and "split: nothing is left to train on",
    lambda r: (
        r.split.folds == 1 and "split.folds: one fold leaves nothing to train on; use 2 or more"
    ),
    lambda r: (
        r.split.refit
        and r.split.test == 0
        and "split.refit: without a test set, the model is already fitted to all rows; remove it"
    ),
    lambda r: (
        r.split.interval_folds == 1
        and "split.interval_folds: one fold leaves nothing to train on; use 2 or more"
    ),
    lambda r: (
        bool(r.target.labels)
        and r.split.interval_folds > 0
        and "split.interval_folds: intervals are for regression, but this target has labels"
    ),
    lambda r: (
        (r.split.test == 0 and r.split.folds == 0) != r.split.unmeasured
        and "split: set test or folds to measure the model, or set unmeasured = true"
    ),
    lambda r: r.split.find_key_problem(r.target.column) or False,
    lambda r: (
        not r.target.labels
        and "regression" not in r.family.tasks
        and f"network.family: {r.network.family} predicts classes; give target.labels"
    ),
    lambda r: (
        bool(r.target.labels)
        and r.task not in r.family.tasks
        and f"network.family: {r.network.family} predicts a number; for labels use logistic or mlp"
    ),
    lambda r: (
        r.family.hidden_layers
        and not r.network.hidden_layer_sizes
        and f"network.hidden_layer_sizes: {r.network.family} needs the sizes of its layers"
    ),
    lambda r: (
        not r.family.hidden_layers
        and r.network.hidden_layer_sizes != []
        and f"network.hidden_layer_sizes: {r.network.family} has no hidden layers"
    ),
    lambda r: (
        _loss(r) is not None
        and bool(r.target.labels) != (_loss(r) in ("cross-entropy", "hinge", "perceptron"))
        and f"training.loss: {_loss(r)} does not fit this target"
    ),
    lambda r: (
        _loss(r) in ("hinge", "perceptron")
        and r.task == "multiclass"
        and f"training.loss: {_loss(r)} needs exactly two labels"
    ),
    lambda r: (
        r.training is not None
        and r.training.nesterov
        and r.training.momentum == 0
        and "training.nesterov: needs momentum"
    ),
    lambda r: (
        r.training is not None
        and r.training.optimizer == "scikit-learn"
        and not _is_convex(r)
        and "training.optimizer: scikit-learn only fits the families linear and logistic, with "
        "their default loss and without l1; choose another"
    ),
    lambda r: _has_training_loop(r) and r.training is None and "training: this section is required",
    lambda r: (
        not _has_training_loop(r)
        and r.training is not None
        and f"training: {r.family.fitter} fits the family {r.network.family}; remove this section"
    ),
    lambda r: (
        not _has_training_loop(r)
        and r.preprocessing != _select_supported(r)
        and f"preprocessing: the family {r.network.family} uses raw columns; remove this section"
    ),
    lambda r: (
        not r.family.all_columns
        and any(one.optional or one.type in ("category", "datetime", "text") for one in r.features)
        and f"features: a {r.network.family} only supports numbers and booleans without missing "
        "values"
    ),
    lambda r: (
        r.network.family in ("decision-tree", "k-means", "ensemble")
        and r.target.log
        and f"target.log: the family {r.network.family} is fitted to the target itself; remove it"
    ),
    lambda r: (
        r.network.family != "gradient-boosting"
        and r.boosting != Boosting()
        and f"boosting: the family {r.network.family} has no trees to boost; remove this section"
    ),
    lambda r: (
        (r.network.family == "ensemble") != bool(r.members)
        and "members: an ensemble needs members, and other families have none"
    ),
    lambda r: (
        any(member.network.family == "ensemble" for member in r.members)
        and "members: an ensemble is no member of another"
    ),
    _describe_members,
]
