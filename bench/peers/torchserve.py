"""TorchServe: an archive for each graph with a handler of its own, one worker each."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.peers.sessions import options, paths

_CONFIG = """\
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
default_workers_per_model=1
disable_system_metrics=true
"""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> None:
    """Pack the archives, write the configuration, and become TorchServe."""
    given = options()
    folder = Path(tempfile.mkdtemp())
    programs = Path(sys.executable).parent
    handler = Path(__file__).parent / "torchserve_handler.py"
    extra = Path(__file__).parent / "sessions.py"
    for name, path in paths(given.models).items():
        command = [programs / "torch-model-archiver", "--model-name", name, "--version", "1.0"]
        command += ["--serialized-file", path, "--handler", handler, "--extra-files", extra]
        subprocess.run([*command, "--export-path", folder], check=True)
    config = folder / "config.properties"
    ports = {"port": given.port, "management": _free_port(), "metrics": _free_port()}
    config.write_text(_CONFIG.format(**ports))
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    os.environ["LOG_LOCATION"] = os.environ["METRICS_LOCATION"] = str(folder / "logs")
    command = [programs / "torchserve", "--start", "--foreground", "--ncs", "--disable-token-auth"]
    command += ["--model-store", folder, "--ts-config", config]
    command += ["--models", *[f"{name}={name}.mar" for name in paths(given.models)]]
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
