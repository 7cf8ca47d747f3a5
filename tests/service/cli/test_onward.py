"""``onward``, the console command, with and without the training extra."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from service.__main__ import TRAINING_COMMANDS, onward
from tests.models import publish_price

ROOT = Path(__file__).parents[3]
SERVICE_COMMANDS = (
    *("serve", "check", "score", "tune", "models"),
    *("publish", "rollback", "withdraw", "versions"),
)
# Libraries that are neither in the container nor installed by `make serve`.
TRAINING_LIBRARIES = (
    *("jinja2", "matplotlib", "onnx", "onnxscript", "optuna", "polars"),
    *("rich", "scipy", "skl2onnx", "sklearn", "torch"),
)


class Ended(NamedTuple):
    """The exit status and the output of a command."""

    code: int
    stdout: str
    stderr: str


INSTALL = (
    "to install it, run in the checkout: "
    '.venv/bin/python -m pip install -c constraints.txt --editable ".[training]"'
)


def without_training(*commands: Sequence[str]) -> list[Ended]:
    """Run commands, one after the other, where the libraries of training cannot be imported."""
    program = (
        "import contextlib, io, json, sys\n"
        f"sys.modules.update(dict.fromkeys({TRAINING_LIBRARIES!r}))\n"
        "from service.__main__ import onward\n"
        "def ended(words):\n"
        "    out, err, code = io.StringIO(), io.StringIO(), 0\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "        try:\n"
        "            code = onward(words)\n"
        "        except SystemExit as exit:\n"
        "            code = exit.code or 0\n"
        "    return code, out.getvalue(), err.getvalue()\n"
        "print(json.dumps([ended(words) for words in json.loads(sys.argv[1])]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [Ended(*each) for each in json.loads(done.stdout)]


def test_help_of_every_service_command_needs_no_training_extra() -> None:
    """The usage line has the name of the command."""
    done = without_training(*([command, "--help"] for command in SERVICE_COMMANDS))

    for command, ended in zip(SERVICE_COMMANDS, done, strict=True):
        assert ended.code == 0, ended.stderr
        assert ended.stdout.startswith(f"usage: onward {command}")
        assert ended.stderr == ""


def test_publish_and_rollback_need_no_training_extra(models: Path) -> None:
    """An operator's commands work where only the service is installed."""
    for _ in range(2):
        publish_price(models)
    options = ("--models", str(models))
    commands = (
        ("rollback", "price", *options),
        ("publish", "price", "2", *options),
        ("versions", "price", *options),
        ("withdraw", "price", "--alias", "stable", *options),
    )

    done = without_training(*commands)

    assert [each.code for each in done] == [0] * len(commands), done
    assert "version 1 serves again instead of version 2" in done[0].stdout
    assert "alias stable now points to version 2" in done[1].stdout


def test_a_training_command_says_what_to_install() -> None:
    """The exit status is 2, and the message is one line."""
    done = without_training(["train", "ice_cream"], ["evaluate"])

    for command, ended in zip(("train", "evaluate"), done, strict=True):
        assert ended.code == 2
        assert ended.stdout == ""
        assert ended.stderr.count("\n") == 1
        assert f"onward {command} needs the training extra; {INSTALL}" in ended.stderr


def test_help_of_a_training_command_says_what_it_does_and_what_to_install() -> None:
    """It succeeds without the extra, too."""
    done = without_training(*([command, "--help"] for command in TRAINING_COMMANDS))

    for (command, summary), ended in zip(TRAINING_COMMANDS.items(), done, strict=True):
        assert ended.code == 0, ended.stderr
        assert ended.stdout.startswith(f"usage: onward {command}")
        assert summary in ended.stdout
        assert INSTALL in ended.stdout
        assert ended.stderr == ""


def test_training_commands_reach_training(capsys: pytest.CaptureFixture[str]) -> None:
    """With the extra installed, `onward` runs the command of training."""
    assert onward(["list"]) == 0

    assert "ice_cream" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_without_a_command_all_are_listed(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command has its own line."""
    assert onward(words) == 0

    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert listed == [*SERVICE_COMMANDS, *TRAINING_COMMANDS]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("publsih", "There is no command 'publsih'; did you mean 'publish'?"),
        ("trian", "There is no command 'trian'; did you mean 'train'?"),
        ("xyzzy", "There is no command 'xyzzy'; onward --help lists the commands."),
    ],
)
def test_an_unknown_command_is_rejected_with_the_nearest_one(
    word: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 2, and the message suggests a command."""
    assert onward([word]) == 2

    assert capsys.readouterr().err == f"{sentence}\n"
