"""``onward score`` on a folder of images: the output has one line per file."""

import csv
import io
from pathlib import Path

import pytest

from tests.conftest import StartApp
from tests.image_models import publish_mirror
from tests.images import encoded, image_input, photograph
from tests.service.cli.test_score import score


def test_predictions_for_a_folder_of_images_equal_those_of_http(
    models: Path, tmp_path: Path, start: StartApp
) -> None:
    """A file that is not an image has an error in its line, and the exit status is 1."""
    publish_mirror(models, image_input(2, 2, 1))
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b.jpg").write_bytes(encoded(photograph(9, 7, 2), "JPEG"))
    (folder / "a.png").write_bytes(encoded(photograph(5, 6, 1)))
    (folder / "notes.txt").write_text("no image")

    done = score(models, "mirror", str(folder))

    assert done.returncode == 1
    lines = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [line["file"] for line in lines] == ["a.png", "deep/b.jpg", "notes.txt"]
    assert "This is text" in lines[2]["error"]
    client = start(models=models)
    for line in lines[:2]:
        content = (folder / line["file"]).read_bytes()
        prediction = client.post(
            "/models/mirror/predict",
            content=content,
            headers={"content-type": "application/octet-stream"},
        ).json()
        assert line["label"] == prediction["label"]
        for label, probability in prediction["probabilities"].items():
            assert float(line[f"probability_{label}"]) == pytest.approx(probability, abs=1e-7)


def test_a_folder_without_files_is_reported(models: Path, tmp_path: Path) -> None:
    """Nothing is written, and the exit status is 2."""
    publish_mirror(models, image_input(2, 2, 1))
    (tmp_path / "empty").mkdir()

    done = score(models, "mirror", str(tmp_path / "empty"))

    assert done.returncode == 2
    assert "holds no files" in done.stderr.decode()
    assert done.stdout == b""
