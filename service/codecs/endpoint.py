"""The codecs of models, each made when it is first needed and gone with its model."""

from service.bundle.features import FeaturesInput
from service.bundle.inputs import ImageInput
from service.bundle.manifest import Manifest
from service.codecs.features import FeatureCodec
from service.codecs.images import DecodingPool, ImageCodec
from service.codecs.json_writer import AnswerWriter, answer_writer
from service.engine.model import ServedModel
from service.errors import InvalidRequest
from service.limits import Limits
from service.settings import Settings

_FEATURES, _PICTURES, _WRITER = "features", "pictures", "writer"


class Codecs:
    """One codec a model.

    Args:
        settings: the operator's values.
        limits: that the requests share.
    """

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._decoding = DecodingPool(settings.max_image_pixels, settings.max_body_bytes, limits)

    def of(self, model: ServedModel, manifest: Manifest) -> FeatureCodec:
        """The codec of a table's model with this manifest.

        Raises:
            InvalidRequest: it takes images.
        """
        codec: FeatureCodec | None = model.kept.get(_FEATURES)
        if codec is None:
            if not isinstance(manifest.input, FeaturesInput):
                raise InvalidRequest(
                    f"Model {model.name!r} takes images, not a table's rows; send an image's "
                    f"file to POST /models/{model.name}/predict, with its own Content-Type."
                )
            codec = model.kept[_FEATURES] = FeatureCodec(manifest.input)
        return codec

    def writer(self, model: ServedModel) -> AnswerWriter:
        """What writes the usual answers of a model that has a manifest."""
        writer: AnswerWriter | None = model.kept.get(_WRITER)
        if writer is None:
            output = require_manifest(model).output
            writer = model.kept[_WRITER] = answer_writer(output, model.version)
        return writer

    def of_pictures(self, model: ServedModel) -> ImageCodec | None:
        """The codec of a model whose manifest says that it takes images; of others none."""
        if model.manifest is None or not isinstance(model.manifest.input, ImageInput):
            return None
        codec: ImageCodec | None = model.kept.get(_PICTURES)
        if codec is None:
            codec = ImageCodec(model.manifest.input, self._decoding)
            model.kept[_PICTURES] = codec
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
