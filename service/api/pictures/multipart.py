"""The files of a form (RFC 7578)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.values import shown
from service.errors import InvalidRequest

MULTIPART = "multipart/form-data"
# What people call the field of a picture that they send without a file's name.
_PICTURE_FIELDS = {"image", "images", "file", "files", "picture", "pictures"}
_HINT = "send each picture as a file, as curl -F image=@photo.jpg does"


@dataclass
class _Part:
    """One field as it arrives."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    header: tuple[bytes, bytes] = (b"", b"")
    content: bytearray = field(default_factory=bytearray)

    def named(self) -> tuple[str, str | None]:
        """The field's name, and the file's where it has one."""
        _, options = parse_options_header(self.headers.get(b"content-disposition"))
        name, file = options.get(b"name", b""), options.get(b"filename")
        return _text(name), None if file is None else _text(file)


def read_files(
    body: bytes, content_type: str, require_room: Callable[[int], None]
) -> list[tuple[str, bytes]]:
    """The name and the content of each file of a form, in its order.

    Args:
        body: the whole form.
        content_type: which tells its boundary.
        require_room: refuses so many files, as soon as they are too many.

    Raises:
        InvalidRequest: it is no form, is cut short, or holds something else, or too many files.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest(f"The form's Content-Type has no boundary; {_HINT}.")
    parts = _parts(body, boundary, require_room)
    if not parts:
        raise InvalidRequest(f"The form holds no file; {_HINT}.")
    return [_file(part) for part in parts]


def _parts(body: bytes, boundary: bytes, require_room: Callable[[int], None]) -> list[_Part]:
    parts: list[_Part] = []
    ended: list[bool] = []

    def begin() -> None:
        parts.append(_Part())
        require_room(len(parts))

    def take_field(data: bytes, start: int, end: int) -> None:
        part = parts[-1]
        part.header = (part.header[0] + data[start:end], part.header[1])

    def take_value(data: bytes, start: int, end: int) -> None:
        part = parts[-1]
        part.header = (part.header[0], part.header[1] + data[start:end])

    def end_header() -> None:
        part = parts[-1]
        part.headers[part.header[0].lower()] = part.header[1]
        part.header = (b"", b"")

    def take_content(data: bytes, start: int, end: int) -> None:
        parts[-1].content += memoryview(data)[start:end]

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": take_field,
                "on_header_value": take_value,
                "on_header_end": end_header,
                "on_part_data": take_content,
                "on_end": lambda: ended.append(True),
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {error}; {_HINT}.") from None
    if not ended:
        raise InvalidRequest("The form is cut short: its closing boundary is missing; send all.")
    return parts


def _file(part: _Part) -> tuple[str, bytes]:
    name, file = part.named()
    is_text = part.headers.get(b"content-type", b"text/plain").startswith(b"text/plain")
    if file is None and is_text and name.removesuffix("[]") not in _PICTURE_FIELDS:
        raise InvalidRequest(
            f"Field {shown(name)} of the form is no file; {_HINT}, and parameters in the query."
        )
    return file or name, bytes(part.content)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
