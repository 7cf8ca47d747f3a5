"""The limit of open files is raised at the start, and limits the number of connections."""

import resource
import subprocess
import sys
from pathlib import Path

from service.server.connections import available_connections
from tests.models import publish_price
from tests.processes import ROOT, served


def test_the_service_raises_its_soft_limit_to_the_hard_one(models: Path) -> None:
    """Every worker inherits it, and the log has the number."""
    publish_price(models)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with served("--models", str(models), "--device", "cpu", "--workers", "2") as service:
            service.until_said("Application startup complete", 2)
            processes = (service.process.pid, *service.workers)
            limits = [resource.prlimit(process, resource.RLIMIT_NOFILE) for process in processes]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    assert limits == [(hard, hard)] * 3
    assert f"limit of open files files={hard}" in service.said


def test_connections_leave_files_for_everything_else() -> None:
    """With few files there are few connections, but at least one."""
    program = (
        "import resource\n"
        "from service.server.connections import available_connections\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "for files in (64, 128, 1000):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))\n"
        "    print(available_connections(2048), available_connections(10))\n"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert printed == "1 1\n1 1\n872 10\n"


def test_a_lower_limit_in_the_settings_applies() -> None:
    """The number of files only lowers it."""
    assert available_connections(5) == 5
