"""TorchServe: an archive with a handler for each model, with one worker each."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.peers.sessions import options, paths
from bench.processes import free_port

_CONFIG = """\
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
default_workers_per_model=1
disable_system_metrics=true
"""


def main() -> None:
    """Create the archives, write the settings, and replace this process by TorchServe."""
    arguments = options()
    folder = Path(tempfile.mkdtemp())
    programs = Path(sys.executable).parent
    handler = Path(__file__).parent / "torchserve_handler.py"
    extra = Path(__file__).parent / "sessions.py"
    for name, path in paths(arguments.models).items():
        command = [programs / "torch-model-archiver", "--model-name", name, "--version", "1.0"]
        command += ["--serialized-file", path, "--handler", handler, "--extra-files", extra]
        subprocess.run([*command, "--export-path", folder], check=True)
    config = folder / "config.properties"
    ports = {"port": arguments.port, "management": free_port(), "metrics": free_port()}
    config.write_text(_CONFIG.format(**ports))
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    os.environ["LOG_LOCATION"] = os.environ["METRICS_LOCATION"] = str(folder / "logs")
    command = [programs / "torchserve", "--start", "--foreground", "--ncs", "--disable-token-auth"]
    command += ["--model-store", folder, "--ts-config", config]
    command += ["--models", *[f"{name}={name}.mar" for name in paths(arguments.models)]]
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
