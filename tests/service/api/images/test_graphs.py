"""A graph of images without a manifest takes every form of image, and tensors as before."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from tests.conftest import StartApp
from tests.image_models import pixel_graph, run_directly
from tests.images import encoded, photograph
from tests.models import publish_bare

# A name, a graph, and the input that it takes for pixels [images, 6, 9, 3].
GRAPHS = {
    "nhwc": pixel_graph(["n", 6, 9, 3], TensorProto.UINT8, steps=[("Mul", 1 / 255)]),
    "nchw": pixel_graph(["n", 3, 6, 9], TensorProto.UINT8, steps=[("Div", 255)]),
    "integers": pixel_graph(["n", 6, 9, 3], TensorProto.INT64, steps=[("Div", 255)]),
    "rescaled": pixel_graph(["n", 6, 9, 3], steps=[("Mul", 1 / 127.5), ("Add", -1)]),
    "normalized": pixel_graph(["n", 6, 9, 3], steps=[("Sub", [0.485, 0.456, 0.406])]),
}
UNKNOWN = pixel_graph(["n", 3, 6, 9])

Pixels = npt.NDArray[np.uint8]


def taken_by(name: str, pixels: Pixels) -> npt.NDArray[Any]:
    """The input of a graph for pixels."""
    if name == "nchw":
        return pixels.transpose(0, 3, 1, 2)
    if name == "normalized":
        return (pixels / 255).astype(np.float32)
    types = {"integers": np.int64, "rescaled": np.float32}
    return pixels.astype(types.get(name, np.uint8))


def expected_of(name: str, pixels: Pixels) -> list[list[float]]:
    """The output of a graph for pixels, by ONNX Runtime itself."""
    found: list[list[float]] = run_directly(GRAPHS[name], taken_by(name, pixels)).tolist()
    return found


def in_base64(content: bytes) -> str:
    """The text of a file in JSON."""
    return base64.b64encode(content).decode()


@pytest.fixture
def two() -> Pixels:
    """Two images of the graphs' own size."""
    return np.stack([photograph(6, 9, 1), photograph(6, 9, 2)])


@pytest.fixture
def client(models: Path, start: StartApp) -> httpx.Client:
    """A service with all graphs."""
    for name, graph in GRAPHS.items():
        publish_bare(models, name, graph)
    publish_bare(models, "unknown", UNKNOWN)
    return start()


