"""``python -m bench.proxies``: nothing is smuggled past nginx and HAProxy.

Each proxy forwards to the service, with upgrades passed on and connections kept, and rejects one
path. Sequences of bytes (`tests.framing`) go through the proxy, some of them with a request for
the rejected path inside a body. Afterwards the service's log may hold no request that the proxy's
log does not, none for the rejected path, and no client may have another one's response.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tests import framing
from tests.models import publish_price
from tests.processes import served

_NGINX = """
daemon off; pid FOLDER/nginx.pid; error_log FOLDER/error.log; worker_processes 1;
events { worker_connections 512; }
http {
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/f;
  uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  log_format ids '$status $upstream_addr $http_x_request_id';
  upstream service { server 127.0.0.1:SERVICE; keepalive 16; }
  server {
    listen 127.0.0.1:PROXY; client_max_body_size 0; access_log FOLDER/access.log ids;
    location /v2/repository { return 403; }
    location / {
      proxy_pass http://service; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_ignore_client_abort on;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
    }
  }
}
"""
_HAPROXY = """
global
  log stdout format raw local0
  maxconn 512
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  timeout tunnel 20s
  option http-keep-alive
frontend clients
  bind 127.0.0.1:PROXY
  http-request capture req.hdr(X-Request-Id) len 64
  log-format "sent %s %ST %[capture.req.hdr(0)]"
  http-request deny if { path_beg /v2/repository }
  default_backend service
backend service
  http-reuse always
  server service 127.0.0.1:SERVICE
"""
_FORBIDDEN = b"POST /v2/repository/index HTTP/1.1\r\nHost: h\r\nX-Request-Id: forbidden\r\n\r\n"


def main() -> int:
    """Play sequences through each proxy; 1 where something got past it, 2 where it is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    missing = [name for name in ("nginx", "haproxy") if shutil.which(name) is None]
    if missing:
        sys.stderr.write(f"Install {' and '.join(missing)} first.\n")
        return 2
    failed = False
    for name in ("nginx", "haproxy"):
        found = _through(name, given.seed, given.cases)
        sys.stdout.write(f"{name}: {given.cases} sequences, {len(found)} violations\n")
        sys.stdout.write("".join(f"  {line}\n" for line in found[:20]))
        failed = failed or bool(found)
    return 1 if failed else 0


def _through(name: str, seed: int, cases: int) -> list[str]:
    """What got past a proxy, in sentences."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        publish_price(folder / "models")
        with (
            served("--models", str(folder / "models"), "--log-requests", "all") as service,
            _proxy(name, folder, int(service.address.rpartition(":")[2])) as port,
        ):
            for stream in framing.sequences(seed, cases):
                messages = [_with_forbidden(each) for each in stream.messages]
                changed = framing.Stream(messages, stream.cuts, stream.pause_seconds)
                responses = framing.send(("127.0.0.1", port), changed)
                found += _strangers(messages, responses)
        forwarded = Counter(_id([each]) for each in _FORWARDED[name](folder))
    # A line without a method is an error for bytes that were no request.
    lines = [line for line in service.lines if re.search(r" request method=\w", line)]
    seen = Counter(_id(re.findall(r"request_id=(\S+)", line)) for line in lines)
    found += [f"served: {line.strip()}" for line in lines if "path=/v2/repository" in line]
    found += [
        f"request {request_id or 'without id'}: served {count}, forwarded {forwarded[request_id]}"
        for request_id, count in seen.items()
        if count > forwarded[request_id]
    ]
    return found


def _with_forbidden(message: framing.Message) -> framing.Message:
    """The same with bodies that hold a request for the path that the proxy rejects."""
    return replace(message, content=message.content.replace(framing.SMUGGLED, _FORBIDDEN))


def _strangers(
    messages: Sequence[framing.Message], responses: Sequence[framing.Response]
) -> Iterator[str]:
    """The responses that belong to none of a client's requests."""
    own = {message.request_id for message in messages} | {""}
    for response in responses:
        request_id = _id([response.headers.get("x-request-id", "")])
        if request_id not in own and not request_id.endswith(".last"):
            yield f"a client got the response to {request_id}"


def _id(found: Sequence[str]) -> str:
    """A client's request id; empty for none, and for one that the service made up."""
    return "" if not found or re.fullmatch("-|[0-9a-f]{32}", found[0]) else found[0]


@contextmanager
def _proxy(name: str, folder: Path, service: int) -> Iterator[int]:
    """A proxy in front of the service; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = folder / "proxy.conf"
    template = _NGINX if name == "nginx" else _HAPROXY
    filled = template
    for word, value in (("FOLDER", folder), ("SERVICE", service), ("PROXY", port)):
        filled = filled.replace(word, str(value))
    settings.write_text(filled)
    command = {
        "nginx": ["nginx", "-p", str(folder), "-c", str(settings)],
        "haproxy": ["haproxy", "-db", "-f", str(settings)],
    }[name]
    with (
        (folder / "stdout.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        if not _is_listening(port):
            raise RuntimeError((folder / "stdout.log").read_text())
        try:
            yield port
        finally:
            time.sleep(0.5)  # its log is written a moment later
            process.terminate()


def _is_listening(port: int) -> bool:
    """Whether a port is open, after waiting for it."""
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.05)
    return False


def _forwarded_by_nginx(folder: Path) -> list[str]:
    """The ids of what it forwarded."""
    lines = [line.split() for line in (folder / "access.log").read_text().splitlines()]
    return [line[-1] for line in lines if line[1] != "-"]


def _forwarded_by_haproxy(folder: Path) -> list[str]:
    """The ids of what it forwarded."""
    lines = [line.split() for line in (folder / "stdout.log").read_text().splitlines()]
    return [line[-1] for line in lines if line and line[0] == "sent" and line[1] == "service"]


_FORWARDED: Mapping[str, Callable[[Path], list[str]]] = {
    "nginx": _forwarded_by_nginx,
    "haproxy": _forwarded_by_haproxy,
}


if __name__ == "__main__":
    sys.exit(main())
