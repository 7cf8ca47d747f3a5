"""Images in the native protocol: files, forms, base64 and pixels."""

import base64
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from service.imaging.preprocess import read_image
from tests.conftest import Serve, StartApp
from tests.image_models import publish_mirror, seen_by
from tests.images import encoded, image_input, photograph, png_of_size, turned
from tests.models import publish_admission

RULE = image_input(4, 5)
PHOTO = encoded(photograph(40, 60), "JPEG", exif=turned(6))
SEEN = read_image(PHOTO, RULE)
PATH = "/models/mirror/predict"
PART = b"--x\r\ncontent-disposition: form-data; name=image\r\n\r\n\r\n"


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """Start a service with a model that returns its input image."""
    return serve(lambda models: publish_mirror(models, RULE))


@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg",
        "image/png",
        "IMAGE/JPEG; q=1",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)
def test_a_body_that_is_an_image_gets_one_prediction(
    client: httpx.Client, content_type: str
) -> None:
    """The first bytes of the file determine its format, not its media type."""
    response = client.post(PATH, content=PHOTO, headers={"content-type": content_type})

    assert response.status_code == 200, response.text
    assert response.json().keys() == {"label", "probability", "probabilities", "model_version"}
    assert np.array_equal(seen_by(response.json(), RULE), SEEN)


def test_flat_pixels_in_a_long_body_are_an_image(client: httpx.Client) -> None:
    """A body of only numbers is read without a Python object for each of them."""
    content = orjson.dumps({"image": SEEN.ravel().tolist()}).ljust(300)

    response = client.post(PATH, content=content, headers={"content-type": "application/json"})

    assert np.array_equal(seen_by(response.json(), RULE), SEEN)


@pytest.mark.parametrize(
    "image",
    [
        text(PHOTO),
        "data:image/jpeg;base64," + text(PHOTO),
        "data:;base64," + text(PHOTO),
        "\r\n".join(text(PHOTO)[start : start + 76] for start in range(0, len(text(PHOTO)), 76)),
        base64.urlsafe_b64encode(PHOTO).decode().rstrip("="),
        {"b64": text(PHOTO)},
        SEEN.tolist(),
        SEEN.ravel().tolist(),
        SEEN.astype(float).tolist(),
    ],
)
def test_an_image_in_json_is_read_in_any_form(client: httpx.Client, image: object) -> None:
    """Base64, a data URL, and nested or flat pixels are the same image."""
    for body in ({"image": image}, image):
        response = client.post(PATH, json=body)
        assert response.status_code == 200, response.text
        assert np.array_equal(seen_by(response.json(), RULE), SEEN)

    for body in ({"instances": [{"image": image}, image]}, [image, {"image": image}]):
        response = client.post(PATH, json=body)
        assert response.status_code == 200, response.text
        read = [seen_by(one, RULE) for one in response.json()["predictions"]]
        assert np.array_equal(read, [SEEN, SEEN])


def test_files_of_a_form_get_predictions_in_order(client: httpx.Client) -> None:
    """Each prediction has the name of its file."""
    other = encoded(photograph(9, 9, seed=1))
    files = [("image", ("zürich.jpg", PHOTO)), ("image", ("b.png", other)), ("more", ("a", PHOTO))]

    response = client.post(PATH, files=files)

    assert response.status_code == 200, response.text
    predictions = response.json()["predictions"]
    assert [prediction["file"] for prediction in predictions] == ["zürich.jpg", "b.png", "a"]
    expected = [SEEN, read_image(other, RULE), SEEN]
    assert np.array_equal([seen_by(one, RULE) for one in predictions], expected)


def test_pixels_of_another_size_are_resized_like_a_file(client: httpx.Client) -> None:
    """Pixels of any size are an image."""
    larger = photograph(12, 15, seed=3)

    response = client.post(PATH, json={"image": larger.tolist()})

    assert np.array_equal(seen_by(response.json(), RULE), read_image(encoded(larger), RULE))


def test_gray_pixels_need_no_axis_of_channels(models: Path, start: StartApp) -> None:
    """A model for gray images accepts rows of numbers, alone or in ``instances``."""
    rule = image_input(3, 4, channels=1)
    publish_mirror(models, rule)
    gray = photograph(3, 4)[:, :, :1]
    client = start()

    for form in (gray[:, :, 0], gray, gray.ravel()):
        single = client.post(PATH, json=form.tolist()).json()
        several = client.post(PATH, json=[form.tolist()] * 2).json()["predictions"]
        assert np.array_equal(seen_by(single, rule), gray)
        assert np.array_equal(seen_by(several[1], rule), gray)


def test_large_images_are_decoded_in_threads_with_the_same_result(client: httpx.Client) -> None:
    """Several photos, one of them large, stay in order."""
    photos = [encoded(photograph(1200, 900, seed), "JPEG") for seed in range(3)]

    response = client.post(PATH, files=[("image", (f"{n}", p)) for n, p in enumerate(photos)])

    read = [seen_by(one, RULE) for one in response.json()["predictions"]]
    assert np.array_equal(read, [read_image(photo, RULE) for photo in photos])


