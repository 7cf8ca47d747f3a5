"""Publishing: what stands in the way is said before anything is fitted."""

from pathlib import Path

import pytest

from training.__main__ import main
from training.errors import PublishError
from training.export.publish import check_folder


def test_a_folder_that_is_yet_to_be_made_will_do(tmp_path: Path) -> None:
    """Looking makes nothing."""
    check_folder(tmp_path / "deep" / "models", "line")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("blocked", ["models", "models/line"])
def test_a_file_in_the_way_is_named(blocked: str, tmp_path: Path) -> None:
    """Neither the folder of models nor the model's own can be a file."""
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("")

    with pytest.raises(PublishError, match=rf"{blocked} is a file.*--models"):
        check_folder(tmp_path / "models", "line")


def test_nothing_is_fitted_for_a_folder_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table, which does not exist, is not even looked for."""
    (tmp_path / "models").write_text("")
    absent = ["california_mlp", "data.source=nowhere", "--models", str(tmp_path / "models")]

    assert main(absent) == 2

    assert "models is a file" in capsys.readouterr().err


def test_a_path_that_cannot_be_ends_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the file system cannot hold is found before the fit as well."""
    deep = tmp_path.joinpath(*["d" * 200] * 20)

    assert main(["line", "--models", str(deep)]) == 2

    assert "No model can be published" in capsys.readouterr().err
