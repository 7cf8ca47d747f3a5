"""Copies of live requests for the versions that are tried out beside the serving one."""

import random
from collections.abc import Sequence

from starlette.background import BackgroundTask

from service.bundle.policy import Shadow
from service.engine.dtypes import Arrays
from service.engine.model import ServedModel
from service.engine.registry import Registry
from service.observability.logs import request_id
from service.shadow.runner import Exchange, ShadowRunner


class Copies:
    """What is done with a request once its answer is out."""

    def __init__(self, registry: Registry, shadows: ShadowRunner) -> None:
        self._registry = registry
        self._shadows = shadows

    def after(self, model: ServedModel, inputs: Arrays, outputs: Arrays) -> BackgroundTask | None:
        """What to do after the answer, for the server to do then; mostly nothing.

        Args:
            model: that answered, being asked for no version.
            inputs: what it was asked.
            outputs: what it said.
        """
        candidates = self._registry.shadows(model.name)
        if not candidates:
            return None
        chosen = [it for it in candidates if it[1].share == 1 or random.random() < it[1].share]  # noqa: S311 - nothing secret depends on it
        return _Copying(self._shadows, model, chosen, (inputs, outputs)) if chosen else None


class _Copying(BackgroundTask):
    """Starlette's own finds out on every request what it was given; this one knows."""

    def __init__(
        self,
        shadows: ShadowRunner,
        serving: ServedModel,
        candidates: Sequence[tuple[ServedModel, Shadow]],
        asked: Exchange,
    ) -> None:
        self._shadows = shadows
        self._serving = serving
        self._candidates = candidates
        self._asked = asked

    async def __call__(self) -> None:
        request = request_id.get() or ""
        for candidate, how in self._candidates:
            self._shadows.offer((self._serving, candidate), how, self._asked, request)
