"""The images of a native request: one file, a form of several (RFC 7578), or JSON."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from service.api.body import BINARY, FORM, JSON, media_type_of, parse_json
from service.codecs.images import KEY, ImageCodec, Pixels
from service.codecs.json_numbers import numbers_under, rows_of_numbers
from service.errors import InvalidRequest
from service.values import shown

MULTIPART = "multipart/form-data"
IMAGE_TYPES = (JSON, "image/*", MULTIPART, BINARY, FORM)
INSTANCES = "instances"
_EXAMPLE = f'{{"{KEY}": "the image\'s file in base64"}}'
# What people call the field of an image that they send without a file's name.
_IMAGE_FIELDS = {"image", "images", "file", "files", "picture", "pictures"}
_HINT = "send each image as a file, as curl -F image=@photo.jpg does"
# The body has a limit of its own and is in memory already; nothing goes to a disk.
_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf")}

# The response says what is wrong with a form; the log is not the client's to fill.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Posted(NamedTuple):
    """Images in any form, whether it was one that was sent bare, and the names of files.

    Pixels are already the tensor that the model takes.
    """

    given: Sequence[Any] | Pixels
    single: bool
    files: Sequence[str] = ()

    def place(self, number: int) -> str:
        """How a sentence about one of them begins."""
        if self.files:
            return f"File {shown(self.files[number])}: "
        return "" if self.single else f"Image {number}: "


def read_posted(codec: ImageCodec, body: bytes, content_type: str) -> Posted:
    """The images of a body, none of them decoded yet.

    Raises:
        InvalidRequest: the body is not what its type says, or holds no image.
    """
    media_type = media_type_of(content_type)
    if media_type == MULTIPART:
        names, contents = zip(*read_files(body, content_type, codec.require_parts), strict=True)
        return Posted(contents, single=False, files=names)
    if media_type == JSON or (media_type == FORM and body.lstrip()[:1] in (b"{", b"[")):
        if (pixels := codec.numbers(numbers_under(body, KEY))) is not None:
            return Posted(pixels, single=True)
        if (pixels := codec.numbers(rows_of_numbers(body))) is not None:
            return Posted(pixels, single=False)
        return _of_document(parse_json(body, _EXAMPLE.encode), codec)
    return Posted([body], single=True)


def read_files(
    body: bytes, content_type: str, require_parts: Callable[[int], None]
) -> list[tuple[str, bytes]]:
    """The name and the content of each file of a form, in its order.

    Args:
        body: the whole form.
        content_type: which tells its boundary.
        require_parts: rejects so many parts, as soon as they are too many.

    Raises:
        InvalidRequest: it is no form, is cut short, or holds something else, or too many files.
    """
    media_type, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest(f"The form's Content-Type has no boundary; {_HINT}.")
    files: list[tuple[str, bytes]] = []
    ended: list[bool] = []

    def add(name: bytes | None, content: bytes) -> None:
        files.append(((name or b"").decode("utf-8", "replace"), content))
        require_parts(len(files))

    def add_field(part: Field) -> None:
        _require_image(part)
        add(part.field_name, part.value or b"")

    def add_file(part: File) -> None:
        with part.file_object as file:
            file.seek(0)
            add(part.file_name or part.field_name, file.read())

    try:
        parser = FormParser(
            media_type.decode("latin-1"),
            add_field,
            add_file,
            lambda: ended.append(True),
            boundary,
            config=_IN_MEMORY,
        )
        parser.write(body)
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {error}; {_HINT}.") from None
    if not ended:
        raise InvalidRequest("The form is cut short: its closing boundary is missing; send all.")
    if not files:
        raise InvalidRequest(f"The form holds no file; {_HINT}.")
    return files


def _of_document(document: Any, codec: ImageCodec) -> Posted:  # noqa: ANN401 - JSON is any of its types
    if isinstance(document, dict) and INSTANCES in document:
        if (extra := next((key for key in document if key != INSTANCES), None)) is not None:
            raise InvalidRequest(f"{extra[:100]!r} is not known beside 'instances'; remove it.")
        document = document[INSTANCES]
        if not isinstance(document, list):
            raise InvalidRequest(f"'instances' must be a list of images, each like {_EXAMPLE}.")
    elif not isinstance(document, list) or codec.is_single(document):
        return Posted([document], single=True)
    if not document:
        raise InvalidRequest(f"There is no image to look at; send at least one: [{_EXAMPLE}].")
    return Posted(document, single=False)


def _require_image(part: Field) -> None:
    """Refuse a field of text, unless it is called as an image's is."""
    name = (part.field_name or b"").decode("utf-8", "replace")
    is_text = (part.content_type or "text/plain").startswith("text/plain")
    if is_text and name.removesuffix("[]") not in _IMAGE_FIELDS:
        raise InvalidRequest(
            f"Field {shown(name)} of the form is no file; {_HINT}, and parameters in the query."
        )
