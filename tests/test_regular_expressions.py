"""Every regular expression of the service takes linear time for any text."""

import ast
import importlib
import pkgutil
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import service
from service.records import quote_patterns

AnyPattern = re.Pattern[Any]

SIZES = (300, 3_000, 30_000)
# Ten times the text may take this many times as long; quadratic time would take 100 times as long.
MOST_GROWTH = 30
NOISE_SECONDS = 0.01
# Characters of which pairs alternate.
PAIRED = 12
# Functions that may begin a match anywhere.
ANYWHERE = {"search", "sub", "subn", "split", "findall", "finditer"}
# A source without this neither compiles a pattern nor searches with one.
MATCHING = re.compile(r"\bre\.|\.(?:search|subn?|findall|finditer)\(")
# A character of each class that patterns distinguish, and one of no class.
USUAL = "1aA_ \n\"\\.,;:\t\r'-+/#\0\u00b2€\udcff"


def modules() -> Iterator[tuple[str, str, Mapping[str, object]]]:
    """Every module of the service: its name, its source and its globals."""
    for found in pkgutil.walk_packages(service.__path__, "service."):
        module = importlib.import_module(found.name)
        assert module.__file__ is not None
        yield found.name, Path(module.__file__).read_text(), vars(module)


def calls_of_methods(source: str) -> list[tuple[ast.Call, ast.Attribute]]:
    """Each call of a method or of a module's function; none in a source without patterns."""
    if MATCHING.search(source) is None:
        return []
    return [
        (node, node.func)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]


def within(value: object, depth: int = 3) -> Iterator[AnyPattern]:
    """The compiled patterns that a value holds."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth and isinstance(value, Mapping):
        for part in value.values():
            yield from within(part, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from within(part, depth - 1)
    elif depth and isinstance(value, type) and value.__module__.startswith("service"):
        for part in vars(value).values():
            yield from within(part, depth - 1)


def patterns() -> Iterator[tuple[str, AnyPattern, bool]]:
    """Each pattern: where it is, the pattern, and whether it may begin a match anywhere."""
    for name, source, values in modules():
        calls = calls_of_methods(source)
        # Names and functions of re on which a search is called; "" stands for other expressions.
        searched = {
            method.value.id if isinstance(method.value, ast.Name) else ""
            for _, method in calls
            if method.attr in ANYWHERE - {"split"}
        }
        for key, value in values.items():
            for pattern in within(value):
                anywhere = key in searched or (not isinstance(value, re.Pattern) and bool(searched))
                yield f"{name}.{key}: {pattern.pattern!r}", pattern, anywhere
        for call, method in calls:
            if (
                isinstance(method.value, ast.Name)
                and method.value.id == "re"
                and call.args
                and isinstance(call.args[0], ast.Constant)
                and isinstance(call.args[0].value, str | bytes)
            ):
                literal: AnyPattern = re.compile(call.args[0].value)
                where = f"{name}, line {call.lineno}: {literal.pattern!r}"
                yield where, literal, method.attr in ANYWHERE


def alphabet(pattern: AnyPattern) -> str:
    """Characters for hostile texts: the pattern's own, and one of each common class."""
    text = pattern.pattern
    own = text.decode("latin-1") if isinstance(text, bytes) else text
    letters = dict.fromkeys(letter for letter in own if letter not in "()?*[]{}|^$")
    known = [letter for letter in USUAL if isinstance(text, str) or ord(letter) < 256]
    return "".join(dict.fromkeys([*known, *letters]))


def prefixes(pattern: AnyPattern) -> list[str]:
    """Words of the pattern, after which its repetitions begin."""
    text = pattern.pattern
    own = text.decode("latin-1") if isinstance(text, bytes) else text
    words = re.findall(r"[A-Za-z0-9_<!?:=/\"{-]+", re.sub(r"\\[a-zA-Z]|[{]\d*,?\d*[}]", " ", own))
    return ["", *sorted(set(words), key=len, reverse=True)[:4]]


def hostile(pattern: AnyPattern, size: int) -> Iterator[str | bytes]:
    """Long runs, runs before a mismatch, alternating pairs, and openings that nothing closes."""
    letters = alphabet(pattern)
    texts = [run for letter in letters for run in (letter * size, f"{letter * size}\x01")]
    for first, second in permutations(letters[:PAIRED], 2):
        texts.append(f"1{(first + second) * (size // 2)}\x01")
    for prefix in prefixes(pattern):
        texts += [f"{prefix}{letter * size}\x01" for letter in letters]
        texts.append(f"{(prefix * size)[:size]}\x01")
    for text in texts:
        yield text if isinstance(pattern.pattern, str) else text.encode("latin-1", "ignore")


def seconds(call: Callable[[], object]) -> float:
    """CPU time of a call."""
    started = time.thread_time()
    call()
    return time.thread_time() - started


def too_slow(pattern: AnyPattern, *, anywhere: bool) -> str | None:
    """The text on which a pattern's time grows faster than the text does."""
    ways: dict[str, Callable[[str | bytes], object]] = {
        "match": pattern.match,
        "fullmatch": pattern.fullmatch,
    }
    if anywhere:
        ways["finditer"] = lambda text: deque(pattern.finditer(text), maxlen=0)
    for texts in zip(*(hostile(pattern, size) for size in SIZES), strict=True):
        for name, way in ways.items():
            before, *longer = [partial(way, text) for text in texts]
            most = seconds(before)
            for call, size in zip(longer, SIZES[1:], strict=True):
                allowed = MOST_GROWTH * most + NOISE_SECONDS
                # Measured twice, because a different process may disturb the first measurement.
                if (most := seconds(call)) > allowed and seconds(call) > allowed:
                    return f"{name}, {size} of {texts[0][:20]!r}…: {most:.4f} s"
    return None


FOUND = {where: (pattern, anywhere) for where, pattern, anywhere in patterns()} | {
    f"quotes between {separator!r}, escape {escape}, {index}": (pattern, False)
    for separator in ",|^"
    for escape in (None, "\\")
    for index, pattern in enumerate(quote_patterns(separator, escape=escape))
}


# A pattern that several modules import, or write alike, is measured once.
DISTINCT = {found: where for where, found in FOUND.items()}


@pytest.mark.parametrize("where", DISTINCT.values())
def test_time_grows_at_most_linearly(where: str) -> None:
    """A text ten times as long takes about ten times as long."""
    pattern, anywhere = FOUND[where]

    assert too_slow(pattern, anywhere=anywhere) is None


def test_patterns_are_found() -> None:
    """Patterns are found in globals, in containers, and as literals within functions."""
    assert len(FOUND) > 30
    assert any("tabletext._GROUPED" in where for where in FOUND)
    assert any("line" in where and "header" in where for where in FOUND)


@pytest.mark.parametrize(
    ("pattern", "anywhere"),
    [
        (r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", False),
        (r"[+-]?\d*[.,]?\d+(?:[eE][+-]?\d+)?", False),
        (r"\w*\w*,", False),
        (r"\d++,\d++", True),
        (r'(\w+)="((?:[^"\\]|\\.)*)"', True),
        (r'"(?:\\.|[^"\\\n])*"', True),
        (r"\s*,", True),
    ],
)
def test_a_slow_pattern_is_found(pattern: str, *, anywhere: bool) -> None:
    """Adjacent and nested repetitions, and searches that scan the rest from every position."""
    assert too_slow(re.compile(pattern), anywhere=anywhere) is not None
