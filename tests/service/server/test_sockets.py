"""One port with several sockets and several workers."""

import asyncio
import pickle
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import uvicorn
import uvloop
from starlette.responses import PlainTextResponse

from service.errors import CannotStart
from service.server.sockets import Server, accept_sockets, bind_socket, bind_workers_socket

HOST = "127.0.0.1"
Bind = Callable[[str, int, float], socket.socket]


def _worker_socket(host: str, port: int, defer_seconds: float) -> socket.socket:
    """The socket of a worker, which gets a copy by pickling."""
    with bind_workers_socket(host, port, defer_seconds) as bound:
        copy: socket.socket = pickle.loads(pickle.dumps(bound))  # noqa: S301 - made here
        return copy


def test_all_accept_sockets_share_one_queue() -> None:
    """A connection to the port is accepted by whichever socket accepts next."""
    with ExitStack() as stack:
        listening = bind_socket(HOST, 0)
        sockets = [stack.enter_context(each) for each in accept_sockets(listening)]
        listening.listen()
        address = listening.getsockname()

        for accepting in sockets:
            client = stack.enter_context(socket.create_connection(address))
            connection, client_address = accepting.accept()
            stack.enter_context(connection)
            assert client_address == client.getsockname()

    assert len(sockets) > 1


def test_a_bound_port_rejects_connections_and_a_listening_one_other_servers() -> None:
    """No client waits while models are loaded, and no other process can bind the port after."""
    with bind_socket(HOST, 0) as listening:
        port = listening.getsockname()[1]

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))
        listening.listen()
        with pytest.raises(CannotStart, match=f"Cannot listen on {HOST} port {port}"):
            bind_socket(HOST, port)


def test_connections_go_to_the_workers_that_listen() -> None:
    """Workers that are starting or have died get none, and before the first all are rejected."""
    with ExitStack() as stack:
        port = stack.enter_context(bind_workers_socket(HOST, 0))
        # Each worker gets a copy by pickling.
        first, second = (stack.enter_context(pickle.loads(pickle.dumps(port))) for _ in range(2))  # noqa: S301 - made here
        address = port.getsockname()

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        first.listen()
        before = [stack.enter_context(socket.create_connection(address)) for _ in range(8)]
        of_first = [stack.enter_context(first.accept()[0]).getpeername() for _ in before]
        second.listen()
        first.close()
        after = [stack.enter_context(socket.create_connection(address)) for _ in range(8)]
        of_second = [stack.enter_context(second.accept()[0]).getpeername() for _ in after]

    assert len(set(of_first)) == len(set(of_second)) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux defers connections")
@pytest.mark.parametrize("bind", [bind_socket, _worker_socket])
def test_a_connection_is_queued_when_its_client_sends(bind: Bind) -> None:
    """Connections that send nothing take no room in the queue."""
    with bind(HOST, 0, 3) as listening:
        listening.listen(64)
        listening.settimeout(0)
        silent = [socket.create_connection(listening.getsockname(), 5) for _ in range(30)]
        with pytest.raises(BlockingIOError):
            listening.accept()

        silent[7].sendall(b"GET")
        connection, address = listening.accept()

        assert address == silent[7].getsockname()
        assert connection.recv(3) == b"GET"
        for each in (connection, *silent):
            each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux defers connections")
def test_a_long_queue_is_cleared_of_connections_that_send_nothing() -> None:
    """Those that have sent a request are served, also if they were queued last."""
    with ExitStack() as stack:
        listening = bind_socket(HOST, 0, 1)
        listening.listen(1024)
        silent = [_connected(listening, b"") for _ in range(200)]
        for client in silent:
            stack.enter_context(client)
        time.sleep(1.5)  # until the kernel queues them
        alive = [stack.enter_context(_connected(listening)) for _ in range(20)]

        uvloop.run(_turns_until_accepted(listening, len(alive), max_silent=16))
        responses = [client.recv(4096) for client in alive]
        closed = [client for client in silent if not client.recv(1)]

    assert {response.splitlines()[0] for response in responses} == {b"HTTP/1.1 200 OK"}
    assert len(closed) == len(silent)


def test_a_server_accepts_a_whole_queue_in_a_few_turns() -> None:
    """By its sockets alone, 300 queued connections would take 19 turns of the event loop."""
    with ExitStack() as stack:
        listening = bind_socket(HOST, 0)
        listening.listen(1024)
        clients = [stack.enter_context(_connected(listening)) for _ in range(300)]
        for reset in clients[::3]:
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reset.close()
        alive = [client for client in clients if client.fileno() >= 0]

        turns = uvloop.run(_turns_until_accepted(listening, len(alive)))
        responses = [client.recv(4096) for client in alive]

    assert turns <= 8
    assert {response.splitlines()[0] for response in responses} == {b"HTTP/1.1 200 OK"}


def _connected(
    listening: socket.socket, sent: bytes = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
) -> socket.socket:
    """A client that is connected to the port and has sent a request."""
    client = socket.create_connection(listening.getsockname(), timeout=30)
    client.sendall(sent)
    return client


async def _turns_until_accepted(
    listening: socket.socket, connections: int, max_silent: int = 1024
) -> int:
    """Serve all connections, and return the iterations until the last one was accepted."""
    config = uvicorn.Config(PlainTextResponse("accepted"), lifespan="off", log_config=None)
    server = Server(config, max_silent)
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    turns = 0
    while len(server.server_state.connections) < connections:
        await asyncio.sleep(0)
        turns += 1
    while server.server_state.total_requests < connections:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
    return turns
