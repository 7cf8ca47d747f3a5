"""Metrics of several workers: added up, and without the dead."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = (
    "from pathlib import Path\n"
    "from service.counting import Phases\n"
    "from service.metrics import Metrics\n"
    "from service.shared_metrics import count_in_files, workers_folder\n"
    "from service.workers.slots import claim\n"
    "slot = claim(workers_folder())\n"
    "count_in_files(slot.number)\n"
    "metrics = Metrics()\n"
    "metrics.predicted('m', '1', 'plain', 3, Phases(0, 0, 0, 0))\n"
    "metrics.responded(200)\n"
    "metrics.keep_if_shared()\n"
    "{die}\n"
    "metrics.model_state('m', '1', 'cpu', 'READY' if {ready} else 'LOADING')\n"
    "print(metrics.exposition().decode())\n"
)


def worker(folder: Path, *, ready: bool, die: str = "") -> str:
    """One worker's life; gives the metrics that it exposed last."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(ready=ready, die=die)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=not die,
    ).stdout


def test_a_dead_workers_counts_stay_and_its_state_goes(tmp_path: Path) -> None:
    """The next worker tells the rows of both, and its own readiness alone."""
    worker(tmp_path, ready=False)

    text = worker(tmp_path, ready=True)

    assert 'onward_rows_total{model="m",version="1"} 6.0' in text
    assert 'onward_model_ready{device="cpu",model="m",version="1"} 1.0' in text


def test_what_a_killed_worker_had_not_settled_is_told_by_the_next(tmp_path: Path) -> None:
    """Once, however many follow."""
    die = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    for _ in range(2):
        assert worker(tmp_path, ready=True, die=die) == ""

    texts = [worker(tmp_path, ready=True) for _ in range(2)]

    for text, lives in zip(texts, (3, 4), strict=True):
        assert f'onward_rows_total{{model="m",version="1"}} {3.0 * lives}' in text
        assert f'onward_responses_total{{status="200"}} {1.0 * lives}' in text
        assert (
            f'onward_phase_seconds_count{{model="m",phase="decode",version="1"}} {1.0 * lives}'
        ) in text
