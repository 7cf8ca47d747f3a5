"""Print to the terminal: lines on standard output, progress on standard error."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def print_line(text: str) -> None:
    """Print a line; the command continues if nobody reads it, as with ``| head``."""
    with _closed_output():
        print(text)  # noqa: T201 - the output of the command line


def flush_lines() -> None:
    """Write the lines that are printed; those that nobody reads are dropped."""
    with _closed_output():
        sys.stdout.flush()


def write_any_letters() -> None:
    """Print letters that the terminal's encoding lacks as escape sequences."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def _closed_output() -> Iterator[None]:
    """Discard what is printed from now on if the reader of standard output has closed it."""
    try:
        yield
    except BrokenPipeError:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


@contextmanager
def show_steps(title: str, costs: Mapping[str, float]) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a line; one that begins with a step's name completes the step.

    On a terminal, a bar shows the completed share and the time left.

    Args:
        title: of the bar.
        costs: the relative duration of each step, by its name.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task(title, total=sum(costs.values()))

    def step(line: str) -> None:
        name, *_ = line.split() or [""]
        bar.stop()  # or the line would be written into the bar
        print_line(line)
        bar.advance(task, costs.get(name, 0))
        bar.start()

    with bar:
        yield step
