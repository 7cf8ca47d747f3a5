"""Search the hyperparameters of a recipe, on the folds that also compare model families."""

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import optuna
from pydantic import JsonValue

from training.candidates import Candidate, get_metric, measure, split
from training.data.rows import LoadedRows
from training.errors import DataError, FitError, RecipeError
from training.recipe.loader import read_any
from training.recipe.table import Recipe

# The metrics of other keys could not be compared: their rows or targets differ.
SECTIONS = ("network", "preprocessing", "training", "boosting")
SEARCH_EXAMPLE = (
    "For example: training.learning_rate=1e-4..1e-1 network.dropout=0..0.5 "
    "'network.activation=relu|gelu'"
)
_DECADE = 10
_DIGITS = 3


@dataclass(frozen=True)
class Range:
    """The numbers between two bounds, which belong to it."""

    key: str
    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        """Whether the logarithm is uniform: the bounds are positive and span a decade."""
        return self.low > 0 and self.low * _DECADE <= self.high

    @property
    def bounds(self) -> list[JsonValue]:
        """Values that must be valid."""
        return [int(self.low), int(self.high)] if self.whole else [self.low, self.high]

    def suggest(self, trial: optuna.Trial) -> JsonValue:
        """Return the value of a trial; fractions have three significant digits."""
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        found = trial.suggest_float(self.key, self.low, self.high, log=self.log)
        return min(max(float(f"{found:.{_DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """Several values."""

    key: str
    values: Sequence[JsonValue]

    @property
    def bounds(self) -> Sequence[JsonValue]:
        """Values that must be valid."""
        return self.values

    def suggest(self, trial: optuna.Trial) -> JsonValue:
        """Return the value of a trial."""
        return self.values[trial.suggest_categorical(self.key, range(len(self.values)))]


@dataclass(frozen=True)
class Trial:
    """A measured combination of values."""

    values: Mapping[str, JsonValue]
    candidate: Candidate

    @property
    def overrides(self) -> list[str]:
        """The values as ``key=value``."""
        return list_overrides(self.values)


def is_searched(word: str) -> bool:
    """Return whether an override has a range or choices instead of a value."""
    text = word.partition("=")[2]
    return not isinstance(_parse_value(text), int | float | list | dict | bool) and (
        ".." in text or "|" in text
    )


def parse_space(words: Sequence[str], recipe: Recipe) -> list[Range | Choice]:
    """Return the values to search, written as ``key=low..high`` or ``key=a|b|c``.

    A range has whole numbers if the key has one in the recipe or, for a key without a value, if
    both bounds are whole.

    Raises:
        DataError: one is not written so, or its key is no hyperparameter.
    """
    return [_parse(word, recipe) for word in words]


def _parse(word: str, recipe: Recipe) -> Range | Choice:
    key, _, text = word.partition("=")
    if key.split(".")[0] not in SECTIONS and key != "target.log":
        raise DataError(
            f"{word}: only keys of {', '.join(SECTIONS)} and target.log can be searched, since "
            "other keys change what is measured. Change them with `onward train`."
        )
    if "|" in text:
        return Choice(key, [_parse_value(one) for one in text.split("|")])
    bounds = [_parse_value(one) for one in text.split("..")]
    numbers = [one for one in bounds if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != len(bounds) or len(numbers) != 2 or not numbers[0] < numbers[1]:  # noqa: PLR2004 - two bounds
        raise DataError(
            f"{word}: write key=low..high, the lower bound first, or key=a|b|c. {SEARCH_EXAMPLE}"
        )
    low, high = numbers
    whole = isinstance(low, int) and isinstance(high, int) and not _is_fraction(recipe, key)
    return Range(key, low, high, whole)


def _parse_value(text: str) -> JsonValue:
    """Return a value of TOML; other text is a word, as in overrides."""
    try:
        value: JsonValue = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value


def _is_fraction(recipe: Recipe, key: str) -> bool:
    """Return whether the recipe has a fraction for the key."""
    value: object = recipe.model_dump()
    for step in key.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return isinstance(value, float)


def list_overrides(values: Mapping[str, JsonValue]) -> list[str]:
    """Return values as ``key=value``, which `onward train` reads."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


class Search:
    """A search of one recipe; trials are added by `run`."""

    def __init__(
        self, name: str, fixed: Sequence[str], words: Sequence[str], loaded: LoadedRows
    ) -> None:
        """Check that every bound and choice makes a valid recipe.

        Args:
            name: of a shipped recipe, or the path of a ``.toml`` file.
            fixed: overrides of all trials.
            words: the values to search, as `parse_space` reads them.
            loaded: the rows of the recipe.

        Raises:
            RecipeError: a bound or choice is not valid.
            DataError: there are too few rows, or a word is not valid.
        """
        self._name, self._fixed = name, list(fixed)
        recipe = self._read({})
        self._space = parse_space(words, recipe)
        if recipe.split.unmeasured:
            raise DataError("split.unmeasured: no rows are held out, so trials cannot be compared.")
        for parameter in self._space:
            for value in parameter.bounds:
                self._read({parameter.key: value})
        self._folds = split(recipe, loaded)
        self.metric = get_metric(recipe)
        self.given = Trial({}, measure(recipe, self._folds))
        self.trials: list[Trial] = []

    @property
    def best(self) -> Trial:
        """The trial with the lowest loss; the recipe as given, if none is better."""
        return min([self.given, *self.trials], key=lambda trial: trial.candidate.loss)

    @property
    def folds(self) -> int:
        """The number of folds that every trial is measured on."""
        return len(self._folds.pairs)

    def run(self, trials: int, seconds: float, report: Callable[[str], None]) -> None:
        """Measure trials until there are enough, or no time is left for another one.

        The tree-structured Parzen estimator (Bergstra et al., 2011) suggests values, from the
        recipe's seed. ``report`` is called with a line for each trial; one whose values exclude
        each other, or whose fit diverges, has the reason.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.given.candidate.recipe.seed)
        study = optuna.create_study(sampler=sampler)
        end = perf_counter() + seconds
        for number in range(1, trials + 1):
            if perf_counter() > end:
                break
            trial = study.ask()
            values = {parameter.key: parameter.suggest(trial) for parameter in self._space}
            written = "  ".join(list_overrides(values))
            try:
                recipe = self._read(values)
                found = Trial(values, measure(recipe, self._folds))
            except (RecipeError, FitError) as error:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                report(f"{number:>5}  {'failed':<24} {written}: {' '.join(str(error).split())}")
            else:
                self.trials.append(found)
                loss = found.candidate.loss
                study.tell(trial, loss if math.isfinite(loss) else math.inf)
                report(f"{number:>5}  {describe_trial(found)} {written}")

    def _read(self, values: Mapping[str, JsonValue]) -> Recipe:
        recipe = read_any(self._name, [*self._fixed, *list_overrides(values)])
        assert isinstance(recipe, Recipe)  # noqa: S101 - no searched key makes it one for images
        return recipe


def describe_trial(trial: Trial) -> str:
    """Return the mean and deviation of the loss over the folds, and the seconds of a trial."""
    candidate = trial.candidate
    spread = f" ± {np.std(candidate.losses):.3g}" if len(candidate.losses) > 1 else ""
    return f"{f'{candidate.loss:.4g}{spread}':<17} {candidate.seconds:>5.1f} s"
