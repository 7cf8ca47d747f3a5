"""A run that is killed while publishing leaves complete versions only."""

import random
import subprocess
import sys
import time
from pathlib import Path

from service.bundle.store import list_versions, read_bundle
from tests.recipes import read_recipe
from training.data.sources import Folders
from training.run import run

_PUBLISH_FOR_EVER = """
import sys
from pathlib import Path
from service.bundle.store import read_bundle, write_bundle
models = Path(sys.argv[1])
bundle = read_bundle(models / "line" / "1")
files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files}
while True:
    write_bundle(models, bundle.manifest, files)
"""
_KILLS = 12


def test_a_killed_run_leaves_no_incomplete_bundle(folders: Folders, tmp_path: Path) -> None:
    """After each kill at a random moment, every visible version is complete."""
    run(read_recipe("line"), tmp_path, folders)
    moments = random.Random(1)  # noqa: S311 - moments, no secrets

    for _ in range(_KILLS):
        before = len(list_versions(tmp_path / "line"))
        publisher = subprocess.Popen([sys.executable, "-c", _PUBLISH_FOR_EVER, str(tmp_path)])
        while len(list_versions(tmp_path / "line")) == before:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        publisher.kill()
        publisher.wait()

        for version in list_versions(tmp_path / "line")[-3:]:
            read_bundle(tmp_path / "line" / str(version))

    read_bundle(tmp_path / "line" / "1")
