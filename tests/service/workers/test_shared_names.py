"""A set of names that several processes share."""

from pathlib import Path

from service.workers.ipc import SharedNameSet


def test_all_processes_see_the_same_set(tmp_path: Path) -> None:
    """Each sees the changes of the others."""
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
