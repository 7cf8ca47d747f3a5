"""Which output of someone else's graph is its answer, found from what it gives for some rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from training.data.table import Float32s
from training.errors import ImportRefused
from training.export.runtime import Array

_NEAR_ONE = 1e-3


@dataclass(frozen=True)
class Reply:
    """One output and how it becomes the contract's answer."""

    output: str
    form: Literal["value", "probability", "probabilities", "label"]
    labels: list[str] = field(default_factory=list)
    classes: list[str] | list[int] = field(default_factory=list)
    """What the graph itself calls each label, where its answer is a label."""

    @property
    def width(self) -> int:
        """Columns of the contract's answer."""
        return len(self.labels) if len(self.labels) > 2 else 1  # noqa: PLR2004 - two need one

    @property
    def remark(self) -> str:
        """What a reader of the probabilities must know."""
        if self.form != "label":
            return ""
        return "The model answers a label alone, so its probabilities are one and nought."

    def of(self, outputs: Mapping[str, Array]) -> Float32s:
        """The contract's answer, ``[rows, width]``, from the graph's own outputs."""
        found = outputs[self.output]
        if self.form == "label":
            found = found.reshape(-1, 1) == np.array(self.classes, dtype=found.dtype)
        if self.form in ("label", "probabilities") and self.width == 1:
            found = found[:, 1:]
        found = found.reshape(len(found), self.width).astype(np.float32)
        return found.clip(0, 1) if self.form in ("probability", "probabilities") else found


def find_reply(
    outputs: Mapping[str, Array], classes: list[str] | list[int] | None, labels: Sequence[str]
) -> Reply:
    """Decide which output to publish: probabilities before labels before a value.

    A label that comes with scores that are no probabilities, such as the distances of k-means,
    is taken alone: a softmax of them would be a certainty that nobody measured.

    Args:
        outputs: what the graph gives for some rows.
        classes: what the graph calls its classes, where it says so.
        labels: what the user calls them; none means a quantity, or the graph's own names.

    Raises:
        ImportRefused: no output, or more than one, can be the answer.
    """
    for name, array in outputs.items():
        if _are_probabilities(array):
            return Reply(name, "probabilities", _named(labels, classes, array.shape[1]))
    for name, array in outputs.items():
        if array.dtype.kind in "iUOb" and array.size == len(array):
            return _label(name, array, classes, labels)
    single = {name: a for name, a in outputs.items() if a.dtype.kind == "f" and a.size == len(a)}
    if len(single) != 1:
        raise ImportRefused(
            f"none of its outputs is one answer for each row: {_described(outputs)}. Give it one "
            "output: a number, a label, or probabilities that sum to one."
        )
    name, array = next(iter(single.items()))
    if not labels:
        return Reply(name, "value")
    if len(labels) == 2 and ((array >= 0) & (array <= 1)).all():  # noqa: PLR2004 - one probability
        return Reply(name, "probability", list(labels))
    raise ImportRefused(
        f"its output {name!r} is one number between {array.min():.4g} and {array.max():.4g}, which "
        f"is no probability of {len(labels)} labels. Put the sigmoid or softmax into the graph, or "
        "leave out the labels if it answers a quantity."
    )


def _label(
    name: str, array: Array, classes: list[str] | list[int] | None, labels: Sequence[str]
) -> Reply:
    if classes is None and not labels:
        raise ImportRefused(
            f"its output {name!r} is a label, but the graph does not list the labels. Name all of "
            "them with --labels, in the order of their numbers."
        )
    if classes is None:
        classes = list(labels) if array.dtype.kind in "UO" else list(range(len(labels)))
    strange = sorted(set(array.ravel().tolist()) - set(classes))
    if strange:
        raise ImportRefused(
            f"it answers {strange[0]!r}, which is none of its classes "
            f"({', '.join(map(str, classes))}). Name all of them with --labels."
        )
    return Reply(name, "label", _named(labels, classes, len(classes)), classes)


def _named(labels: Sequence[str], classes: list[str] | list[int] | None, count: int) -> list[str]:
    named = list(labels) or [str(name) for name in classes or range(count)]
    if len(named) != count:
        raise ImportRefused(
            f"it tells {count} classes apart, but {len(named)} labels are named: "
            f"{', '.join(named)}. Name {count} with --labels, in the graph's order"
            + (f" ({', '.join(map(str, classes))})." if classes else ".")
        )
    return named


def _are_probabilities(array: Array) -> bool:
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] < 2:  # noqa: PLR2004 - columns
        return False
    sums = array.sum(axis=1, dtype=np.float64)
    return bool((np.abs(sums - 1) <= _NEAR_ONE).all() and (array >= 0).all())


def _described(outputs: Mapping[str, Array]) -> str:
    return ", ".join(
        f"{name!r} {array.dtype} {list(array.shape)}" for name, array in outputs.items()
    )
