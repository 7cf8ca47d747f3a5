"""The pictures of a request in the plain dialect: one file, a form of several, or JSON."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from service.api.body import BINARY, FORM, JSON, media_type_of
from service.api.native.forms import MULTIPART, read_files
from service.codecs.image_sources import KEY
from service.codecs.images import PictureCodec
from service.codecs.json_reader import numbers_under, parse_json, rows_of_numbers
from service.codecs.pixels import Pixels
from service.errors import InvalidRequest
from service.values import shown

PICTURE_TYPES = (JSON, "image/*", MULTIPART, BINARY, FORM)
INSTANCES = "instances"
_EXAMPLE = f'{{"{KEY}": "the picture\'s file in base64"}}'


class Posted(NamedTuple):
    """Pictures in any form, whether it was one that was sent bare, and the names of files.

    Pixels are already the tensor that the model takes.
    """

    given: Sequence[Any] | Pixels
    single: bool
    files: Sequence[str] = ()

    def place(self, number: int) -> str:
        """How a sentence about one of them begins."""
        if self.files:
            return f"File {shown(self.files[number])}: "
        return "" if self.single else f"Picture {number}: "


def read_posted(codec: PictureCodec, body: bytes, content_type: str) -> Posted:
    """The pictures of a body, none of them decoded yet.

    Raises:
        InvalidRequest: the body is not what its type says, or holds no picture.
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


def _of_document(document: Any, codec: PictureCodec) -> Posted:  # noqa: ANN401 - JSON is any of its types
    if isinstance(document, dict) and INSTANCES in document:
        if (extra := next((key for key in document if key != INSTANCES), None)) is not None:
            raise InvalidRequest(f"{extra[:100]!r} is not known beside 'instances'; remove it.")
        document = document[INSTANCES]
        if not isinstance(document, list):
            raise InvalidRequest(f"'instances' must be a list of pictures, each like {_EXAMPLE}.")
    elif not isinstance(document, list) or codec.is_single(document):
        return Posted([document], single=True)
    if not document:
        raise InvalidRequest(f"There is no picture to look at; send at least one: [{_EXAMPLE}].")
    return Posted(document, single=False)
