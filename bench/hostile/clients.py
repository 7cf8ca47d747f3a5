"""Every hostile client by its name."""

from collections.abc import Mapping

from bench.hostile import bodies, floods, heads, images, tables, waiting
from bench.hostile.connection import HostileClient

CLIENTS: Mapping[str, HostileClient] = {
    client.name: client
    for module in (bodies, heads, tables, images, waiting, floods)
    for client in module.CLIENTS
}
