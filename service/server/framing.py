"""The rules of RFC 9112 for the end of a request that the parser does not check."""

import re
from collections.abc import Sequence

from service.errors import InvalidRequest, NotImplementedHere

_HOST = re.compile(rb"[\w.~!$&'()*+,;=:%\[\]-]*", re.ASCII)


def body_length(headers: Sequence[tuple[bytes, bytes]], http_version: str) -> int | None:
    """Return the length of a request's body in bytes; None if it is chunked.

    Args:
        headers: lower-case names and values from a strict parser.
        http_version: such as ``1.1``.

    Raises:
        InvalidRequest: the head breaks a rule, so a proxy may find another end.
        NotImplementedHere: the transfer coding is not chunked.
    """
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if http_version not in {"1.0", "1.1"}:
        raise InvalidRequest(f"HTTP/{http_version} is not supported; use HTTP/1.1.")
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):  # section 3.2
        raise InvalidRequest(f"Send one Host header; the request has {len(hosts)}.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise InvalidRequest("The Host header is not the name of a host.")
    if not codings:
        return int(lengths[0]) if lengths else 0
    if http_version == "1.0":  # section 6.1
        raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding; send a Content-Length.")
    if codings[0].strip().lower() != b"chunked":
        raise NotImplementedHere("A Transfer-Encoding other than chunked")
    return None
