"""The encodings in which tables are read: a fixed list, so that no name from outside is looked up.

Python's own search for an encoding imports modules and caches what it finds without a limit.
"""

from collections.abc import Mapping

# By Python's codec, the names that browsers, spreadsheets and pandas use for it.
_NAMES: Mapping[str, str] = {
    "utf-8": "utf-8 utf8 ascii us-ascii ansi-x3.4-1968",
    "utf-8-sig": "utf-8-sig utf-8-bom utf8-bom",
    "utf-16": "utf-16 utf16 ucs-2 unicode",
    "utf-16-le": "utf-16le utf-16-le utf16le",
    "utf-16-be": "utf-16be utf-16-be utf16be",
    "utf-32": "utf-32 utf32 ucs-4",
    "utf-32-le": "utf-32le utf-32-le utf32le",
    "utf-32-be": "utf-32be utf-32-be utf32be",
    "iso8859-1": "iso-8859-1 iso8859-1 latin-1 latin1 l1",
    **{
        f"iso8859-{part}": f"iso-8859-{part} iso8859-{part}"
        for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)
    },
    **{
        f"cp{page}": f"cp{page} windows-{page} cp-{page} x-cp{page}"
        for page in (1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258, 874)
    },
    **{
        f"cp{page}": f"cp{page} ibm{page} {page}"
        for page in (437, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865, 866, 869)
    },
    "mac-roman": "macintosh mac-roman macroman x-mac-roman",
    "mac-cyrillic": "mac-cyrillic x-mac-cyrillic",
    "koi8-r": "koi8-r koi8r",
    "koi8-u": "koi8-u koi8u",
    "gbk": "gbk cp936 936 gb2312 gb-2312 x-gbk",
    "gb18030": "gb18030",
    "big5": "big5 big-5",
    "big5hkscs": "big5-hkscs big5hkscs",
    "cp950": "cp950 950",
    "shift_jis": "shift-jis shiftjis sjis x-sjis",
    "cp932": "cp932 932 windows-31j ms932",
    "euc_jp": "euc-jp eucjp",
    "iso2022_jp": "iso-2022-jp iso2022-jp",
    "euc_kr": "euc-kr euckr",
    "cp949": "cp949 949 uhc ks-c-5601-1987",
}
_CODECS = {name: codec for codec, names in _NAMES.items() for name in names.split()}

# Longest first: UTF-32's little-endian mark begins with that of UTF-16.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_UNIT_BYTES = {"utf-16": 2, "utf-32": 4}
# Of the zero bytes of UTF-16, at most this share is not in the expected half of each pair.
_FEW = 0.1


def marked_codec(start: bytes) -> str | None:
    """The codec of bytes that begin with a byte-order mark; it removes the mark."""
    return next((codec for mark, codec in _MARKS.items() if start.startswith(mark)), None)


def codec_of(name: str, start: bytes) -> str | None:
    """The codec of an encoding's name, of text without a byte-order mark; None if it is unknown.

    The byte order of UTF-16 and UTF-32 shows in the zero bytes of ASCII characters, which every
    table has; without any it is big-endian (RFC 2781, 4.3).

    Args:
        name: as a client writes it, in any case.
        start: the first bytes.
    """
    codec = _CODECS.get(name.strip().lower().replace("_", "-"))
    unit = _UNIT_BYTES.get(codec or "")
    if unit is None:
        return codec
    first, last = start[::unit].count(0), start[unit - 1 :: unit].count(0)
    return f"{codec}-{'le' if last > first else 'be'}"


def unmarked_codec(start: bytes) -> str | None:
    """The codec of bytes without a byte-order mark, as far as zero bytes show it.

    UTF-16 has a zero in every second byte where letters are Latin. None where the bytes hold zeros
    and are not UTF-16, so that they are no text; UTF-8 where they hold none.
    """
    if b"\0" not in start:
        return "utf-8"
    high, low = start[0::2].count(0), start[1::2].count(0)
    if min(high, low) > _FEW * max(high, low) or max(high, low) < len(start) / 4:
        return None
    return "utf-16-le" if low > high else "utf-16-be"
