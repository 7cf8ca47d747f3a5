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


def test_whoever_opens_it_leaves_what_is_there_until_it_has_kept_more(tmp_path: Path) -> None:
    """Whichever side was written last."""
    path = tmp_path / "0.pending"
    for number in range(4):
        pending = Pending(path)
        assert pending.left == ([number - 1] if number else None)
        before = path.read_bytes()
        pending.keep([number])
        after = path.read_bytes()
        side = before[0] * 65536 + 1
        assert after[side : side + 65536] == before[side : side + 65536]
        assert after[0] == 1 - before[0]


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    """A torn file stops no worker."""
    path = tmp_path / "0.pending"
    Pending(path).keep([1, 2, 3])
    content = bytearray(path.read_bytes())
    content[65536 + 5 : 65536 + 9] = b"[[[["
    path.write_bytes(content)

    assert Pending(path).left is None
