"""Measure the service, the floor, naive FastAPI and peers, and write ``RESULTS.md``.

``python -m bench guard`` compares a short run with the last stored one; the floor is an empty ASGI
application.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.comparison import Comparison, Plan
from bench.guard import losses
from bench.page import replace_section
from bench.plot import draw
from bench.processes import have_tools
from bench.results import Results, read_results, write_results
from bench.servers import NAMES, OURSELVES, select_servers
from bench.serving import lines
from bench.workloads import make_models, workloads

_CONNECTIONS = (32, 1, 256)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 2 if wrk is missing, 1 if a request became slower."""
    options = _parser().parse_args(arguments)
    if not have_tools("wrk"):
        return 2
    if options.what == "guard":
        return _guard(options)
    results = _run(options, options.only)
    section = "\n".join(lines(results))
    if options.dry:
        sys.stdout.write(section + "\n")
        return 0
    write_results(results)
    draw(results)
    sys.stdout.write(replace_section("Serving", [section]))
    return 0


def _guard(options: argparse.Namespace) -> int:
    """Measure our service briefly; return 1 if a share of the floor has fallen."""
    options.connections = options.connections[:1]
    lost = [*losses(read_results(), _run(options, (OURSELVES,)), options.tolerance)]
    sys.stdout.write("".join(f"{line}\n" for line in lost or ["No request became slower."]))
    return 1 if lost else 0


def _run(options: argparse.Namespace, names: Sequence[str]) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        make_models(models)
        plan = Plan(options.rounds, options.seconds, options.connections, options.cache.resolve())
        return Comparison(workloads(models), plan).run(select_servers(names, models))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", default="compare", choices=("compare", "guard"))
    parser.add_argument(
        "--only", type=_names, default=NAMES, help="names of servers: ours,naive,kserve"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of each request in each round")
    parser.add_argument(
        "--connections",
        type=_numbers,
        default=_CONNECTIONS,
        help="numbers: the first is measured in every round, the others in the first round",
    )
    parser.add_argument(
        "--dry", action="store_true", help="print the results instead of writing them"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        help="of the guard: the largest relative loss of a share",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("BENCH_CACHE", ".bench")),
        help="the folder of the peers' environments (setting BENCH_CACHE)",
    )
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(NAMES)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(NAMES)}")
    return names


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
