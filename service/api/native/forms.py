"""The images of a native request: one file, a form with several (RFC 7578), or JSON."""

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser

from service.api.body import BINARY, FORM, JSON, parse_media_type, parse_parameter
from service.codecs.images import KEY, ImageCodec, Pixels
from service.codecs.json_reader import parse_json, parse_number_rows, parse_numbers_under
from service.errors import InvalidRequest
from service.values import format_value

MULTIPART = "multipart/form-data"
IMAGE_TYPES = (JSON, "image/*", MULTIPART, BINARY, FORM)
INSTANCES = "instances"
_EXAMPLE = f'{{"{KEY}": "the image\'s file in base64"}}'
# The usual names of a field with an image; one without a file name is an image too.
_IMAGE_FIELDS = {"image", "images", "file", "files", "picture", "pictures"}
# The body is limited and in memory already; nothing is written to disk.
_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf")}

# The response says what is wrong with a form; clients must not be able to fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class FormFiles(NamedTuple):
    """What the files of a form are: the usual names of their fields, and advice for messages."""

    fields: Container[str]
    hint: str


_IMAGES = FormFiles(_IMAGE_FIELDS, "send each image as a file, as curl -F image=@photo.jpg does")
TABLE = FormFiles({"file", "table", "csv", "data"}, "send a file, as curl -F file=@table.csv does")


class PostedImages(NamedTuple):
    """The images of a request, and the names of their files.

    ``single`` says whether the request was one image without a list. Images as `Pixels` are the
    input tensor of the model already.
    """

    images: Sequence[Any] | Pixels
    single: bool
    files: Sequence[str] = ()

    def prefix(self, number: int) -> str:
        """Return the beginning of a message about the image with this number."""
        if self.files:
            return f"File {format_value(self.files[number])}: "
        return "" if self.single else f"Image {number}: "


def read_posted(codec: ImageCodec, body: bytes, content_type: str) -> PostedImages:
    """Find the images of a body, without decoding them; raise `InvalidRequest` if it has none."""
    media_type = parse_media_type(content_type)
    if media_type == MULTIPART:
        names, contents = zip(*read_files(body, content_type, codec.require_parts), strict=True)
        return PostedImages(contents, single=False, files=names)
    if media_type == JSON or (media_type == FORM and body.lstrip()[:1] in (b"{", b"[")):
        if (pixels := codec.decode_numbers(parse_numbers_under(body, KEY))) is not None:
            return PostedImages(pixels, single=True)
        if (pixels := codec.decode_numbers(parse_number_rows(body))) is not None:
            return PostedImages(pixels, single=False)
        return _read_document(parse_json(body, _EXAMPLE.encode), codec)
    return PostedImages([body], single=True)


def read_files(
    body: bytes,
    content_type: str,
    require_parts: Callable[[int], None],
    expected: FormFiles = _IMAGES,
) -> list[tuple[str, bytes]]:
    """Return the name and the content of each file of a form, in order.

    Args:
        body: the whole form.
        content_type: the header, with the boundary.
        require_parts: rejects a number of parts as soon as it is too large.
        expected: what the files are.

    Raises:
        InvalidRequest: the body is not a complete form, or has other fields or too many files.
    """
    boundary = parse_parameter(content_type, "boundary")
    if boundary is None:
        raise InvalidRequest(f"The form's Content-Type has no boundary; {expected.hint}.")
    files: list[tuple[str, bytes]] = []
    ended: list[bool] = []

    def add(part: Field | File) -> None:
        if isinstance(part, Field):
            _require_known_field(part, expected)
            name, content = part.field_name, part.value or b""
        else:
            name = part.file_name or part.field_name
            with part.file_object as file:
                file.seek(0)
                content = file.read()
        files.append(((name or b"").decode("utf-8", "replace"), content))
        require_parts(len(files))

    def end() -> None:
        ended.append(True)

    try:
        encoded = boundary.encode("latin-1")
        FormParser(MULTIPART, add, add, end, encoded, config=_IN_MEMORY).write(body)
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {error}; {expected.hint}.") from None
    if not ended:
        raise InvalidRequest("The form is incomplete: its closing boundary is missing.")
    if not files:
        raise InvalidRequest(f"The form holds no file; {expected.hint}.")
    return files


def take_instances(document: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return the value of ``instances``; raise `InvalidRequest` if there is any other key."""
    if (extra := next((key for key in document if key != INSTANCES), None)) is not None:
        raise InvalidRequest(f"{format_value(extra)} is not known next to 'instances'; remove it.")
    return document[INSTANCES]


def _read_document(document: Any, codec: ImageCodec) -> PostedImages:  # noqa: ANN401 - JSON is any of its types
    if isinstance(document, dict) and INSTANCES in document:
        document = take_instances(document)
        if not isinstance(document, list):
            raise InvalidRequest(f"'instances' must be a list of images, each like {_EXAMPLE}.")
    elif not isinstance(document, list) or codec.is_single(document):
        return PostedImages([document], single=True)
    if not document:
        raise InvalidRequest(f"There is no image; send at least one: [{_EXAMPLE}].")
    return PostedImages(document, single=False)


def _require_known_field(part: Field, expected: FormFiles) -> None:
    """Reject a text field unless it has the usual name of a file."""
    name = (part.field_name or b"").decode("utf-8", "replace")
    is_text = (part.content_type or "text/plain").startswith("text/plain")
    if is_text and name.removesuffix("[]") not in expected.fields:
        raise InvalidRequest(
            f"Field {format_value(name)} of the form is no file; {expected.hint}, and parameters "
            "in the query."
        )
