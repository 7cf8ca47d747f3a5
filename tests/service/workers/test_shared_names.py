"""Shared names: a set that several processes see alike."""

from pathlib import Path

from service.workers.ipc import SharedNameSet


def test_it_is_a_set_that_others_see(tmp_path: Path) -> None:
    """Whatever one does is what the other finds."""
    one, other = SharedNameSet(tmp_path / "names"), SharedNameSet(tmp_path / "names")

    one.add("iris")
    one.add("iris")
    other.add("price")
    one.discard("nobody")

    assert set(one) == set(other) == {"iris", "price"}
    assert ("iris" in other, "nobody" in one, len(one)) == (True, False, 2)
    assert one - {"iris"} == {"price"}
    other.discard("iris")
    assert set(one) == {"price"}
