"""Numbers that outlive their process."""

from pathlib import Path

from service.pending import Pending


def test_the_last_that_was_kept_is_left(tmp_path: Path) -> None:
    """For whoever opens the file next; nothing once it was forgotten."""
    path = tmp_path / "0.pending"
    pending = Pending(path)
    assert pending.left is None

    for number in range(5):
        assert pending.keep([number, {"a": 1.5}])
    found = Pending(path).left
    pending.forget()

    assert found == [4, {"a": 1.5}]
    assert Pending(path).left is None


def test_what_has_no_room_leaves_what_was_kept_before(tmp_path: Path) -> None:
    """The caller is told."""
    path = tmp_path / "0.pending"
    pending = Pending(path)
    pending.keep(["before"])

    assert not pending.keep(["x" * 100_000])

    assert Pending(path).left == ["before"]
