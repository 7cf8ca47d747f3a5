"""One port whose connections several sockets and several workers accept."""

import pickle
import socket
from contextlib import ExitStack

import pytest

from service.errors import CannotStart
from service.server.sockets import accept_sockets, bind_socket, bind_workers_socket

HOST = "127.0.0.1"


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
