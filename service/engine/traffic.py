"""Traffic splitting: which alias serves a request that names no version."""

import hashlib
import random

from service.engine.registry import Registry

_POSITIONS = 2**64


class Traffic:
    """Splits live requests by the shares of the policy.

    Args:
        registry: the models, with the share of each alias.
        seed: of the random numbers; None for a random one.
    """

    def __init__(self, registry: Registry, seed: int | None) -> None:
        self._registry = registry
        self._random = random.Random(seed)  # noqa: S311 - not a secret

    def alias(self, name: str, client: str | None) -> str | None:
        """The alias that serves a request; None for the version that serves by default.

        Args:
            name: of the model.
            client: an id; the same client gets the same alias while the shares stay, and keeps it
                while they grow. Without one, the choice is random.
        """
        published = self._registry.published(name)
        if not published.split:
            return None
        position = _position(name, client) if client else self._random.random()
        for alias, share in published.split.items():
            if position < share:
                # If no version serves the alias, the default version does.
                return alias if alias in published.routes else None
            position -= share
        return None


def _position(name: str, client: str) -> float:
    """A client's position from 0 to 1, for each model another; no client is always first."""
    digest = hashlib.blake2b(f"{name}\0{client}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _POSITIONS
