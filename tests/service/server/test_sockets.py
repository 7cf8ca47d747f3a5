"""One port, and many that take callers from it."""

import pickle
import socket
from contextlib import ExitStack

import pytest

from service.errors import CannotStart
from service.server.sockets import bound, port_of_workers, takers

HOST = "127.0.0.1"


def test_every_taker_takes_from_the_same_callers() -> None:
    """Whoever calls the one port is met by whichever of them asks, and by one alone."""
    with ExitStack() as stack:
        listening = bound(HOST, 0)
        several = [stack.enter_context(one) for one in takers(listening)]
        listening.listen()
        address = listening.getsockname()

        for taker in several:
            caller = stack.enter_context(socket.create_connection(address))
            met, place = taker.accept()
            stack.enter_context(met)
            assert place == caller.getsockname()

    assert len(several) > 1


def test_a_bound_port_refuses_callers_and_a_listening_one_other_servers() -> None:
    """While models are loaded nobody is left waiting; afterwards nobody else gets the port."""
    with bound(HOST, 0) as held:
        port = held.getsockname()[1]

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))
        held.listen()
        with pytest.raises(CannotStart, match=f"Cannot listen on {HOST} port {port}"):
            bound(HOST, port)


def test_callers_go_to_the_workers_that_listen() -> None:
    """Refused before the first does; a worker that starts, or has died, leaves none waiting."""
    with ExitStack() as stack:
        port = stack.enter_context(port_of_workers(HOST, 0))
        # As each worker gets it.
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
