"""The service conforms to its OpenAPI document, by requests that schemathesis generates."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import StartApp
from tests.image_models import publish_mirror
from tests.images import image_input
from tests.models import (
    failing_graph,
    publish_admission,
    publish_bare,
    publish_iris,
    publish_mixed,
    sum_and_difference,
)
from tests.processes import ROOT
from tests.wide_models import publish_dates

_SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_document_and_service_agree(models: Path, start: StartApp) -> None:
    """Every check of schemathesis passes, valid requests and invalid ones, and nothing is a 500."""
    for publish in (publish_admission, publish_iris, publish_mixed, publish_dates):
        publish(models)
    publish_mirror(models, image_input(4, 5, fit="pad"))
    publish_bare(models, "sum", sum_and_difference())
    publish_bare(models, "failing", failing_graph())
    client = start(shared_memory="system", log_requests="none")
    url = f"{client.base_url}/openapi.json"
    options = ["--checks", "all", "--max-examples", "3", "--continue-on-failure", "--no-color"]

    ended = subprocess.run(
        [_SCHEMATHESIS, "run", url, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    generated = re.search(r"([0-9]+) generated", ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert generated is not None
    assert int(generated[1]) > 2000
