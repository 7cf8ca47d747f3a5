"""What each key of a recipe allows but the whole does not."""

from training.recipe.table import Preparation, Recipe

Checks = list[tuple[bool, str]]
"""Whether something is wrong, and the sentence that says so."""


def contradictions(recipe: Recipe) -> list[str]:
    """What each key allows but the whole does not."""
    checks = _of_the_table(recipe) + _of_the_learning(recipe) + _of_the_family(recipe)
    return [sentence for wrong, sentence in checks if wrong]


def _of_the_table(recipe: Recipe) -> Checks:
    data, target, split = recipe.data, recipe.target, recipe.split
    names = [feature.name for feature in recipe.features]
    numbers = [feature.name for feature in recipe.features if feature.type != "category"]
    turned = [name for pair in recipe.preparation.turned for name in pair]
    return [
        (
            sum(part is not None for part in (data.source, data.file, data.rows)) != 1,
            "data: exactly one of source, file and rows says where the table comes from",
        ),
        (
            data.rows is not None and data.columns is None,
            "data.columns: a table written as rows needs the names of its columns",
        ),
        (
            data.header is True and data.columns is not None,
            "data.columns: a file with a header has names for its columns; leave out one of both",
        ),
        (
            data.thousands == data.decimal,
            f"data.thousands: {data.thousands!r} marks the decimals already",
        ),
        (len(set(names)) != len(names), "features: two features have the same name"),
        (
            not set(turned) <= set(numbers),
            f"preparation.turned: {', '.join(turned)} must be features that are numbers",
        ),
        (target.column in names, f"features: {target.column} is the target, not a feature"),
        (len(target.labels) == 1, "target.labels: a class needs at least two labels"),
        (
            bool(target.values) and len(target.values) != len(target.labels),
            "target.values: there must be as many as labels",
        ),
        (
            target.threshold in ("f1", "youden") and split.validation == 0,
            f"target.threshold: {target.threshold} is chosen on split.validation, which is 0",
        ),
        (bool(target.labels) and target.log, "target.log: a class has no logarithm"),
        (split.test + split.validation >= 1, "split: nothing is left to train on"),
        (split.folds == 1, "split.folds: one fold leaves nothing to train on; use 2 or more"),
        (
            split.interval_folds == 1,
            "split.interval_folds: one fold leaves nothing to train on; use 2 or more",
        ),
        (
            bool(target.labels) and split.interval_folds > 0,
            "split.interval_folds: intervals are for quantities, and this target has labels",
        ),
        (
            (split.test == 0 and split.folds == 0) != split.unmeasured,
            "split: give test rows or folds to measure with, or else say unmeasured = true",
        ),
    ]


def _of_the_learning(recipe: Recipe) -> Checks:
    network, training = recipe.network, recipe.training
    classes = bool(recipe.target.labels)
    loss = training.loss if training else None
    return [
        (
            not classes and network.family in ("logistic", "perceptron"),
            f"network.family: {network.family} predicts classes; give target.labels",
        ),
        (
            classes and network.family == "linear",
            "network.family: linear predicts a quantity; logistic is its sibling for labels",
        ),
        (
            network.family == "mlp" and not network.hidden,
            "network.hidden: an mlp needs the widths of its layers",
        ),
        (
            network.family != "mlp" and network.hidden != [],
            f"network.hidden: {network.family} has no hidden layers",
        ),
        (
            loss is not None and classes != (loss in ("cross-entropy", "hinge", "perceptron")),
            f"training.loss: {loss} does not fit this target",
        ),
        (
            loss in ("hinge", "perceptron") and recipe.task == "multiclass",
            f"training.loss: {loss} needs exactly two labels",
        ),
        (
            training is not None and training.nesterov and training.momentum == 0,
            "training.nesterov: needs momentum",
        ),
    ]


def _of_the_family(recipe: Recipe) -> Checks:
    family = recipe.network.family
    if not recipe.fitted_by_scikit_learn:
        return [(recipe.training is None, "training: this section is required")]
    return [
        (recipe.training is not None, f"training: scikit-learn fits a {family}; leave this out"),
        (
            recipe.preparation != Preparation(),
            f"preparation: a {family} sees the columns as they are; leave this out",
        ),
        (
            any(feature.optional or feature.type == "category" for feature in recipe.features),
            f"features: a {family} takes numbers and truth values, none of them missing",
        ),
        (
            family == "k-means" and not recipe.target.labels,
            "target.labels: k-means looks for as many clusters as there are labels",
        ),
    ]
