"""Import models and compare what is served with the originals: ``python -m bench.imports graphs``.

``graphs`` imports generated graphs: ``--seed`` is the first, ``--count`` how many. ``matrix``
trains thirty estimators of other libraries, imports each by the documented command, and compares
every protocol with the library.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

from bench.imports.check import Failure, find_failure, import_case
from bench.imports.estimators import Estimator, list_estimators
from bench.imports.matrix import Result, compare_estimator, import_estimator, write_table
from tests.processes import served

_PART = 200
_PATIENCE_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one comparison; the exit code is 1 if a model was served differently."""
    parser = argparse.ArgumentParser(prog="python -m bench.imports", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("graphs", help="generated graphs")
    verb.add_argument("--seed", type=int, default=0, help="of the first graph")
    verb.add_argument("--count", type=int, default=5000)
    verb.set_defaults(command=lambda options: run_graphs(options.seed, options.count))
    verb = verbs.add_parser("matrix", help="estimators of other libraries")
    verb.add_argument("--only", default="", help="a part of the names of estimators")
    verb.add_argument("--dry", action="store_true", help="print the table, do not write it")
    verb.set_defaults(command=lambda options: run_matrix(options.only, dry=options.dry))
    options = parser.parse_args(arguments)
    failed: bool = options.command(options)
    return int(failed)


def run_graphs(seed: int, count: int) -> bool:
    """Import and compare graphs in parts; return whether any failed."""
    totals: Counter[str] = Counter()
    failures: list[Failure] = []
    for start in range(seed, seed + count, _PART):
        seeds = range(start, min(start + _PART, seed + count))
        found = check_part(seeds, totals)
        failures += found
        for failure in found:
            _write(str(failure))
    _write(
        f"{count} graphs: {totals['published']} published, {totals['rejected']} rejected with a "
        f"sentence, {len(failures)} failed."
    )
    for message, times in totals.most_common():
        if message not in ("published", "rejected"):
            _write(f"  {times:>5} {message}")
    return bool(failures)


def check_part(seeds: Sequence[int], totals: Counter[str]) -> list[Failure]:
    """Import the graphs of some seeds, serve all, and compare each; count the results."""
    with tempfile.TemporaryDirectory() as name:
        models = Path(name)
        imported = []
        for seed in seeds:
            try:
                imported.append(import_case(seed, models))
            except Exception as error:  # noqa: BLE001 - any exception is a failure of the import
                _write(f"seed {seed}: {type(error).__name__}: {error}")
                totals["raised an exception"] += 1
        with (
            served("--models", str(models)) as service,
            httpx.Client(base_url=service.address, timeout=_PATIENCE_SECONDS) as client,
        ):
            failures = [find_failure(one, client) for one in imported]
    for one in imported:
        totals["published" if one.published else "rejected"] += 1
        if not one.published:
            totals[_shorten(one.message)] += 1
    return [failure for failure in failures if failure is not None]


def run_matrix(only: str, *, dry: bool) -> bool:
    """Compare estimators with their libraries; return whether any label differs."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        models = Path(name)
        imported: list[tuple[int, Estimator]] = []
        for position, create in enumerate(list_estimators()):
            estimator = create()
            if only.lower() not in f"{estimator.library} {estimator.name}".lower():
                continue
            message = import_estimator(position, estimator, models)
            _write(f"{estimator.library} {estimator.name}: {message or 'imported'}")
            if message:
                results.append(Result(estimator.name, estimator.library, message))
            else:
                imported.append((position, estimator))
        with (
            served("--models", str(models)) as service,
            httpx.Client(base_url=service.address, timeout=_PATIENCE_SECONDS) as client,
        ):
            for position, estimator in imported:
                try:
                    result = compare_estimator(position, estimator, client)
                except RuntimeError as error:
                    result = Result(estimator.name, estimator.library, str(error))
                _write(str(result))
                results.append(result)
    if not dry:
        write_table(sorted(results, key=lambda one: one.library.lower()))
    return any(one.problem or one.differing for one in results)


def _shorten(message: str) -> str:
    """Return the kind of a message, without names and numbers."""
    _, _, text = message.partition(" cannot be imported: ")
    return "".join("#" if letter.isdigit() else letter for letter in (text or message))[:110]


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
