"""Identifiers, comments and documents use the terms of widely used libraries.

The glossary in `docs/architecture.md` gives the terms of the project.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "training", "bench", "tests")

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

# Modules about the format of CSV files, which Python's csv module calls `Dialect`.
CSV_MODULES = (
    "service/codecs/csv_",
    "service/tabletext.py",
    "training/data/csv.py",
)

# Words with an ordinary meaning in sentences; only identifiers must not contain them.
ORDINARY_IN_SENTENCES = {"ask", "kept", "look", "place", "prove", "stand", "tell"}
CODE = re.compile(r"```.*?```|``.*?``|`[^`\n]*`", re.DOTALL)

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


def prose(root: Path, packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each module with its docstrings and comments, without code in backquotes."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            module, source = path.relative_to(root).as_posix(), path.read_text()
            texts = [
                node.value.value
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ]
            tokens = tokenize.generate_tokens(io.StringIO(source).readline)
            texts += [token.string for token in tokens if token.type == tokenize.COMMENT]
            for text in texts:
                yield module, CODE.sub("", text)


def violations(texts: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The names or texts that contain each forbidden word, with their modules."""
    found: dict[str, list[str]] = {}
    for module, text in texts:
        for word in forbidden_words(text):
            if word == "dialect" and module.startswith(CSV_MODULES):
                continue
            found.setdefault(word, []).append(f"{module}: {text.strip()}")
    return found


def require_none(found: Mapping[str, Sequence[str]]) -> None:
    """Fail with the violations and what to write instead."""
    replacements = {forms.split()[0]: instead for forms, instead in REPLACEMENTS.items()}
    messages = [
        "\n".join([f"Write {replacements[word]!r} instead of {word!r} in:", *texts])
        for word, texts in found.items()
    ]
    assert not found, "\n\n".join(messages)


def test_no_identifier_contains_a_forbidden_word() -> None:
    """All names that the packages define are checked, also those of modules."""
    require_none(violations(identifiers(ROOT, PACKAGES)))


def test_no_docstring_or_comment_contains_a_forbidden_word() -> None:
    """Words with an ordinary meaning are allowed in sentences."""
    found = violations(prose(ROOT, PACKAGES))

    require_none({k: texts for k, texts in found.items() if k not in ORDINARY_IN_SENTENCES})


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
    assert set(violations(identifiers(tmp_path, ["service"]))) == {
        *expected.split(),
        "answer",
        "asleep",
        "settle",
    }


def test_docstrings_and_comments_are_checked(tmp_path: Path) -> None:
    """Code in backquotes and other strings are not sentences."""
    module = tmp_path / "service" / "module.py"
    module.parent.mkdir()
    module.write_text(
        '"""Called anew."""\n'
        'value = "whoever"  # a nought\n'
        '"""A picture of ``callers`` and `beside`."""\n'
    )

    assert set(violations(prose(tmp_path, ["service"]))) == {"anew", "nought", "picture"}


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
