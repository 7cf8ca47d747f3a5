"""The codecs of models, each made when it is first needed and gone with its model."""

from weakref import WeakKeyDictionary

from service.api.features import FeatureCodec
from service.bundle.features import FeaturesInput
from service.bundle.manifest import Manifest
from service.engine.model import ServedModel
from service.errors import InvalidRequest


class Codecs:
    """One codec a model."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[ServedModel, FeatureCodec] = WeakKeyDictionary()

    def of(self, model: ServedModel, manifest: Manifest) -> FeatureCodec:
        """The codec of a model with this manifest."""
        codec = self._made.get(model)
        if codec is None:
            if not isinstance(manifest.input, FeaturesInput):
                raise InvalidRequest(f"Model {model.name!r} takes pictures, not features.")
            codec = self._made[model] = FeatureCodec(manifest.input)
        return codec


def require_manifest(model: ServedModel) -> Manifest:
    """What names the features of a model.

    Raises:
        InvalidRequest: it is a bare graph, and nobody knows their names.
    """
    if model.manifest is None:
        raise InvalidRequest(
            f"Model {model.name!r} has no manifest, so its features have no names here; "
            f"use POST /v2/models/{model.name}/infer."
        )
    return model.manifest