def test_every_unreadable_image_is_reported(client: httpx.Client) -> None:
    """The error has all files, by name and position."""
    files = [
        ("image", ("good.jpg", PHOTO)),
        ("image", ("notes.pdf", b"%PDF-1.7 ...")),
        ("image", ("half.jpg", PHOTO[: len(PHOTO) // 2])),
    ]

    response = client.post(PATH, files=files)

    assert response.status_code == 400
    assert response.json()["error"].startswith(
        '2 problems. The first: File "notes.pdf": This is a PDF document; export the page as PNG'
    )
    assert [detail["row"] for detail in response.json()["details"]] == [1, 2]
    assert "damaged or cut short" in response.json()["details"][1]["sentence"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"image": "https://example.org/cat.jpg"}, "Addresses are not fetched"),
        ({"image": "no base64!"}, 'Its text is not base64, got "nobase64!"'),
        ({"image": text(b"%PDF-1.7")}, "This is a PDF document"),
        ({"image": None}, 'Send {"image": "the file in base64"}, or its pixels; got null.'),
        ({"exam_1": 61}, 'or its pixels; got an object of "exam_1".'),
        ({"images": []}, 'or its pixels; got an object of "images".'),
        ([], "There is no image; send at least one"),
        ({"instances": 3}, "'instances' must be a list of images"),
        ({"instances": [], "x": 1}, '"x" is not known next to'),
        ([0.5] * 60, "Its pixels are between 0 and 1; multiply them by 255"),
        ([300] * 60, "A pixel is 300; pixels are numbers from 0 to 255."),
        ([-1] * 60, "A pixel is -1; pixels are numbers from 0 to 255."),
        (["1", 2], "Image 0:"),
        ([[1, 2], [3]], "Its pixels are ragged"),
        ([[1, "a"], [3, 4]], 'A pixel is "a"; pixels are numbers from 0 to 255.'),
        ([2] * 59, "Its pixels have the shape [59]; send [4, 5, 3], or 60 numbers"),
        ([[]], "It holds no pixels"),
    ],
)
def test_json_that_is_not_an_image_is_explained(
    client: httpx.Client, body: object, said: str
) -> None:
    """Each mistake has an error with a remedy."""
    response = client.post(PATH, json=body)

    assert response.status_code == 400, response.text
    assert said in response.json()["error"]


@pytest.mark.parametrize(
    ("content", "content_type", "status", "said"),
    [
        (b"", "image/png", 400, "The file is empty; send an image as PNG"),
        (b"{}", "image/png", 400, "This is JSON; send it as application/json"),
        (PHOTO, "application/pdf", 415, "send application/json or image/* or multipart/form-data"),
        (PHOTO, "application/json", 400, "a JPEG image, not JSON"),
        (PHOTO, "multipart/form-data", 400, "The form's Content-Type has no boundary"),
        (PHOTO, "multipart/form-data; boundary=x", 400, "The form cannot be read"),
        (PART, "multipart/form-data; boundary=x", 400, "The form is incomplete"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "The form holds no file"),
        (b"exam_1,exam_2\n1,2\n", "text/csv", 400, "takes images, not a table's rows"),
    ],
)
def test_bodies_that_are_not_images_are_explained(
    client: httpx.Client, content: bytes, content_type: str, status: int, said: str
) -> None:
    """Invalid and empty bodies and other media types get an error with a remedy."""
    response = client.post(PATH, content=content, headers={"content-type": content_type})

    assert response.status_code == status, response.text
    assert said in response.json()["error"]


def test_a_form_field_that_is_not_a_file_is_rejected(client: httpx.Client) -> None:
    """A form with a parameter is rejected."""
    response = client.post(PATH, files={"image": ("a.jpg", PHOTO)}, data={"top": "3"})

    assert response.status_code == 400
    assert response.json()["error"].startswith('Field "top" of the form is no file')


def test_a_tabular_model_rejects_images(models: Path, start: StartApp) -> None:
    """The error has the supported media types."""
    publish_admission(models)

    response = start().post(
        "/models/admission/predict", content=PHOTO, headers={"content-type": "image/jpeg"}
    )

    assert response.status_code == 415
    assert "'image/jpeg' is not supported; send application/json" in response.json()["error"]


def test_images_above_the_limits_are_rejected(models: Path, start: StartApp) -> None:
    """There is a limit on the pixels of files, and one on the body."""
    publish_mirror(models, RULE)
    client = start(max_image_pixels=100, max_body_bytes=659)
    image = {"content-type": "image/png"}

    large = client.post(PATH, content=png_of_size(11, 10, bytes(120)), headers=image)
    many = client.post(PATH, json=[[9] * 60] * 3, headers={})
    more = client.post(PATH, json=[""] * 11)
    parts = PART * 11 + b"--x--"
    form = client.post(
        PATH, content=parts, headers={"content-type": "multipart/form-data; boundary=x"}
    )

    assert "11 x 10 pixels, and at most 100 in all" in large.json()["error"]
    assert many.status_code == 200
    assert "11 images are too many" in form.json()["error"]
    assert (
        "11 images are too many for a request to this model, which takes 10"
        in (more.json()["error"])
    )


def test_query_parameters_apply_to_images(client: httpx.Client) -> None:
    """They have the same effect as for rows."""
    response = client.post(f"{PATH}?top=2", content=PHOTO, headers={"content-type": "image/jpeg"})

    assert len(response.json()["probabilities"]) == 2


def test_an_image_is_explained_in_any_form(client: httpx.Client) -> None:
    """An image in any form gets an explanation as numbers or as an overlay."""
    path = "/models/mirror/explain?resolution=2"
    jpeg = {"content-type": "image/jpeg"}

    by_file = client.post(path, content=PHOTO, headers=jpeg)
    by_text = client.post(path, json={"image": text(PHOTO)})
    laid_over = client.post(path, content=PHOTO, headers=jpeg | {"accept": "image/png"})

    assert by_file.status_code == 200, by_file.text
    assert by_file.json() == by_text.json()
    assert np.shape(by_file.json()["explanation"]["drops"]) == (2, 2)
    assert laid_over.content.startswith(b"\x89PNG")
