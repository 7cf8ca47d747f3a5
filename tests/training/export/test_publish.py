"""Publishing: an unusable folder is reported before the fit."""

from pathlib import Path

import pytest

from training.__main__ import main
from training.errors import PublishError
from training.export.publish import check_folder


def test_a_missing_folder_is_accepted(tmp_path: Path) -> None:
    """The check does not create it."""
    check_folder(tmp_path / "deep" / "models", "line")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("blocked", ["models", "models/line"])
def test_a_file_at_the_path_of_a_folder_is_rejected(blocked: str, tmp_path: Path) -> None:
    """Neither the models folder nor the folder of the model can be a file."""
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("")

    with pytest.raises(PublishError, match=rf"{blocked} is a file.*--models"):
        check_folder(tmp_path / "models", "line")


def test_the_folder_is_checked_before_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing table is not reported first."""
    (tmp_path / "models").write_text("")
    absent = ["california_mlp", "data.source=nowhere", "--models", str(tmp_path / "models")]

    assert main(absent) == 2

    assert "models is a file" in capsys.readouterr().err


def test_an_invalid_path_is_rejected_before_the_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints a message instead of a traceback."""
    deep = tmp_path.joinpath(*["d" * 200] * 20)

    assert main(["line", "--models", str(deep)]) == 2

    assert "No model can be published" in capsys.readouterr().err
