"""Each running worker has a slot, and a new one takes the slot of a dead one."""

import os
from pathlib import Path

from service.workers.ipc import claim_slot, read_process_id


def test_each_worker_has_its_own_slot(tmp_path: Path) -> None:
    """It takes the lowest free one; a worker that ends releases its slot."""
    first, second, third = (claim_slot(tmp_path) for _ in range(3))

    os.close(second.descriptor)
    fourth = claim_slot(tmp_path)

    assert [slot.number for slot in (first, second, third, fourth)] == [0, 1, 2, 1]
    assert read_process_id(tmp_path, 1).isdecimal()
