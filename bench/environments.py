"""A virtual environment with the requirements of each peer, which is created once."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.servers import FLOOR, NAIVE, PEERS

_REQUIREMENTS = Path(__file__).parent / "peers"
_OURS = ("fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime-gpu", "orjson", "pydantic")
_NAIVES = ("fastapi", "uvicorn", "onnxruntime-gpu", "pydantic", "pillow", "python-multipart")
_FLOORS = ("uvicorn", "uvloop", "httptools")
_VERSIONS = (
    "import importlib.metadata as m, json, sys; "
    "print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
)


def interpreter(name: str, cache: Path) -> str:
    """The Python interpreter of a server; the environment of a peer is created if it is missing.

    Raises:
        RuntimeError: pip could not install it; the message has the last line of its output.
    """
    if name not in PEERS:
        return sys.executable
    folder = cache / "peers" / name
    python = folder / "bin" / "python"
    done = folder / "installed.txt"
    required = (_REQUIREMENTS / f"{name}.txt").read_text()
    if not done.exists() or done.read_text() != required:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["-r", str(_REQUIREMENTS / f"{name}.txt")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"pip cannot install it: {ended.stderr.strip().splitlines()[-1]}")
        done.write_text(required)
    return str(python)


def versions(name: str, python: str) -> dict[str, str]:
    """The installed versions of the packages that affect the speed of a server."""
    if name in PEERS:
        lines = (_REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        named = [line.partition("==")[0] for line in lines if line and not line.startswith("#")]
    else:
        named = list(_FLOORS if name == FLOOR else _NAIVES if name == NAIVE else _OURS)
    ended = subprocess.run(
        [python, "-c", _VERSIONS, *named],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    found: dict[str, str] = json.loads(ended.stdout)
    return found
