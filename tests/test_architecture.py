"""The structure of the code as tables: allowed imports, and the sizes of files and functions."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "training")

# Each part of the project, and the parts it may import: only parts above it in this table.
# A part is the longest prefix named here.
ALLOWED: Mapping[str, set[str]] = {
    "service.spelling": set(),
    # The client, which needs httpx and nothing else of this project.
    "service.sdk": set(),
    "service.client": {"service.sdk"},
    "service.errors": {"service.spelling"},
    "service.settings": {"service.spelling"},
    "service.filetypes": set(),
    # Limits of all requests, which are checked before work starts.
    "service.limits": {"service.errors", "service.settings"},
    "service.decompression": {"service.errors", "service.limits"},
    # What training shares.
    "service.timetext": set(),
    "service.numbertext": set(),
    "service.freetext": set(),
    "service.bundle": {"service.spelling", "service.timetext"},
    "service.tabletext": set(),
    "service.values": {"service.bundle", "service.spelling", "service.tabletext"},
    "service.records": {"service.errors", "service.tabletext", "service.values"},
    # Parquet, Arrow and workbooks as text; the service reads those of clients in processes.
    "service.tablefiles": {
        "service.errors",
        "service.filetypes",
        "service.limits",
        "service.records",
        "service.settings",
        "service.spelling",
        "service.values",
    },
    "service.imaging": {"service.bundle", "service.filetypes"},
    "service.predictions": {"service.bundle"},
    "service.observability": set(),
    "service.engine": {
        "service.bundle",
        "service.errors",
        "service.observability",
        "service.settings",
    },
    "service.codecs": {
        "service.bundle",
        "service.engine",
        "service.errors",
        "service.filetypes",
        "service.freetext",
        "service.imaging",
        "service.limits",
        "service.predictions",
        "service.records",
        "service.settings",
        "service.spelling",
        "service.tabletext",
        "service.timetext",
        "service.values",
    },
    "service.scoring": {
        "service.bundle",
        "service.codecs",
        "service.engine",
        "service.errors",
        "service.observability",
        "service.settings",
    },
    "service.explain": {"service.engine"},
    "service.shadow": {
        "service.bundle",
        "service.codecs",
        "service.engine",
        "service.observability",
        "service.predictions",
    },
    # The coordination of several processes.
    "service.workers": {
        "service.engine",
        "service.errors",
        "service.observability",
        "service.settings",
    },
    "service.api": {
        "service.bundle",
        "service.codecs",
        "service.decompression",
        "service.engine",
        "service.errors",
        "service.explain",
        "service.filetypes",
        "service.freetext",
        "service.imaging",
        "service.limits",
        "service.numbertext",
        "service.observability",
        "service.predictions",
        "service.scoring",
        "service.settings",
        "service.shadow",
        "service.spelling",
        "service.tablefiles",
        "service.tabletext",
        "service.timetext",
        "service.values",
        "service.workers",
    },
    # Processes, sockets and HTTP/1.1.
    "service.server": {
        "service.api",
        "service.engine",
        "service.errors",
        "service.limits",
        "service.observability",
        "service.settings",
        "service.workers",
    },
    "service.app": {
        "service.api",
        "service.codecs",
        "service.engine",
        "service.limits",
        "service.observability",
        "service.server",
        "service.settings",
        "service.shadow",
        "service.tablefiles",
        "service.workers",
    },
    # The same parts without a server: a command passes files where HTTP passes bodies.
    "service.cli": {
        "service.bundle",
        "service.codecs",
        "service.decompression",
        "service.engine",
        "service.errors",
        "service.filetypes",
        "service.limits",
        "service.observability",
        "service.scoring",
        "service.settings",
        "service.spelling",
        "service.tablefiles",
        "service.tabletext",
    },
    "service.__main__": {
        "service.app",
        "service.bundle",
        "service.cli",
        "service.engine",
        "service.errors",
        "service.observability",
        "service.server",
        "service.settings",
        "service.spelling",
        "service.workers",
    },
    # Training, from a recipe to a published bundle.
    "training.errors": set(),
    "training.library_files": set(),
    "training.mlflow": {"service.spelling", "training.errors", "training.library_files"},
    "training.recipe": {
        "service.bundle",
        "service.spelling",
        "service.tabletext",
        "service.timetext",
        "training.errors",
    },
    "training.data": {
        "service.bundle",
        "service.errors",
        "service.filetypes",
        "service.freetext",
        "service.records",
        "service.spelling",
        "service.tablefiles",
        "service.tabletext",
        "service.timetext",
        "service.values",
        "training.errors",
        "training.recipe",
    },
    "training.onnx_files": {"service.bundle", "training.data", "training.errors"},
    "training.model": {
        "service.bundle",
        "service.predictions",
        "training.data",
        "training.errors",
        "training.onnx_files",
        "training.recipe",
    },
    "training.fit": {"training.errors", "training.model", "training.recipe"},
    "training.fit_together": {
        "training.errors",
        "training.fit",
        "training.model",
        "training.recipe",
    },
    "training.learn": {
        "training.data",
        "training.fit",
        "training.fit_together",
        "training.model",
        "training.recipe",
    },
    "training.images": {
        "service.bundle",
        "service.filetypes",
        "service.imaging",
        "service.predictions",
        "service.spelling",
        "training.data",
        "training.errors",
        "training.fit",
        "training.model",
        "training.recipe",
    },
    "training.evaluation": {
        "service.bundle",
        "service.predictions",
        "service.spelling",
        "training.data",
        "training.errors",
        "training.images",
        "training.learn",
        "training.model",
        "training.onnx_files",
        "training.recipe",
    },
    "training.export": {
        "service.bundle",
        "service.predictions",
        "service.timetext",
        "training.data",
        "training.errors",
        "training.evaluation",
        "training.images",
        "training.model",
        "training.onnx_files",
        "training.recipe",
    },
    "training.report": {
        "service.bundle",
        "service.imaging",
        "service.numbertext",
        "service.predictions",
        "service.spelling",
        "training.data",
        "training.evaluation",
        "training.fit",
        "training.images",
        "training.learn",
        "training.model",
        "training.recipe",
    },
    "training.autorecipe": {
        "service.bundle",
        "service.imaging",
        "service.spelling",
        "service.tabletext",
        "service.timetext",
        "service.values",
        "training.data",
        "training.errors",
        "training.images",
        "training.recipe",
    },
    # The runs and the commands.
    "training": {
        "service.bundle",
        "service.imaging",
        "service.predictions",
        "service.spelling",
        "service.tabletext",
        "training.autorecipe",
        "training.data",
        "training.errors",
        "training.evaluation",
        "training.export",
        "training.images",
        "training.learn",
        "training.library_files",
        "training.mlflow",
        "training.model",
        "training.onnx_files",
        "training.recipe",
        "training.report",
    },
}

# Each library, and the only modules and packages that may import it.
OWNERS: Mapping[str, set[str]] = {
    "onnxruntime": {"service.engine.session", "training.onnx_files"},
    "prometheus_client": {"service.observability.exposition"},
    "fastapi": {"service.api", "service.app"},
    "starlette": {"service.api", "service.app"},
    "uvicorn": {"service.__main__", "service.server"},
    "httptools": {"service.server.fast_path", "service.server.limited_protocol"},
    "python_multipart": {"service.api.body", "service.api.native.forms"},
    "simdjson": {"service.codecs.json_reader"},
    "orjson": {
        "service.api",
        "service.codecs",
        "service.observability",
        "service.values",
        "service.workers",
    },
    "pydantic_settings": {"service.settings"},
    "torch": {"training"},
    "PIL": {"service.imaging"},
    "sklearn": {"training"},
    "scipy": {"training"},
    "threadpoolctl": {"training.model.boosting"},
    "matplotlib": {"training"},
    "polars": {"service.tablefiles", "training"},
    "onnx": {"training"},
    "onnx_ir": {"training.export.merging"},
    "skl2onnx": {"training.export.onnx_export"},
    "jinja2": {"training.report.page"},
    "optuna": {"training.search"},
    "httpx": {"service.sdk"},
    "rich": {"training.console", "training.fit"},
    "yaml": {"training.mlflow"},
}
# Arrays and schemas, which any module may use.
WITHOUT_OWNER = {"numpy", "pydantic", "pydantic_core"}

# What the contract may import: itself, the standard library and these.
CONTRACT_LIBRARIES = {"pydantic"}

LONGEST_FUNCTION = {"training.fit": 80, "training.images.fit": 80}
LONGEST_FUNCTION_ELSEWHERE = 60
LONGEST_FILE = 450
NINTH_DECILE_OF_FUNCTIONS = 26


@dataclass(frozen=True)
class Import:
    """That ``importer`` imports ``imported``, and whether inside a function."""

    importer: str
    imported: str
    hidden: bool


@cache
def sources(root: Path) -> dict[str, ast.Module]:
    """The parsed modules of both packages by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text())
    return found


