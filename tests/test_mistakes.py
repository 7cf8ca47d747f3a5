"""The error message of each common mistake states the position and a remedy."""

from tests.conftest import ShippedClient
from tests.mistakes import MISTAKES, on_page, section, sentence


def test_the_page_has_the_message_of_each_mistake(shipped_client: ShippedClient) -> None:
    """The list in docs/http.md equals the output of `python -m tests.mistakes`."""
    assert section(shipped_client) == on_page()


def test_no_sentence_is_left_without_a_remedy(shipped_client: ShippedClient) -> None:
    """Each message states the valid input."""
    remedies = (
        *("send", "write", "add", "put", "rename", "use", "save", "say", "leave", "check"),
        *("did you mean", "available", "remove", "give", "close", "fix", "list", "required"),
        *("needs it", "known names", "must be", "chooses among", "swapped?"),
        *("quote", "multiply"),
    )

    assert len(MISTAKES) >= 30
    for mistake in MISTAKES:
        _, described = sentence(shipped_client, mistake)
        assert any(remedy in described.lower() for remedy in remedies), (mistake.what, described)
