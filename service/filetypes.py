"""What a body that is neither a table nor JSON is, told from how it begins."""

_STARTS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive or a spreadsheet (.xlsx, .ods)",
    b"PK\x05\x06": "an empty zip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of an old Excel (.xls)",
    b"\x1f\x8b": "packed by gzip",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image, a sound or a film",
    b"<!": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML",
}


def recognised(start: bytes) -> str | None:
    """What begins so, or None.

    Args:
        start: the first bytes; sixteen are enough.
    """
    return next((kind for sign, kind in _STARTS.items() if start.startswith(sign)), None)
