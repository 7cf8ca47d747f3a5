"""Identifiers use the terms of the libraries that readers already know.

The glossary in `docs/architecture.md` gives the terms of the project.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "training", "bench")
TESTS = ("tests",)

# Words that no identifier may contain: all forms of the word, and what to write instead.
REPLACEMENTS: Mapping[str, str] = {
    "anew": "again",
    "answer answers answered answering": "prediction or response",
    "ask asks asked asking": "request, requested",
    "asleep": "lazy or not loaded",
    "beside besides": "next_to, compared_with, baseline",
    "caller callers": "client",
    "dialect dialects": "protocol",
    "gone": "closed, removed or disconnected",
    "kept": "cached, stored or retained",
    "look looks looked looking": "scan, find or lookup",
    "meant": "mapped_error, expected or intended",
    "mend mends mended mending": "fix",
    "nought noughts": "zero",
    "picture pictures": "image",
    "place places placed placing": "slot or position",
    "prove proves proved proven proving": "self_test, test or verify",
    "refuse refuses refused refusing refusal refusals": "reject",
    "settle settles settled settling": "flush or finish",
    "stand stands standing stood": "be",
    "tell tells telling told": "report, notify or log",
    "thereby": "so",
    "wake wakes waking woke woken awake": "load",
    "whoever": "anyone",
    "wish wishes wished wishing": "option",
}

# Terms of other libraries that contain one of these words, for example csv.Dialect.
STANDARD_TERMS = {("csv", "dialect"), ("look", "up")}

# Modules about the format of CSV files, where a dialect is what Python's csv module calls so.
CSV_MODULES = (
    "service/codecs/csv_",
    "service/tabletext.py",
    "training/data/csv.py",
)

# Words with an ordinary meaning in sentences; only identifiers must not contain them.
ORDINARY_IN_SENTENCES = {"ask", "kept", "look", "place", "prove", "stand", "tell"}
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)

# Identifiers of tests that still contain a word while they are being renamed, by word.
# A rename lowers its number, and removes the line at zero. No number may rise.
CEILINGS: Mapping[str, int] = {
    "answer": 1,
    "ask": 2,
    "beside": 1,
    "gone": 1,
    "kept": 2,
    "place": 8,
    "tell": 5,
    "wish": 1,
}

FIRST_FORM = {form: forms.split()[0] for forms in REPLACEMENTS for form in forms.split()}


def words_of(identifier: str) -> list[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]


def forbidden_words(identifier: str) -> set[str]:
    """The first form of each forbidden word that an identifier contains."""
    words = words_of(identifier)
    standard = {
        position
        for first, pair in enumerate(pairwise(words))
        if pair in STANDARD_TERMS
        for position in (first, first + 1)
    }
    return {
        FIRST_FORM[word]
        for position, word in enumerate(words)
        if word in FIRST_FORM and position not in standard
    }


def names_defined_by(node: ast.AST) -> list[str]:
    """The names that one node of a syntax tree defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return [node.attr]
    if isinstance(node, ast.alias | ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        name = node.asname if isinstance(node, ast.alias) else node.name
        return [name] if name else []
    return [node.rest] if isinstance(node, ast.MatchMapping) and node.rest else []


def identifiers(root: Path, packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each module with its own name and with every name that it defines, each pair once."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            module = path.relative_to(root).as_posix()
            yield module, path.parent.name if path.stem == "__init__" else path.stem
            defined = (names_defined_by(node) for node in ast.walk(ast.parse(path.read_text())))
            for name in sorted({name for names in defined for name in names}):
                yield module, name


def violations(root: Path, packages: Sequence[str] = PACKAGES) -> dict[str, list[str]]:
    """The identifiers that contain each forbidden word, with their modules."""
    found: dict[str, list[str]] = {}
    for module, name in identifiers(root, packages):
        for word in forbidden_words(name):
            if word == "dialect" and module.startswith(CSV_MODULES):
                continue
            found.setdefault(word, []).append(f"{module}: {name}")
    return found


@pytest.mark.parametrize(("packages", "ceilings"), [(PACKAGES, {}), (TESTS, CEILINGS)])
def test_no_new_identifier_contains_a_forbidden_word(
    packages: Sequence[str], ceilings: Mapping[str, int]
) -> None:
    """Standard terms only; the message lists the identifiers and what to write instead."""
    found = violations(ROOT, packages)

    for forms, replacement in REPLACEMENTS.items():
        word = forms.split()[0]
        listed = found.get(word, [])
        message = "\n".join([f"Write {replacement!r} instead of {word!r} in:", *listed])
        assert len(listed) <= ceilings.get(word, 0), message


@pytest.mark.parametrize(
    ("identifier", "word"),
    [
        ("load_picture", "picture"),
        ("PicturesTable", "picture"),
        ("HTTPCaller", "caller"),
        ("_ASKED_AT", "ask"),
        ("placeholder", None),
        ("standard_replacement", None),
        ("CsvDialect", None),
        ("look_up", None),
    ],
)
def test_words_are_compared_within_identifiers(identifier: str, word: str | None) -> None:
    """Words count, not parts of words; terms of other libraries are allowed."""
    assert forbidden_words(identifier) == ({word} if word else set())


def test_every_kind_of_definition_is_checked(tmp_path: Path) -> None:
    """Modules, classes, functions, parameters, variables, attributes and imported names."""
    module = tmp_path / "service" / "callers.py"
    module.parent.mkdir()
    module.write_text(
        "import numpy as whoever\n"
        "class Picture:\n"
        "    nought: int = 0\n"
        "    def refuse(self, dialect, *, anew, **meant):\n"
        "        self.kept = [gone for gone in dialect]\n"
        "        with open('x') as place, open('y') as (wished, _):\n"
        "            pass\n"
        "        try:\n"
        "            pass\n"
        "        except OSError as told:\n"
        "            pass\n"
        "        match place:\n"
        "            case [answer, *asleep]:\n"
        "                pass\n"
        "            case {'key': _, **settled}:\n"
        "                pass\n"
    )

    expected = "caller whoever picture nought refuse dialect anew meant kept gone place wish tell"
    assert set(violations(tmp_path)) == {*expected.split(), "answer", "asleep", "settle"}


def test_the_documentation_contains_no_forbidden_word() -> None:
    """Names in code, such as those of metrics and settings, are not searched."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [
        f"{page.relative_to(ROOT)}: {word}"
        for page in pages
        for word in re.findall(r"[a-z]+", CODE.sub("", page.read_text()).lower())
        if FIRST_FORM.get(word, "ask") not in ORDINARY_IN_SENTENCES
    ]

    assert len(pages) > 10
    assert found == []