def imports(modules: Mapping[str, ast.Module]) -> Iterator[Import]:
    """Every import of every module."""
    for name, tree in modules.items():
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                parent = node.module or ""
                names = [f"{parent}.{alias.name}" for alias in node.names]
                targets = [target if target in modules else parent for target in names]
            else:
                continue
            for target in targets:
                yield Import(name, target, id(node) in inside)


def part_of(module: str) -> str | None:
    """The longest part in the table that holds the module."""
    holding = [part for part in ALLOWED if module == part or module.startswith(f"{part}.")]
    return max(holding, key=len, default=None)


def is_within(module: str, owners: set[str]) -> bool:
    return any(module == owner or module.startswith(f"{owner}.") for owner in owners)


def violations(root: Path) -> list[str]:
    """Every import that the tables forbid."""
    broken = []
    for found in imports(sources(root)):
        library = found.imported.partition(".")[0]
        importer, imported = part_of(found.importer), part_of(found.imported)
        if importer and imported and imported not in ALLOWED[importer] | {importer}:
            broken.append(f"{found.importer} must not import {found.imported}")
        if library in OWNERS and not is_within(found.importer, OWNERS[library]):
            broken.append(f"{found.importer} must not import {library}")
        known = library in sys.stdlib_module_names | CONTRACT_LIBRARIES | set(PACKAGES)
        if importer == "service.bundle" and not known:
            broken.append(f"the contract must not import {library}")
        if found.hidden:
            broken.append(f"{found.importer} imports {found.imported} inside a function")
    return broken


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and length in lines of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_every_import_is_allowed() -> None:
    """The tables at the top of this file list all allowed imports."""
    assert violations(ROOT) == []


