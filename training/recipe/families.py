"""Every model family: one table that recipes, drafts, fitting and explanations read.

To add a family, write a row here and its builder: for PyTorch in `training.model.networks`, for
scikit-learn in `training.model.estimators`, for images in `training.images.networks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.bundle.manifest import BINARY

Task = Literal["regression", "binary", "multiclass"]

REGRESSION: frozenset[Task] = frozenset({"regression"})
CLASSIFICATION: frozenset[Task] = frozenset({"binary", "multiclass"})
ALL_TASKS = REGRESSION | CLASSIFICATION


@dataclass(frozen=True)
class TableFamily:
    """What sets a family of table models apart."""

    tasks: frozenset[Task] = ALL_TASKS
    fitter: Literal["PyTorch", "scikit-learn", "its members"] = "PyTorch"
    """What fits the model; only PyTorch needs preprocessing and a training loop."""
    hidden_layers: bool = False
    """Whether the recipe must list the widths of hidden layers; no other family may."""
    all_columns: bool = True
    """Whether it takes categories and missing values; if not, only complete numbers."""
    additive: bool = False
    """Whether the score is a sum over the features, so that each contribution is exact."""
    binary_loss: Literal["cross-entropy", "perceptron"] = "cross-entropy"
    binary_activation: Literal["sigmoid", "hard-sigmoid"] = "sigmoid"
    """What turns the score of the second of two labels into a probability."""
    draft_optimizer: Literal["scikit-learn", "SGD", "AdamW"] | None = None
    """The optimizer of a drafted recipe; None for families without a training loop."""
    drafted: bool = False
    """Whether ``new`` offers the family."""
    candidate: bool = False
    """Whether ``new`` compares the family with others if the user chooses none."""


TABLE_FAMILIES: Mapping[str, TableFamily] = {
    "linear": TableFamily(
        tasks=REGRESSION,
        additive=True,
        draft_optimizer="scikit-learn",
        drafted=True,
        candidate=True,
    ),
    "logistic": TableFamily(
        tasks=CLASSIFICATION,
        additive=True,
        draft_optimizer="scikit-learn",
        drafted=True,
        candidate=True,
    ),
    "perceptron": TableFamily(
        tasks=CLASSIFICATION,
        additive=True,
        binary_loss="perceptron",
        binary_activation="hard-sigmoid",
        draft_optimizer="SGD",
        drafted=True,
    ),
    "gradient-boosting": TableFamily(fitter="scikit-learn", drafted=True, candidate=True),
    "mlp": TableFamily(hidden_layers=True, draft_optimizer="AdamW", drafted=True, candidate=True),
    "decision-tree": TableFamily(fitter="scikit-learn", all_columns=False),
    "k-means": TableFamily(tasks=CLASSIFICATION, fitter="scikit-learn", all_columns=False),
    "ensemble": TableFamily(fitter="its members"),
}

IMAGE_FAMILIES: Mapping[str, str] = {"layers": "layers", "residual": "widths"}
"""Families of image models, each with the key of the network section that lists its layers."""


def output_width(labels: int) -> int:
    """Return the outputs of a model: one per label; for two labels or a value, one."""
    return labels if labels > BINARY else 1


def list_draft_families() -> list[str]:
    """Return the families that a drafted recipe can have."""
    return [name for name, family in TABLE_FAMILIES.items() if family.drafted]


def list_candidates(task: Task) -> list[str]:
    """Return the families that ``new`` compares for a task, the fastest first."""
    return [
        name for name, family in TABLE_FAMILIES.items() if family.candidate and task in family.tasks
    ]


def require_family(families: Mapping[str, object], name: str) -> str:
    """Return the name if it is in the table of families.

    Raise `ValueError` if the table has no such family.
    """
    if name not in families:
        raise ValueError(f"choose from {', '.join(families)}")
    return name
