"""The error message of each common mistake states the position and a remedy."""

from tests.conftest import StartApp
from tests.mistakes import MISTAKES, on_page, section, sentence
from tests.processes import ROOT


def test_the_page_has_the_message_of_each_mistake(start: StartApp) -> None:
    """The list in docs/http.md equals the output of `python -m tests.mistakes`."""
    assert section(start(models=ROOT / "models")) == on_page()


def test_no_sentence_is_left_without_a_remedy(start: StartApp) -> None:
    """Each message states the valid input."""
    client = start(models=ROOT / "models")
    remedies = (
        *("send", "write", "add", "put", "rename", "use", "save", "say", "leave", "check"),
        *("did you mean", "available", "remove", "give", "close", "fix", "list", "required"),
        *("needs it", "it takes", "must be", "chooses among", "swapped?"),
    )

    assert len(MISTAKES) >= 30
    for mistake in MISTAKES:
        _, described = sentence(client, mistake)
        assert any(remedy in described.lower() for remedy in remedies), (mistake.what, described)
