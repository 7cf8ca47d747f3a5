"""Every shipped model through the client: the predictions are those of plain HTTP."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from service.client import Explanation, InvalidData, InvalidRequest, OnwardClientError, Prediction
from tests.client.conftest import AnyClient
from tests.conftest import ShippedClient
from tests.images import encoded, photograph, turned

MODELS = Path(__file__).parents[2] / "models"
_IMAGES = {"cats_dogs", "digits_cnn", "digits_conv", "digits_small", "fashion_cnn", "fashion_mlp"}
_NAMES = {path.name for path in MODELS.iterdir() if path.is_dir()}


def example_input(name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """The input of a model's examples, as the graph takes it."""
    tensor = orjson.loads((MODELS / name / "1" / "examples.json").read_bytes())["input"]
    return np.array(tensor["data"], np.float64).reshape(tensor["shape"])


def example_rows(client: ShippedClient, name: str) -> list[dict[str, Any]]:
    """The examples of a model as its clients send them."""
    features = client.get(f"/models/{name}").json()["features"]
    rows = []
    for numbers in example_input(name).tolist():
        row = {}
        for feature, number in zip(features, numbers, strict=True):
            categories = feature.get("categories")
            cell = number if categories is None else categories[int(number)]
            row[feature["name"]] = None if number != number else cell  # noqa: PLR0124 - NaN
        rows.append(row)
    return rows


