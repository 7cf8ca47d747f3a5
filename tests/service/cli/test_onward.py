"""``onward``, the console command, with and without the training extra."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import onward
from service.cli.training import TRAINING_COMMANDS
from tests.models import publish_price

ROOT = Path(__file__).parents[3]
SERVICE_COMMANDS = (
    *("serve", "check", "score", "tune", "models"),
    *("publish", "rollback", "withdraw", "versions"),
)
# Libraries that are neither in the container nor installed by `make serve`.
TRAINING_LIBRARIES = (
    *("jinja2", "matplotlib", "onnx", "onnxscript", "polars"),
    *("rich", "scipy", "skl2onnx", "sklearn", "torch"),
)


def without_training(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an interpreter that cannot import the libraries of training."""
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({TRAINING_LIBRARIES!r}))\n"
        "from service.__main__ import onward\n"
        "sys.exit(onward())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", SERVICE_COMMANDS)
def test_help_of_every_service_command_needs_no_training_extra(command: str) -> None:
    """The usage line has the name of the command."""
    done = without_training(command, "--help")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: onward {command}")
    assert done.stderr == ""


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

    done = [without_training(*words) for words in commands]

    assert [each.returncode for each in done] == [0] * len(commands), done
    assert "version 1 serves again instead of version 2" in done[0].stdout
    assert "alias stable now points to version 2" in done[1].stdout


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_training_command_says_what_to_install(command: str) -> None:
    """The exit status is 2, and the message is one line."""
    done = without_training(command, "--help")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"onward {command} needs the training extra: pip install 'onward[training]'" in (
        done.stderr
    )


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
    """The exit status is 2."""
    assert onward([word]) == 2

    assert capsys.readouterr().err == f"{sentence}\n"