def test_every_library_has_an_owner() -> None:
    """A library that becomes a dependency is added to the table above."""
    imported = {found.imported.partition(".")[0] for found in imports(sources(ROOT))}

    libraries = imported - sys.stdlib_module_names - set(PACKAGES)

    assert libraries == OWNERS.keys() | WITHOUT_OWNER


def test_parts_import_only_parts_above_them_in_the_table() -> None:
    """No two parts can import each other if this order is obeyed."""
    above: set[str] = set()
    for part, allowed in ALLOWED.items():
        assert allowed <= above, part
        above.add(part)


def test_imports_form_no_cycle() -> None:
    """Sorting the modules by their imports succeeds."""
    modules = sources(ROOT)
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for found in imports(modules):
        if found.imported in modules:
            edges[found.importer].add(found.imported)

    order = list(TopologicalSorter(edges).static_order())

    assert len(order) == len(modules)


def siblings(edges: set[tuple[str, str]], package: str) -> dict[str, set[str]]:
    """Each module and each package directly inside a package, with those that it imports."""
    level = package.count(".") + 2
    graph: dict[str, set[str]] = {}
    for importer, imported in edges:
        if importer.startswith(f"{package}.") and imported.startswith(f"{package}."):
            one, other = (".".join(name.split(".")[:level]) for name in (importer, imported))
            graph.setdefault(one, set()).update({other} - {one})
    return graph


