"""Which version answers a request that names none, where a share of them goes to an alias's."""

import hashlib
import random

from service.engine.registry import Registry

_PLACES = 2**64


class Traffic:
    """The split of live requests.

    Args:
        registry: the models, with the share of each alias.
        seed: makes the order of chance the same in every run; None for true chance.
    """

    def __init__(self, registry: Registry, seed: int | None) -> None:
        self._registry = registry
        self._random = random.Random(seed)  # noqa: S311 - nothing secret depends on it

    def alias(self, name: str, caller: str | None) -> str | None:
        """The alias whose version is to answer; None for the one that serves everybody else.

        Args:
            name: the model.
            caller: who asks; the same one gets the same alias while the shares stay, and stays
                with it while they grow. Without one, chance decides.
        """
        shares = self._registry.split(name)
        if not shares:
            return None
        place = _place(name, caller) if caller else self._random.random()
        for alias, share in shares.items():
            if place < share:
                # Where nothing answers to the alias, its share gets what everybody gets.
                return alias if alias in self._registry.offer(name).routes else None
            place -= share
        return None


def _place(name: str, caller: str) -> float:
    """Where a caller stands from 0 to 1; elsewhere for each model, so nobody is always first."""
    digest = hashlib.blake2b(f"{name}\0{caller}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _PLACES
