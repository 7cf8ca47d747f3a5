"""Slots: each living worker has one, and the next one takes a dead one's."""

import os
from pathlib import Path

from service.workers.ipc import claim_slot, process_id


def test_each_worker_has_a_slot_of_its_own(tmp_path: Path) -> None:
    """The lowest that is free, and who ended makes room."""
    first, second, third = (claim_slot(tmp_path) for _ in range(3))

    os.close(second.descriptor)
    fourth = claim_slot(tmp_path)

    assert [slot.number for slot in (first, second, third, fourth)] == [0, 1, 2, 1]
    assert process_id(tmp_path, 1).isdecimal()