def cyclic_packages(modules: Mapping[str, ast.Module]) -> list[str]:
    """The packages whose parts import each other, directly or through other parts."""
    edges = {(found.importer, found.imported) for found in imports(modules)}
    edges = {(importer, imported) for importer, imported in edges if imported in modules}
    names = [name.split(".") for name in modules]
    packages = {".".join(name[:length]) for name in names for length in range(1, len(name))}
    cyclic = []
    for package in sorted(packages):
        try:
            TopologicalSorter(siblings(edges, package)).prepare()
        except CycleError as error:
            cyclic.append(f"{package}: {' -> '.join(error.args[1])}")
    return cyclic


def test_no_two_packages_import_each_other() -> None:
    """At every level, the packages and modules of a package can be sorted by their imports."""
    assert cyclic_packages(sources(ROOT)) == []


def test_packages_that_import_each_other_are_found() -> None:
    """They are found even if no two of their modules import each other."""
    modules = {
        "training.data.split": ast.parse("import training.model.losses"),
        "training.data.table": ast.parse(""),
        "training.model.losses": ast.parse(""),
        "training.model.networks": ast.parse("from training.data import table"),
    }

    (cycle,) = cyclic_packages(modules)

    assert "training.data" in cycle
    assert "training.model" in cycle


@pytest.mark.parametrize(
    ("module", "line", "violation"),
    [
        ("service/engine/batching.py", "import fastapi", "must not import fastapi"),
        ("service/api/body.py", "import simdjson", "must not import simdjson"),
        ("service/app.py", "import torch", "service.app must not import torch"),
        ("service/app.py", "def f():\n    import torch", "inside a function"),
        ("service/engine/model.py", "from service.api import plain", "must not import service.api"),
        ("service/bundle/store.py", "import numpy", "the contract must not import numpy"),
        (
            "service/observability/metrics.py",
            "from service.settings import Settings",
            "must not import",
        ),
        (
            "training/__init__.py",
            "from service.app import create_app",
            "must not import service.app",
        ),
    ],
)
def test_a_forbidden_import_is_found(
    tmp_path: Path, module: str, line: str, violation: str
) -> None:
    """Planted into a copy of one file, each kind of violation is reported."""
    planted = tmp_path / module
    planted.parent.mkdir(parents=True)
    planted.write_text((ROOT / module).read_text() + f"\n{line}\n")
    (tmp_path / "service" / "api").mkdir(parents=True, exist_ok=True)
    (tmp_path / "service" / "api" / "plain.py").write_text("")

    assert any(violation in found for found in violations(tmp_path))


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    """No re-exports, so that no cycle can run through a package."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            tree = ast.parse(path.read_text())
            assert len(tree.body) == 1, path
            assert ast.get_docstring(tree), path


def test_files_and_functions_stay_small() -> None:
    """A few long functions make code hard to read."""
    modules = sources(ROOT)
    lengths = []
    for name, tree in modules.items():
        for function, length in functions(tree):
            most = LONGEST_FUNCTION.get(name, LONGEST_FUNCTION_ELSEWHERE)
            assert length <= most, f"{name}.{function} has {length} lines"
            lengths.append(length)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= LONGEST_FILE, path

    assert sorted(lengths)[int(len(lengths) * 0.9)] <= NINTH_DECILE_OF_FUNCTIONS


def test_the_client_needs_httpx_alone() -> None:
    """An interpreter that imports it loads no other library of this project."""
    # httpx imports rich for its own command, if it is installed.
    program = (
        "import sys, service.client\n"
        "parts = {'service', 'service.client', 'service.sdk'}\n"
        "own = {name for name in sys.modules if name.partition('.')[0] == 'service'}\n"
        "others = {name for name in own - parts if not name.startswith('service.sdk.')}\n"
        f"libraries = {set(OWNERS) | WITHOUT_OWNER | {'pandas'}} - {{'httpx', 'rich'}}\n"
        "print(sorted(others | (libraries & sys.modules.keys())))\n"
    )

    seen = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert seen.stdout.strip() == "[]"


def test_the_service_needs_neither_torch_nor_training() -> None:
    """An interpreter that imports the service loads neither of them."""
    program = (
        "import sys, service.app, service.__main__\n"
        "heavy = {'torch', 'training', 'onnx', 'sklearn', 'polars', 'matplotlib', 'scipy'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )

    seen = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert seen.stdout.strip() == "[]"
