"""Copies of live requests for the versions that are tried out beside the serving one."""

import random

from starlette.background import BackgroundTask

from service.engine.datatypes import Arrays
from service.engine.model import ServedModel
from service.engine.registry import Registry
from service.logs import request_id
from service.shadow.comparing import Tolerance
from service.shadow.shadows import Shadows
from service.shadow.trial import Copied


class Copies:
    """What is done with a request once its answer is out."""

    def __init__(self, registry: Registry, shadows: Shadows) -> None:
        self._registry = registry
        self._shadows = shadows

    def after(self, model: ServedModel, inputs: Arrays, outputs: Arrays) -> BackgroundTask | None:
        """What to do after the answer, for the server to do then; mostly nothing.

        Args:
            model: that answered, being asked for no version.
            inputs: what it was asked.
            outputs: what it said.
        """
        if not self._registry.shadowing(model.name):
            return None
        return BackgroundTask(self._copy, Copied(model, inputs, outputs, request_id.get() or ""))

    async def _copy(self, copied: Copied) -> None:
        for candidate, how in self._registry.shadowing(copied.serving.name):
            if random.random() < how.share:  # noqa: S311 - nothing secret depends on it
                tolerance = Tolerance(how.absolute, how.relative)
                self._shadows.offer(copied, candidate, tolerance)
