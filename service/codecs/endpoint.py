"""The endpoint of a model: everything that its requests need and that never changes between them.

It knows what the model takes and returns, and how both are read and written. It does not know the
model itself, so that it lives exactly as long as the model.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

from service.bundle.features import FeaturesInput
from service.bundle.manifest import ImageInput, Manifest
from service.codecs.features import FeatureCodec
from service.codecs.images import DecodingPool, ImageCodec
from service.codecs.json_writer import AnswerWriter, answer_writer
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
    """One output of a response of the Open Inference Protocol.

    ``output`` is its position, ``classes`` the number of classes where it is ranked.
    """

    output: int
    binary: bool = False
    classes: int = 0
    slot: SharedMemorySlot | None = None


# The JSON of a response by the shapes of its arrays.
ResponseDocuments = dict[tuple[tuple[int, ...], ...], bytes]


class ResponseFormat(NamedTuple):
    """What a request of the Open Inference Protocol says about its response.

    ``level`` is that of the interval whose ends follow the model's own outputs. ``documents`` has
    the JSON of earlier responses to the same JSON.
    """

    id: str | None
    outputs: tuple[RequestedOutput, ...]
    level: float | None = None
    documents: ResponseDocuments | None = None

    @property
    def is_binary(self) -> bool:
        """Whether the JSON of the response depends on nothing but shapes."""
        return self.level is None and all(requested.binary for requested in self.outputs)


class DocumentTemplate(NamedTuple):
    """What the JSON around one binary tensor says: its shape and size, and the response."""

    shape: tuple[int, ...]
    byte_size: int
    response: ResponseFormat


class Endpoint:
    """How requests to one model are decoded and its responses encoded.

    Args:
        info: of the model.
        decoding: how images are decoded in this process.
    """

    def __init__(self, info: ModelInfo, decoding: DecodingPool) -> None:
        self.name = info.name
        self.version = info.version
        self.manifest = info.manifest
        self.inputs = info.inputs
        self.outputs = info.outputs
        self.class_labels = info.labels
        self.features: FeatureCodec | None = None
        """Of a model that takes named features."""
        self.images: ImageCodec | None = None
        """Of a model that takes images."""
        self.writer: AnswerWriter | None = None
        """Of a model that has a manifest."""
        self.templates: dict[bytes, DocumentTemplate] = {}
        """By the JSON of a request of the Open Inference Protocol."""
        if info.manifest is not None:
            self.writer = answer_writer(info.manifest.output, info.version)
            if isinstance(info.manifest.input, FeaturesInput):
                self.features = FeatureCodec(info.manifest.input)
            elif isinstance(info.manifest.input, ImageInput):
                self.images = ImageCodec(info.manifest.input, decoding)

    def require_manifest(self) -> Manifest:
        """The manifest, which names features and class labels.

        Raises:
            InvalidRequest: the model has none.
        """
        if self.manifest is None:
            raise InvalidRequest(
                f"Model {self.name!r} has no manifest, so its features have no names here; "
                f"use POST /v2/models/{self.name}/infer."
            )
        return self.manifest

    def require_features(self) -> FeatureCodec:
        """The codec of a model that takes named features.

        Raises:
            InvalidRequest: it takes images, or has no manifest.
        """
        self.require_manifest()
        if self.features is None:
            raise InvalidRequest(
                f"Model {self.name!r} takes images, not a table's rows; send an image's "
                f"file to POST /models/{self.name}/predict, with its own Content-Type."
            )
        return self.features


class Endpoints:
    """The endpoints of all models that serve, each built on the first request to its model.

    Args:
        settings: the operator's values.
        limits: shared by all requests.
    """

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._decoding = DecodingPool(settings.max_image_pixels, settings.max_body_bytes, limits)
        self.by_model: WeakKeyDictionary[ServedModel, Endpoint] = WeakKeyDictionary()
        """Those that have been built."""

    def of(self, model: ServedModel) -> Endpoint:
        """The endpoint of a model; for use on the event loop."""
        try:
            return self.by_model[model]
        except KeyError:
            endpoint = self.by_model[model] = Endpoint(model.info, self._decoding)
            return endpoint
