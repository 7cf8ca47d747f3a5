"""One model of a folder, chosen and proved as the service does, without a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.engine.model import ServedModel
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.observability.metrics import Metrics
from service.settings import Settings


@asynccontextmanager
async def one_model(settings: Settings, name: str, asked: str | None) -> AsyncIterator[ServedModel]:
    """The version that answers; of the other models only the manifests are read.

    Args:
        settings: the models folder and the device.
        name: of the model.
        asked: a version or an alias; None for whichever serves.

    Raises:
        OnwardError: there is none, or it does not serve; says why.
    """
    # With a limit on how many are in memory, a model is opened when it is first asked for.
    settings = settings.model_copy(update={"max_loaded_models": 1})
    reconciler = Reconciler(settings, Metrics(), Registry(settings.device))
    await reconciler.start()
    try:
        with await reconciler.ensure_loaded(name, asked) as model:
            yield model
    finally:
        await reconciler.close()
