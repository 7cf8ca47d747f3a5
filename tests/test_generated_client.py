"""openapi-python-client generates a client from the document, whose calls predict with each model.

``python -m bench.clients.typescript`` does the same with openapi-typescript.
"""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ShippedClient

_GENERATOR = Path(sys.executable).with_name("openapi-python-client")
# The generator has no code for bodies of some media types, such as tables; JSON is not one of them.
_WITHOUT_CODE = re.compile(r"Unsupported content type (?!application/json)\S+")
_PACKAGE = "onward_generated"


class GeneratedClient:
    """The generated package and its client."""

    def __init__(self, base_url: str) -> None:
        self.client = self.module("client").Client(base_url=base_url)

    def close(self) -> None:
        """Close the connections."""
        self.client.get_httpx_client().close()

    @staticmethod
    def module(name: str) -> ModuleType:
        """A module of the package."""
        return importlib.import_module(f"{_PACKAGE}.{name}")

    def model(self, name: str) -> Any:  # noqa: ANN401 - a class that does not exist before
        """A generated class by the name of its component."""
        return getattr(self.module("models"), name)

    def call(self, tag: str, operation: str, **arguments: object) -> Any:  # noqa: ANN401 - as above
        """The parsed response of an operation."""
        module = self.module(f"api.{tag}.{operation}")
        return module.sync_detailed(client=self.client, **arguments).parsed


@pytest.fixture(scope="module")
def document(shipped_client: ShippedClient) -> dict[str, Any]:
    """The document of the shipped models."""
    found: dict[str, Any] = shipped_client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def generated(
    document: dict[str, Any],
    shipped_client: ShippedClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GeneratedClient]:
    """Generate the client; fail on any warning but those about media types without code."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document))
    # The service's own formatter is no part of the comparison.
    (folder / "config.yml").write_text("post_hooks: []\n")
    command = [str(_GENERATOR), "generate", "--path", "openapi.json", "--config", "config.yml"]
    ended = subprocess.run(
        [*command, "--meta", "none", "--output-path", _PACKAGE],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output
    warnings = re.findall(r"^WARNING .*\n\n(.*)$", output, re.MULTILINE)
    assert len(warnings) == output.count("WARNING")
    assert [each for each in warnings if not _WITHOUT_CODE.fullmatch(each)] == []
    sys.path.insert(0, str(folder))
    client = GeneratedClient(str(shipped_client.base_url))
    yield client
    client.close()
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]


def model_operations(document: dict[str, Any], verb: str) -> list[tuple[str, dict[str, Any]]]:
    """The name of each model with its operation."""
    return [
        (path.split("/")[2], methods["post"])
        for path, methods in document["paths"].items()
        if path.startswith("/models/") and path.endswith(f"/{verb}") and "{" not in path
    ]


def example_of(operation: dict[str, Any]) -> dict[str, Any]:
    """The example of one row or image."""
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    value: dict[str, Any] = next(iter(examples.values()))["value"]
    return value


def component_of(operation: dict[str, Any]) -> str:
    """The name of the component of one row or image."""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return str(schema["anyOf"][0]["$ref"].rpartition("/")[2])


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_every_shipped_model_predicts_by_its_function(
    document: dict[str, Any],
    generated: GeneratedClient,
    shipped_client: ShippedClient,
    verb: str,
) -> None:
    """The typed response has the content of the plain one."""
    operations = model_operations(document, verb)

    assert len(operations) == len(shipped_client.get("/models").json()["models"])
    for name, operation in operations:
        example = example_of(operation)
        body = generated.model(component_of(operation)).from_dict(example)
        response = generated.call(name, f"{verb}_{name}", body=body)
        plain = shipped_client.post(f"/models/{name}/{verb}", json=example).json()
        assert type(response).__name__.endswith(
            "Prediction" if verb == "predict" else "Explanation"
        )
        assert response.to_dict() == plain, name


def test_lists_of_rows_and_parameters_are_typed(
    generated: GeneratedClient, shipped_client: ShippedClient
) -> None:
    """Rows may be objects or arrays, labels are constants, and probabilities are by label."""
    row = generated.model("IrisRow")(
        sepal_length=5.8, sepal_width=2.7, petal_length=4.1, petal_width=1.0
    )
    values = [5.1, 3.5, 1.4, 0.2]

    body = generated.model("IrisInstances")(instances=[row, values])
    response = generated.call("iris", "predict_iris", body=body, top=1, warnings=False)

    plain = shipped_client.post("/models/iris/predict?top=1", json=body.to_dict()).json()
    assert response.to_dict() == plain
    labels = generated.model("IrisLabel")
    assert [each.label for each in response.predictions] == [labels.VERSICOLOR, labels.SETOSA]
    first = response.predictions[0].probabilities.additional_properties
    assert first == plain["predictions"][0]["probabilities"]


def test_intervals_are_numbers(generated: GeneratedClient) -> None:
    """The level is one of the model's, and the response has its ends."""
    row = generated.model("HousePriceRow")(size=1650, bedrooms=3)

    response = generated.call("house_price", "predict_house_price", body=row, interval=0.9)

    assert response.interval.low < response.value < response.interval.high


def test_several_images_are_sent_as_instances(
    document: dict[str, Any], generated: GeneratedClient
) -> None:
    """The generator's code for a list without an object around it fails next to a form."""
    encoded = example_of(dict(model_operations(document, "predict"))["digits_small"])["image"]
    image = generated.model("ImageObject")(b64=encoded)

    response = generated.call(
        "digits_small",
        "predict_digits_small",
        body=generated.model("DigitsSmallInstances")(instances=[encoded, image]),
    )

    first, second = response.predictions
    assert first.to_dict() == second.to_dict()


def test_errors_are_typed(generated: GeneratedClient) -> None:
    """Each status has a class with a sentence and a code."""
    row = generated.model("AdmissionRow")(exam_1=999, exam_2=2)

    response = generated.call("admission", "predict_admission", body=row)

    assert type(response).__name__ == "Error400"
    assert response.code.value == "invalid_input"
    assert response.details[0].feature == "exam_1"


def test_the_routes_of_every_model_are_typed(generated: GeneratedClient) -> None:
    """Lists, descriptions, metrics, versions, health, and the other protocols."""
    listed = generated.call("any_model", "list_models")
    described = generated.call("any_model", "get_model", name="iris")
    metrics = generated.call("any_model", "get_metrics", name="iris")
    instances = generated.model("V1Instances")(instances=[[5.8, 2.7, 4.1, 1.0]])
    v1 = generated.call(
        "tensor_flow_serving_and_k_serve_v_1", "v1_predict", name="iris", body=instances
    )
    ready = generated.call("health_and_metrics", "check_ready")

    assert "iris" in [model.name for model in listed.models]
    assert (described.versions[0].state.value, described.ready) == ("READY", True)
    assert metrics.metrics.additional_properties[metrics.metric.name] == metrics.metric.value
    assert len(v1.predictions) == 1
    assert ready.ready is True
