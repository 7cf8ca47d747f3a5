"""Generated graphs are served as what they are, or rejected with a sentence."""

from pathlib import Path

import pytest

from bench.imports.check import Imported, find_failure, import_case
from tests.conftest import Serve

# `python -m bench.imports graphs` compares thousands; each share runs in a worker of its own.
_SHARES = 2
_GRAPHS = 30


@pytest.mark.parametrize("share", range(_SHARES))
def test_generated_graphs_are_equal_or_rejected_with_a_sentence(share: int, serve: Serve) -> None:
    """Class names, orders, ties, types, gaps and words vary; no response differs from the graph."""
    imported: list[Imported] = []

    def publish(models: Path) -> None:
        seeds = range(share * _GRAPHS, (share + 1) * _GRAPHS)
        imported.extend(import_case(seed, models) for seed in seeds)

    client = serve(publish)
    failures = [found for one in imported if (found := find_failure(one, client))]

    assert not failures, "\n".join(map(str, failures))
    assert sum(one.published for one in imported) > _GRAPHS / 2
