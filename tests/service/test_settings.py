"""Settings: each from the environment or the command line, and each one taught."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_every_setting_is_taught() -> None:
    """A description of one sentence is not enough to choose by."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.count(".") + field.description.count(";") >= 2, name


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONWARD_<NAME> is read when nothing is given."""
    monkeypatch.setenv("ONWARD_PORT", "8123")

    assert Settings().port == 8123
    assert Settings(port=9000).port == 9000


@pytest.mark.parametrize(
    "wrong", [{"port": 70_000}, {"device": "tpu"}, {"workers": -1}, {"prot": 8000}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """Out of range, unknown words and misspelt names are errors, not defaults."""
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)