@pytest.mark.parametrize("name", GRAPHS)
def test_native_requests_take_files_in_every_form(
    client: httpx.Client, name: str, two: Pixels
) -> None:
    """A body, a form and JSON give the graph's own output for the pixels."""
    first, second = (encoded(pixels) for pixels in two)
    expected, path = expected_of(name, two), f"/models/{name}/predict"
    response = client.post(path, content=first, headers={"content-type": "image/png"})
    assert response.status_code == 200, response.text
    assert response.json()["y"] == pytest.approx(expected[0], abs=1e-6)

    form = [("image", ("a.png", first)), ("image", ("b.png", second))]
    posted = client.post(path, files=form).json()["predictions"]
    assert [one["file"] for one in posted] == ["a.png", "b.png"]
    assert np.allclose([one["y"] for one in posted], expected, atol=1e-6)

    single = client.post(path, json={"image": in_base64(second)})
    assert single.json()["y"] == pytest.approx(expected[1], abs=1e-6)
    several = {"instances": [{"b64": in_base64(first)}, {"image": two[1].tolist()}]}
    found = client.post(path, json=several).json()["predictions"]
    assert np.allclose([one["y"] for one in found], expected, atol=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_v1_takes_files_and_tensors(client: httpx.Client, name: str, two: Pixels) -> None:
    """Files are in base64, bare or under the input's name; numbers are the graph's tensor."""
    files, expected = [in_base64(encoded(pixels)) for pixels in two], expected_of(name, two)
    tensor = taken_by(name, two).tolist()
    for rows in (
        [{"b64": file} for file in files],
        [{"x": {"b64": file}} for file in files],
        [{"image": file} for file in files],
        tensor,
        [{"x": row} for row in tensor],
    ):
        response = client.post(f"/v1/models/{name}:predict", json={"instances": rows})
        assert response.status_code == 200, response.text
        assert np.allclose(response.json()["predictions"], expected, atol=1e-6)
    for column in ({"x": [{"b64": file} for file in files]}, files, tensor, {"x": tensor}):
        response = client.post(f"/v1/models/{name}:predict", json={"inputs": column})
        assert np.allclose(response.json()["outputs"], expected, atol=1e-6), response.text


@pytest.mark.parametrize("name", GRAPHS)
def test_v2_takes_files_and_tensors(client: httpx.Client, name: str, two: Pixels) -> None:
    """Files are elements of a BYTES tensor or a raw body; the metadata is the graph's own."""
    files, expected = [encoded(pixels) for pixels in two], expected_of(name, two)
    path = f"/v2/models/{name}"
    own = client.get(path).json()["inputs"][0]
    values = taken_by(name, two)
    assert own["shape"] == [-1, *values.shape[1:]]
    for tensor in (
        {"datatype": "BYTES", "shape": [2], "data": [in_base64(file) for file in files]},
        {"datatype": own["datatype"], "shape": list(values.shape), "data": values.tolist()},
    ):
        response = client.post(f"{path}/infer", json={"inputs": [{"name": "x"} | tensor]})
        assert response.status_code == 200, response.text
        found = response.json()["outputs"][0]["data"]
        assert np.allclose(np.reshape(found, (2, 3)), expected, atol=1e-6)
    raw = {"inference-header-content-length": "0"}
    for content in (files[0], np.ascontiguousarray(values[:1]).tobytes()):
        response = client.post(f"{path}/infer", content=content, headers=raw)
        length = int(response.headers["inference-header-content-length"])
        found = np.frombuffer(response.content[length:], np.float32)
        assert np.allclose(found, expected[0], atol=1e-6)


def test_images_of_other_sizes_are_stretched(client: httpx.Client) -> None:
    """They are decoded as those of a bundle whose images are stretched."""
    white = encoded(np.full((40, 20, 3), 255, np.uint8), "JPEG", quality=100)
    response = client.post(
        "/models/nhwc/predict", content=white, headers={"content-type": "image/jpeg"}
    )
    expected = expected_of("nhwc", np.full((1, 6, 9, 3), 255, np.uint8))
    assert response.json()["y"] == pytest.approx(expected[0], abs=1e-5)


def test_a_large_image_is_decoded_in_a_thread(client: httpx.Client) -> None:
    """It is converted to the graph's input afterwards."""
    white = encoded(np.full((1500, 1500, 3), 255, np.uint8))
    response = client.post(
        "/models/nchw/predict", content=white, headers={"content-type": "image/png"}
    )
    expected = expected_of("nchw", np.full((1, 6, 9, 3), 255, np.uint8))
    assert response.json()["y"] == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        (
            "/models/unknown/predict",
            {"content": b"\x89PNG", "headers": {"content-type": "image/png"}},
        ),
        ("/models/unknown/predict", {"json": {"image": "iVBORw=="}}),
        ("/v1/models/unknown:predict", {"json": {"instances": [{"b64": "iVBORw=="}]}}),
        (
            "/v2/models/unknown/infer",
            {
                "json": {
                    "inputs": [
                        {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["iVBORw=="]}
                    ]
                }
            },
        ),
    ],
    ids=["file", "json", "v1", "v2"],
)
def test_an_unknown_scaling_is_rejected_with_the_remedy(
    client: httpx.Client, path: str, options: dict[str, Any]
) -> None:
    """The message names the command that states it."""
    response = client.post(path, **options)
    assert response.status_code == 400
    assert "onward import model.onnx --images --scaling=" in response.text


def test_tensors_of_an_unknown_scaling_are_predicted(client: httpx.Client) -> None:
    """Floating-point numbers in v1 and v2 are the graph's own, whatever their range."""
    values = np.random.default_rng(5).normal(0, 2, (2, 3, 6, 9)).astype(np.float32)
    expected = run_directly(UNKNOWN, values)
    response = client.post("/v1/models/unknown:predict", json={"instances": values.tolist()})
    assert np.allclose(response.json()["predictions"], expected, atol=1e-6)


def test_the_description_has_the_size_of_images(client: httpx.Client) -> None:
    """It is that of a bundle; a graph whose pixels are not known takes no images."""
    described = client.get("/models/nchw").json()
    image = described["image"]
    assert (image["height"], image["width"], image["channels"]) == (6, 9, 3)
    assert described["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    assert "image" not in client.get("/models/unknown").json()


def test_an_image_without_a_manifest_has_no_explanation(client: httpx.Client) -> None:
    """The message says so, instead of a failure."""
    file = encoded(photograph(6, 9))
    response = client.post(
        "/models/nhwc/explain", content=file, headers={"content-type": "image/png"}
    )
    assert response.status_code == 400


def test_an_invalid_file_is_described(client: httpx.Client) -> None:
    """As with a bundle, the message says what is wrong with the file."""
    response = client.post(
        "/models/nhwc/predict", content=b"no image", headers={"content-type": "image/png"}
    )
    assert response.status_code == 400
    assert response.json()["error"].startswith("This is text; send an image as PNG, JPEG")
