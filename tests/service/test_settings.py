"""Settings are read from the environment or the command line, and each one is described."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_every_setting_has_a_description() -> None:
    """Each description has at least two clauses: the meaning, and how to choose a value."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.count(".") + field.description.count(";") >= 2, name


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONWARD_<NAME> is used unless a value is passed."""
    monkeypatch.setenv("ONWARD_PORT", "8123")

    assert Settings().port == 8123
    assert Settings(port=9000).port == 9000


@pytest.mark.parametrize(
    "wrong", [{"port": 70_000}, {"device": "tpu"}, {"workers": -1}, {"prot": 8000}]
)
def test_invalid_settings_are_rejected(wrong: dict[str, object]) -> None:
    """Values out of range, unknown words and misspelled names are errors."""
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("1kB", 1000), ("64MB", 64_000_000), ("64MiB", 67_108_864), ("2 GiB", 2**31)],
)
def test_a_size_may_have_a_unit(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    """Decimal units are powers of 1000, binary ones of 1024."""
    monkeypatch.setenv("ONWARD_MAX_BODY_BYTES", text)

    assert Settings().max_body_bytes == size