def predictions_of(client: ShippedClient, name: str, document: object) -> list[dict[str, Any]]:
    """The response of plain HTTP to several rows or images."""
    response = client.post(f"/models/{name}/predict", json=document)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def flat(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction in JSON as the row of a DataFrame."""
    row = {key: prediction[key] for key in ("label", "probability", "value") if key in prediction}
    for label, probability in prediction.get("probabilities", {}).items():
        row[f"probability_{label}"] = probability
    if "unsure" in prediction:
        row["unsure"] = prediction["unsure"]
    return row | {"warnings": " ".join(prediction.get("warnings", [])) or None}


@pytest.mark.parametrize("name", sorted(_NAMES - _IMAGES))
def test_a_dataframe_has_the_predictions_of_plain_http(
    onward: AnyClient, shipped_client: ShippedClient, name: str
) -> None:
    """Of pandas and of polars, with the same rows and without the columns of others."""
    rows = example_rows(shipped_client, name)
    expected = [flat(one) for one in predictions_of(shipped_client, name, rows)]
    frame = pd.DataFrame(rows, index=[f"row {k}" for k in range(len(rows))])
    frame.insert(0, "customer id", range(len(rows)))
    shuffled = pl.DataFrame(rows)[:, ::-1].with_columns(target=pl.lit("unknown"))

    by_pandas = onward.predict(name, frame)
    by_polars = onward.predict(name, shuffled)

    assert by_pandas.index.equals(frame.index)
    assert by_pandas.to_dict("records") == expected
    assert by_polars.to_dicts() == expected
    found = onward.predict(name, rows)
    assert [one.json for one in found] == predictions_of(shipped_client, name, rows)
    assert [one.to_dict() for one in found] == expected


@pytest.mark.parametrize("name", ["cats_dogs", "digits_small", "fashion_mlp"])
def test_an_image_in_any_form_has_the_prediction_of_plain_http(
    onward: AnyClient, shipped_client: ShippedClient, name: str, tmp_path: Path
) -> None:
    """A path, bytes, an open file, an image of Pillow and an array; each alone and in a list."""
    pixels = np.full((90, 70, 3), 250, np.uint8)
    pixels[15:75, 30:40] = photograph(60, 10) // 8
    file = encoded(pixels)
    path = tmp_path / "one.png"
    path.write_bytes(file)
    plain = shipped_client.post(
        f"/models/{name}/predict", content=file, headers={"content-type": "image/png"}
    ).json()

    with path.open("rb") as opened, Image.open(path) as image:
        forms = [path, str(path), file, opened, image, pixels]
        alone = [onward.predict(name, form) for form in forms]
        opened.seek(0)
        together = onward.predict(name, forms)

    assert [one.json for one in alone] == [plain] * 6
    assert [one.label for one in together] == [plain["label"]] * 6
    probabilities = [one.probability for one in together]
    assert probabilities == pytest.approx([plain["probability"]] * 6, abs=1e-5)


@pytest.mark.parametrize("name", sorted(_IMAGES))
def test_arrays_of_the_own_size_are_used_unchanged(
    onward: AnyClient, shipped_client: ShippedClient, name: str
) -> None:
    """One array of all examples, a list of arrays, and one alone."""
    images = example_input(name).astype(np.uint8)
    expected = predictions_of(shipped_client, name, [{"image": one.tolist()} for one in images])

    assert [one.json for one in onward.predict(name, images)] == expected
    assert [one.json for one in onward.predict(name, list(images))] == expected
    assert onward.predict(name, images[0]).label == expected[0]["label"]
    if images.shape[3] == 1:
        assert [one.json for one in onward.predict(name, images[..., 0])] == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_images_of_pillow_have_any_mode_and_orientation(
    onward: AnyClient, shipped_client: ShippedClient, mode: str
) -> None:
    """The service gets the file that it would get from Pillow, with its orientation."""
    image = Image.fromarray(photograph(40, 60))
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    kind = "TIFF" if mode in ("CMYK", "F") else "PNG"
    image.getexif()[0x0112] = 6
    file = encoded(image, kind, exif=turned(6))
    plain = shipped_client.post(
        "/models/cats_dogs/predict", content=file, headers={"content-type": "image/x"}
    ).json()

    assert onward.predict("cats_dogs", image).json == plain


@pytest.mark.parametrize("name", ["house_price", "churn", "iris"])
def test_explanations_are_those_of_plain_http(
    onward: AnyClient, shipped_client: ShippedClient, name: str
) -> None:
    """Of one row, of a list, and of a DataFrame with more rows than a request may have."""
    rows = example_rows(shipped_client, name)
    response = shipped_client.post(f"/models/{name}/explain", json=rows).json()
    expected = response["predictions"]

    one, many = onward.explain(name, rows[0]), onward.explain(name, rows)
    # A DataFrame of a model with two class labels explains one of them.
    label = {"label": "Yes"} if name == "churn" else {}
    in_frame = shipped_client.post(f"/models/{name}/explain", json=rows, params=label).json()
    frame = onward.explain(name, pd.DataFrame(rows * 20))

    assert [explanation.json for explanation in many] == expected
    assert isinstance(one, Explanation)
    assert one.contributions == expected[0]["explanation"]["contributions"]
    assert (one.method, one.meaning) == (response["method"], response["meaning"])
    assert isinstance(one.prediction, Prediction)
    explanations = [one["explanation"] for one in in_frame["predictions"]]
    assert frame["score"].tolist() == [one["score"] for one in explanations] * 20
    assert frame["of"].tolist() == [one["of"] for one in explanations] * 20
    contributions = frame.filter(like="contribution_").sum(axis=1) + frame["base"]
    np.testing.assert_allclose(contributions, frame["score"], rtol=1e-4, atol=1e-5)
    assert [*frame.filter(like="contribution_")] == [f"contribution_{key}" for key in rows[0]]


def test_a_dataframe_explains_one_of_two_labels(onward: AnyClient) -> None:
    """The second one in every row, so that a sign means the same; another on request."""
    frame = pd.DataFrame({"exam_1": [90, 90, 30, 30], "exam_2": [90, 30, 90, 30]})

    found, other = (onward.explain("admission", frame, label=k) for k in (None, "not admitted"))

    assert found["label"].nunique() == 2
    assert found["of"].tolist() == ["log-odds of 'admitted'"] * 4
    assert other["of"].tolist() == ["log-odds of 'not admitted'"] * 4
    one = found.filter(like="contribution_").to_numpy()
    assert (np.sign(one[:, 0]) == [1, 1, -1, -1]).all()
    np.testing.assert_allclose(one, -other.filter(like="contribution_").to_numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["churn", "iris", "house_price"])
def test_a_dataframe_without_rows_has_the_columns_of_another(
    onward: AnyClient, shipped_client: ShippedClient, name: str
) -> None:
    """With their types, for every option, so that it can be joined with others."""
    rows = example_rows(shipped_client, name)[:1]
    kinds: list[Any] = [pd.DataFrame(rows, index=["a"]), pl.DataFrame(rows)]
    options: list[dict[str, Any]] = [{}, {"warnings": False}]
    options += [{"interval": 0.9}] if name == "house_price" else [{"top": 2}]

    for frame in kinds:
        for option in options:
            full = onward.predict(name, frame, **option)
            empty = onward.predict(name, frame[:0], **option)
            assert len(empty) == 0
            assert list(empty.columns) == list(full.columns)
            assert list(empty.dtypes) == list(full.dtypes)
        full, empty = onward.explain(name, frame), onward.explain(name, frame[:0])
        assert list(zip(empty.columns, empty.dtypes, strict=True)) == list(
            zip(full.columns, full.dtypes, strict=True)
        )
    assert onward.predict(name, kinds[0][:0]).index.equals(kinds[0][:0].index)


@pytest.mark.parametrize("row", [[45, 85], (45.0, 85.0), [None, 85], [True]])
def test_a_list_of_values_is_no_list_of_rows(onward: AnyClient, row: object) -> None:
    """The sentence says how to write one row."""
    with pytest.raises(InvalidData, match=r"^Several rows are a list of rows, and this list"):
        onward.predict("admission", row)


def test_an_image_for_a_model_of_rows_is_explained(onward: AnyClient, tmp_path: Path) -> None:
    """The error is that of the response, with another sentence."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(photograph(8, 8)))

    for image in (path, path.read_bytes()):
        with pytest.raises(
            InvalidRequest, match=r"^Model 'admission' takes rows, not an image"
        ) as raised:
            onward.predict("admission", image)
        assert raised.value.status == 400
    with pytest.raises(OnwardClientError, match=r"score\(\) sends the file of a table"):
        onward.predict("admission", b"exam_1,exam_2\n45,85\n")


def test_images_are_explained_by_a_grid(onward: AnyClient, shipped_client: ShippedClient) -> None:
    """The drops are those of plain HTTP."""
    image = example_input("fashion_mlp").astype(np.uint8)[0]
    plain = shipped_client.post(
        "/models/fashion_mlp/explain?resolution=4&label=Bag", json={"image": image.tolist()}
    ).json()

    found = onward.explain("fashion_mlp", image, resolution=4, label="Bag")

    assert found.drops == plain["explanation"]["drops"]
    assert np.shape(found.drops) == (4, 4)


def test_the_options_of_predictions_are_sent(
    onward: AnyClient, shipped_client: ShippedClient
) -> None:
    """Each has the effect that the service documents."""
    iris = shipped_client.get("/models/iris").json()
    row = {feature["name"]: feature["example"] for feature in iris["features"]}
    house = {"size": 90000, "bedrooms": 3}

    assert len(onward.predict("iris", row, top=2).probabilities) == 2
    assert onward.predict("iris", row, probabilities=False).probabilities is None
    assert onward.predict("iris", row, probabilities=True, version=1).model_version == "1"
    ranked = onward.predict("iris", pd.DataFrame([row]), top=2, warnings=False)
    assert [*ranked] == [
        *("label", "probability", "label_1", "probability_1", "label_2", "probability_2")
    ]
    predicted = onward.predict("house_price", house, interval=0.9)
    assert predicted.interval.low < predicted.value < predicted.interval.high
    assert predicted.unit == "US dollars"
    assert len(predicted.warnings) == 1
    assert onward.predict("house_price", house, warnings=False).warnings == ()
    frame = onward.predict("house_price", pl.DataFrame([house]), interval=0.9)
    assert frame.columns == ["value", "interval_low", "interval_high", "warnings"]
    assert frame["interval_low"].to_list() == [predicted.interval.low]


def test_models_are_described(onward: AnyClient, shipped_client: ShippedClient) -> None:
    """The list has every model; a model has an example, which it predicts."""
    listed = onward.models()

    assert {model.name for model in listed} == _NAMES
    assert all(model.ready for model in listed)
    for model in listed:
        described = onward.model(model.name)
        assert described.json == shipped_client.get(f"/models/{model.name}").json()
        assert (described.input == "image") == (model.name in _IMAGES)
        assert described.output is not None
        if described.input == "features":
            result = onward.predict(model.name, described.example).result
            assert result in (described.output.labels or (result,))
    assert onward.model("house_price", version="1").output.levels == (0.5, 0.8, 0.9, 0.95)  # type: ignore[union-attr]
