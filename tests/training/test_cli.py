"""The command printed after a run calls the new version."""

import shlex
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.bundle.store import read_bundle
from tests.conftest import ShippedClient, StartApp
from tests.models import publish_mixed, publish_price
from training.export.comparison import Comparison
from training.export.publish import Publication, publish
from training.summary import describe_next_steps

SHIPPED = Path(__file__).parents[2] / "models"


def lines_of(folder: Path, serving: int, comparison: Comparison | None = None) -> list[str]:
    """The lines printed for a version that was just published."""
    manifest = read_bundle(folder).manifest
    return describe_next_steps(Publication(folder, manifest, serving, comparison)).splitlines()


def posted(client: httpx.Client, command: str) -> dict[str, object]:
    """The response to the request that the curl command sends."""
    words = shlex.split(command)
    assert words[:2] == ["curl", "-s"]
    url, body = words[2], words[words.index("-d") + 1]
    name, _, value = words[words.index("-H") + 1].partition(": ")
    response = client.post(urlsplit(url).path, content=body.encode(), headers={name: value})
    assert response.status_code == 200, response.text
    found: dict[str, object] = response.json()
    return found


def test_the_command_calls_the_version_that_serves(models: Path, start: StartApp) -> None:
    """Every kind of feature has an example value."""
    *sentences, command = lines_of(publish_mixed(models), 1)

    assert "mixed version 1 serves" in sentences[-1]
    assert posted(start(), command)["model_version"] == "1"


def test_an_image_model_gets_an_image(shipped_client: ShippedClient) -> None:
    """The command contains the image in base64, so it needs no file."""
    *_, command = lines_of(SHIPPED / "digits_small" / "1", 1)

    assert posted(shipped_client, command)["label"] == "1"


def test_a_version_that_does_not_serve_is_called_by_its_number(
    models: Path, start: StartApp
) -> None:
    """It is loaded in addition to the version that serves."""
    folder = publish_price(models)
    manifest = read_bundle(folder).manifest
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    worse = Comparison(1, worse=True, summary="Compared with version 1: worse.")

    *sentences, command = describe_next_steps(publish(models, manifest, files, worse)).splitlines()

    assert sentences == [
        "Compared with version 1: worse.",
        "Version 2 is clearly worse than version 1.",
        (
            "price version 2 does not serve; version 1 still serves. "
            f"To serve it: onward publish price 2 --models {models}"
        ),
    ]
    assert posted(start(), command)["model_version"] == "2"


@pytest.mark.parametrize(
    ("port", "address"), [("9000", ":9000/"), ("tcp://10.0.0.1:8000", ":8000/"), ("", ":8000/")]
)
def test_the_command_uses_the_port_of_the_service(
    models: Path, monkeypatch: pytest.MonkeyPatch, port: str, address: str
) -> None:
    """The port of the service's setting is used if it is valid."""
    monkeypatch.setenv("ONWARD_PORT", port)

    assert f"http://127.0.0.1{address}" in lines_of(publish_price(models), 1)[-1]
