"""`make` says in one sentence what is wrong with a Python that cannot run the project."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the project's Makefile in a folder that has nothing else."""
    # A make that runs the tests passes its own level and options on.
    environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    shutil.copy(MAKEFILE, folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    program = shutil.which("make")
    assert program is not None
    return subprocess.run(
        [program, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def write_python(folder: Path, version: str, *, ensurepip: bool) -> Path:
    """Write a program with the version of a Python, with or without ensurepip."""
    path = folder / "python3"
    status = 0 if ensurepip else 1
    path.write_text(
        f'#!/bin/sh\ncase "$2" in *ensurepip*) exit {status};; *version*) echo {version};; esac\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("target", ["serve", "test"])
@pytest.mark.parametrize("version", ["3.10.12", "2.7.18", "3.9.1"])
def test_an_old_python_is_named_before_pip_runs(tmp_path: Path, target: str, version: str) -> None:
    """The sentence has the version that was found, and a command that works."""
    python = write_python(tmp_path, version, ensurepip=True)

    run = make(tmp_path, target, f"PYTHON={python}")

    sentence, *rest = run.stderr.splitlines()
    assert run.returncode != 0
    assert f"Onward needs Python 3.11 or newer; {python} is {version}." in sentence
    assert f"for example: make {target} PYTHON=python3.11" in sentence
    assert all(line.startswith("make: ***") for line in rest)
    assert run.stdout == ""
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """A wrong value of PYTHON is in the sentence."""
    run = make(tmp_path, "serve", "PYTHON=python3.99")

    assert "python3.99 is not on this machine" in run.stderr


def test_a_python_without_ensurepip_is_explained(tmp_path: Path) -> None:
    """Debian has it in another package; no incomplete environment is left."""
    python = write_python(tmp_path, "3.12.3", ensurepip=False)

    run = make(tmp_path, "serve", f"PYTHON={python}")

    assert run.returncode != 0
    assert "install its package python3-venv" in run.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("version", ["3.11.0", "3.14.2", "3.20.0"])
def test_a_new_python_creates_the_environment(tmp_path: Path, version: str) -> None:
    """The next command is that of the virtual environment."""
    python = write_python(tmp_path, version, ensurepip=True)

    run = make(tmp_path, "serve", f"PYTHON={python}")

    assert f"{python} -m venv .venv" in run.stdout
    assert "Onward needs" not in run.stderr
