"""Test that no request is smuggled past nginx and HAProxy.

Each proxy forwards requests and upgrades to the service over persistent connections, and rejects
one path. Sequences of bytes (`tests.framing`) are sent through the proxy, some of them with a
request for the rejected path inside a body. The log of the service must then contain no request
that is not in the log of the proxy, and none for the rejected path. No client may get the response
to a request of a different client. Run it by ``python -m bench.proxies``.
"""

import argparse
import re
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

from bench.processes import free_port, have_tools
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
    """Send sequences through each proxy; return 1 for violations, 2 if a proxy is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.proxies", description=main.__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not have_tools("nginx", "haproxy"):
        return 2
    failed = False
    for name in ("nginx", "haproxy"):
        found = _violations(name, options.seed, options.cases)
        sys.stdout.write(f"{name}: {options.cases} sequences, {len(found)} violations\n")
        sys.stdout.write("".join(f"  {line}\n" for line in found[:20]))
        failed = failed or bool(found)
    return 1 if failed else 0


def _violations(name: str, seed: int, cases: int) -> list[str]:
    """Send sequences through a proxy, and describe the requests that were smuggled past it."""
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
                found += _foreign_responses(messages, responses)
        forwarded = Counter(_id([each]) for each in _FORWARDED[name](folder))
    # A line without a method is an error for bytes that are not a request.
    lines = [line for line in service.lines if re.search(r" request method=\w", line)]
    served_ids = Counter(_id(re.findall(r"request_id=(\S+)", line)) for line in lines)
    found += [f"served: {line.strip()}" for line in lines if "path=/v2/repository" in line]
    found += [
        f"request {request_id or 'without id'}: served {count}, forwarded {forwarded[request_id]}"
        for request_id, count in served_ids.items()
        if count > forwarded[request_id]
    ]
    return found


def _with_forbidden(message: framing.Message) -> framing.Message:
    """The same message with a request for the rejected path in its body."""
    return replace(message, content=message.content.replace(framing.SMUGGLED, _FORBIDDEN))


def _foreign_responses(
    messages: Sequence[framing.Message], responses: Sequence[framing.Response]
) -> Iterator[str]:
    """Describe the responses that belong to none of a client's requests."""
    own = {message.request_id for message in messages} | {""}
    for response in responses:
        request_id = _id([response.headers.get("x-request-id", "")])
        if request_id not in own and not request_id.endswith(".last"):
            yield f"a client got the response to {request_id}"


def _id(found: Sequence[str]) -> str:
    """A client's request id; empty if there is none or the service generated it."""
    return "" if not found or re.fullmatch("-|[0-9a-f]{32}", found[0]) else found[0]


@contextmanager
def _proxy(name: str, folder: Path, service: int) -> Iterator[int]:
    """Start a proxy in front of the service; yield its port."""
    port = free_port()
    settings = folder / "proxy.conf"
    content = _NGINX if name == "nginx" else _HAPROXY
    for word, value in (("FOLDER", folder), ("SERVICE", service), ("PROXY", port)):
        content = content.replace(word, str(value))
    settings.write_text(content)
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
            time.sleep(0.5)  # until the proxy has written its log
            process.terminate()


def _is_listening(port: int) -> bool:
    """Wait for a port to be open; return whether it is."""
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.05)
    return False


def _forwarded_by_nginx(folder: Path) -> list[str]:
    """The ids of the forwarded requests."""
    lines = [line.split() for line in (folder / "access.log").read_text().splitlines()]
    return [line[-1] for line in lines if line[1] != "-"]


def _forwarded_by_haproxy(folder: Path) -> list[str]:
    """The ids of the forwarded requests."""
    lines = [line.split() for line in (folder / "stdout.log").read_text().splitlines()]
    return [line[-1] for line in lines if line and line[0] == "sent" and line[1] == "service"]


_FORWARDED: Mapping[str, Callable[[Path], list[str]]] = {
    "nginx": _forwarded_by_nginx,
    "haproxy": _forwarded_by_haproxy,
}


if __name__ == "__main__":
    sys.exit(main())
