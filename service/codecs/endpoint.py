"""The endpoint of a model: everything that does not change between its requests.

It has the codecs of the model's inputs and outputs. It has no reference to the model, so that both
are freed together.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

from service.bundle.features import FeaturesInput
from service.bundle.manifest import Manifest
from service.codecs.features import FeatureCodec
from service.codecs.images import DecodingPool, ImageCodec
from service.codecs.json_writer import PredictionWriter, prediction_writer
from service.engine.model import ModelInfo, ServedModel
from service.errors import InvalidRequest
from service.limits import Limits
from service.settings import Settings


class SharedMemorySlot(NamedTuple):
    """The part of a shared memory region that holds one tensor."""

    region: str
    offset: int
    byte_size: int


class RequestedOutput(NamedTuple):
    """One output in a response of the Open Inference Protocol.

    ``output`` is its position, and ``classes`` the number of classes to rank; 0 is no ranking.
    """

    output: int
    binary: bool = False
    classes: int = 0
    slot: SharedMemorySlot | None = None


# The JSON of a response by the shapes of its arrays.
ResponseDocuments = dict[tuple[tuple[int, ...], ...], bytes]


class ResponseFormat(NamedTuple):
    """The format of a response of the Open Inference Protocol, as its request states it.

    ``level`` is the level of the interval whose ends follow the outputs of the model.
    ``documents`` has the JSON of earlier responses to the same request.
    """

    id: str | None
    outputs: tuple[RequestedOutput, ...]
    level: float | None = None
    documents: ResponseDocuments | None = None


class DocumentTemplate(NamedTuple):
    """The content of a request's JSON next to one binary tensor: shape, size and response."""

    shape: tuple[int, ...]
    byte_size: int
    response: ResponseFormat


class Endpoint:
    """Codecs and fixed response parts of one model."""

    def __init__(self, info: ModelInfo, decoding: DecodingPool) -> None:
        self.name = info.name
        self.version = info.version
        self.manifest = info.manifest
        self.inputs = info.inputs
        self.outputs = info.outputs
        self.class_labels = info.labels
        self.features: FeatureCodec | None = None
        """None if the model does not take named features."""
        self.images: ImageCodec | None = None
        """None if the model does not take images."""
        self.writer: PredictionWriter
        """Missing if the model has no manifest."""
        self.templates: dict[bytes, DocumentTemplate] = {}
        """By the JSON of a request of the Open Inference Protocol."""
        if info.manifest is not None:
            self.writer = prediction_writer(info.manifest.output, info.version)
            if isinstance(info.manifest.input, FeaturesInput):
                self.features = FeatureCodec(info.manifest.input)
            else:
                self.images = ImageCodec(info.manifest.input, decoding)

    def require_manifest(self) -> Manifest:
        """Return the manifest, which names features and labels, or raise `InvalidRequest`."""
        if self.manifest is None:
            raise InvalidRequest(
                f"Model {self.name!r} has no manifest, so its features have no names here; "
                f"use POST /v2/models/{self.name}/infer."
            )
        return self.manifest

    def require_features(self) -> FeatureCodec:
        """Return the codec of a model that takes named features, or raise `InvalidRequest`."""
        self.require_manifest()
        if self.features is None:
            raise InvalidRequest(
                f"Model {self.name!r} takes images, not a table's rows; send an image's "
                f"file to POST /models/{self.name}/predict, with its own Content-Type."
            )
        return self.features

    def require_images(self) -> ImageCodec:
        """Return the codec of a model that takes images, or raise `InvalidRequest`."""
        self.require_manifest()
        if self.images is None:
            raise InvalidRequest(f"Model {self.name!r} takes no images; give it a table to score.")
        return self.images


class EndpointCache:
    """The endpoints of the loaded models, each built on the first request to its model."""

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._decoding = DecodingPool(settings.max_image_pixels, settings.max_body_bytes, limits)
        self.by_model: WeakKeyDictionary[ServedModel, Endpoint] = WeakKeyDictionary()
        """The endpoints that have been built."""

    def get(self, model: ServedModel) -> Endpoint:
        """Return the endpoint of a model; only for use on the event loop."""
        try:
            return self.by_model[model]
        except KeyError:
            endpoint = self.by_model[model] = Endpoint(model.info, self._decoding)
            return endpoint
