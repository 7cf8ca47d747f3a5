"""Measure what an open page costs predictions: requests per second with it and without it.

The page shows the live panel, whose requests are the most frequent ones. Chromium and wrk share the
core that the service does not have. Run it by ``python -m bench.open_page``.
"""

import argparse
import shutil
import statistics
import sys
from itertools import pairwise

from playwright.sync_api import sync_playwright

from bench.hostile.requests import ROW
from bench.load import load
from bench.page import replace_section
from bench.processes import Start, have_tools, pin_to_load_core, service_command, started

_ROUNDS = 6
_SECONDS = 4
_CONNECTIONS = 8
_TITLE = "An open page"


def main() -> int:
    """Measure, and write the section on request."""
    parser = argparse.ArgumentParser(prog="python -m bench.open_page", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    if not have_tools("wrk", "chromium"):
        return 1
    pin_to_load_core()
    rates: list[float] = []
    with started(Start(service_command())) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        url = f"{server.address}/models/admission/predict"
        load(url, ROW, _CONNECTIONS, 1)
        for turn in range(2 * _ROUNDS):
            page = browser.new_page()
            # An empty page takes as much of the other core as the program that shows it.
            page.goto(f"{server.address}/#/live" if turn % 2 else "about:blank")
            rates.append(load(url, ROW, _CONNECTIONS, _SECONDS).rate)
            page.close()
        browser.close()
    ratios = [with_page / without for without, with_page in list(pairwise(rates))[::2]]
    lines = [
        (
            f"One row of two numbers over {_CONNECTIONS} connections, {_ROUNDS} pairs of "
            f"{_SECONDS} seconds, with the live panel open in Chromium and with an empty page."
        ),
        "",
        "| | median | lowest | highest |",
        "|---|---|---|---|",
        (
            f"| requests per second with the page / without | {statistics.median(ratios):.3f} | "
            f"{min(ratios):.3f} | {max(ratios):.3f} |"
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    if options.write:
        replace_section(_TITLE, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
