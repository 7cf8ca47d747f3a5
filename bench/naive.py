"""Models behind FastAPI as tutorials write it, with pydantic models and ``session.run``."""

import io
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI, UploadFile
from PIL import Image
from pydantic import BaseModel

_models = Path(os.environ["BENCH_MODELS"])
_sessions = {
    home.name: onnxruntime.InferenceSession(home / "1" / "model.onnx")
    for home in _models.iterdir()
    if home.is_dir()
}

app = FastAPI()


class Applicant(BaseModel):
    """One row with named features."""

    exam_1: float
    exam_2: float


class Instances(BaseModel):
    """Rows in the order of the features."""

    instances: list[list[float]]


@app.post("/admission/one")
async def admission(applicant: Applicant) -> dict[str, list[list[float]]]:
    """Predict for one applicant."""
    row = np.array([[applicant.exam_1, applicant.exam_2]], np.float32)
    return {"predictions": _sessions["admission"].run(None, {"features": row})[0].tolist()}


@app.post("/{model}")
async def predict(model: str, body: Instances) -> dict[str, list[list[float]]]:
    """Predict for rows of numbers or pixels."""
    session = _sessions[model]
    model_input = session.get_inputs()[0]
    if model_input.name == "image":
        rows = np.array(body.instances, np.uint8).reshape(-1, 28, 28, 1)
    else:
        rows = np.array(body.instances, np.float32)
    return {"predictions": session.run(None, {model_input.name: rows})[0].tolist()}


@app.post("/{model}/image")
async def image(model: str, file: UploadFile) -> dict[str, list[list[float]]]:
    """Predict for an uploaded image."""
    image = Image.open(io.BytesIO(await file.read())).convert("L")
    pixels = np.array(image, np.uint8).reshape(1, 28, 28, 1)
    return {"predictions": _sessions[model].run(None, {"image": pixels})[0].tolist()}
