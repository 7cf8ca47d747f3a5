"""The recipe of a model that sees pictures, as one checked value."""

import re
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from service.bundle.features import Finite, Text
from service.bundle.manifest import Side
from training.recipe.families import IMAGE_FAMILIES, known_family
from training.recipe.table import Activation, Descent, NotNegative, Section, Seeded, Share

Size = Annotated[int, Field(ge=1, le=16_384)]
Edges = Literal["background", "reflect"]

_LAYER = re.compile(r"(conv|dense) [1-9]\d{0,4}|dropout 0\.\d+|pool|flatten")
_ALL = 1.0


class Pictures(Section):
    """Where the pictures come from: exactly one of `source` and `folder`."""

    source: str | None = Field(default=None, description="a public data set, by its name")
    folder: str | None = Field(
        default=None,
        description="a folder of each class's pictures; or with train/, and validation/ or test/, "
        "each holding such folders",
    )
    private: bool = Field(
        default=False, description="whether the bundle must hold none of the pictures"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.source is None) == (self.folder is None):
            raise ValueError("exactly one of source and folder says where the pictures come from")
        return self


class Answer(Section):
    """What the pictures show."""

    name: Text = Field(description="what the answer is called: digit, animal")
    description: str = ""
    labels: list[Text] = Field(
        default=[], description="what each class is called; else the names of the folders"
    )


class Split(Section):
    """Shares of the pictures set aside, where the data set does not divide itself."""

    test: Share = Field(default=0.2, description="unless the data has a test part of its own")
    validation: Annotated[Finite, Field(gt=0, lt=1)] = Field(
        default=0.1, description="of the training pictures, for every choice that is made"
    )


class Image(Section):
    """How a picture of any size becomes the network's input."""

    height: Side
    width: Side
    channels: Literal[1, 3]
    fit: Literal["stretch", "crop", "pad"] = "crop"
    background: Annotated[int, Field(ge=0, le=255)] = 255
    normalize: Literal["none", "digit"] = "none"


class Augmentation(Section):
    """How far each training picture is changed at random before each look at it.

    Lengths are shares of the picture's side, angles degrees; everything is nought unless said.
    """

    shift: Share = Field(default=0.0, description="moved this far at most")
    rotation: Annotated[Finite, Field(ge=0, le=180)] = 0.0
    scale: Share = Field(default=0.0, description="0.1: from 0.9 to 1.1 times as large")
    stretch: Share = Field(default=0.0, description="0.1: width by height from 0.9 to 1.1")
    shear: Annotated[Finite, Field(ge=0, le=60)] = 0.0
    elastic: Share = Field(default=0.0, description="points of a coarse grid moved, one deviation")
    flip: bool = Field(default=False, description="left and right may change places")
    stroke: Annotated[Finite, Field(ge=0, le=1)] = Field(
        default=0.0, description="lines made thicker or thinner, 1: by a whole pixel"
    )
    blur: Annotated[Finite, Field(ge=0, le=1)] = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    erasing: Annotated[Finite, Field(ge=0, le=1)] = Field(
        default=0.0, description="share of pictures that lose a rectangle"
    )
    edges: Edges = Field(default="background", description="what comes in from outside")


class Network(Section):
    """The learned part: layers in a row, or a small residual network."""

    family: Annotated[str, AfterValidator(partial(known_family, IMAGE_FAMILIES))]
    layers: list[str] = Field(
        default=[], description='such as "conv 32", "pool", "dense 128", "dropout 0.5"'
    )
    kernel_size: Literal[3, 5] = Field(default=3, description="side of a layer's convolution")
    padding: Literal["valid", "same"] = "same"
    widths: list[Size] = Field(default=[], description="residual: channels of each stage")
    blocks: list[Annotated[int, Field(ge=0, le=16)]] = Field(
        default=[], description="residual: blocks of each stage"
    )
    stem: Literal[1, 2, 4] = Field(default=1, description="residual: pixels a first step takes")
    activation: Activation = "relu"
    batch_norm: bool = False
    dropout: Share = Field(default=0.0, description="before the last layer")

    @model_validator(mode="after")
    def _fits_the_family(self) -> Self:
        strange = [layer for layer in self.layers if not _LAYER.fullmatch(layer)]
        if strange:
            msg = f"layer {strange[0]!r} is not known; write conv 32, pool, dense 128, dropout 0.5"
            raise ValueError(msg)
        for name, family in IMAGE_FAMILIES.items():
            if (self.family == name) != bool(getattr(self, family.layers_key)):
                msg = f"{family.layers_key}: required by the family {name}, and by no other"
                raise ValueError(msg)
        if len(self.blocks) not in (0, len(self.widths)):
            raise ValueError("blocks must be as many as widths")
        if self.activation == "maxout":
            raise ValueError("maxout is a layer of tables' networks; choose another activation")
        return self

    def remains(self, side: int) -> int:
        """Pixels of a side that are left after every convolution and pool."""
        if self.family == "residual":
            return int(side // self.stem // 2 ** (len(self.widths) - 1))
        for layer in self.layers:
            if layer == "pool":
                side //= 2
            elif layer.startswith("conv") and self.padding == "valid":
                side -= self.kernel_size - 1
        return side


class ImageTraining(Descent):
    """How the network is fitted."""

    label_smoothing: Share = 0.0
    mixup: NotNegative = Field(
        default=0.0, description="two pictures are blended by a share of Beta(mixup, mixup)"
    )
    ema_momentum: Annotated[Finite, Field(ge=0, lt=_ALL)] = Field(
        default=0.0,
        description="the weights are a moving average that keeps so much at each step; 0: none",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the fit; on a GPU and recent CPUs bfloat16 is faster"
    )


class ImageRecipe(Seeded):
    """Everything that decides what a model of pictures becomes."""

    data: Pictures
    target: Answer
    split: Split = Split()
    image: Image
    augmentation: Augmentation = Augmentation()
    network: Network
    training: ImageTraining

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        for side in (self.image.height, self.image.width):
            if self.network.remains(side) < 1:
                msg = f"network: of a side of {side} pixels nothing is left after all its pools"
                raise ValueError(msg)
        return self
