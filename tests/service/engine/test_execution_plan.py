"""How a model runs is determined by its tuning.json, the settings, or its measured speed."""

from pathlib import Path

import pytest

from service.bundle.store import read_document, replace_document
from service.bundle.tuning import TUNING, Machine, Tuning
from service.engine.loader import ExecutionPlan, describe_machine, load, plan_execution
from service.engine.model import BatchLimits, ServedModel
from service.engine.repository import Candidate, compute_fingerprint
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.conftest import StartApp
from tests.models import publish_admission, publish_bare, sum_and_difference


def load_version(folder: Path, plan: ExecutionPlan | None = None) -> ServedModel:
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, plan or ExecutionPlan(), BatchLimits(1024, 1000), Metrics())


def test_a_quick_model_runs_inline(models: Path) -> None:
    """It is timed at load; its outputs have the same bits alone and in a batch."""
    execution = load_version(publish_admission(models)).info.execution

    assert execution is not None
    assert (execution.mode, execution.chosen_by, execution.threads) == ("inline", "warm-up", 1)
    assert execution.rows_bitwise
    assert execution.row_seconds is not None
    assert execution.row_seconds > 0


def test_the_setting_overrides_the_timing(models: Path) -> None:
    """The setting decides where a model runs, for any measured time."""
    plan = plan_execution(Settings(execution="batched", threads=2), "cpu")

    model = load_version(publish_admission(models), plan)

    assert model.execution == "batched"
    assert model.info.execution is not None
    assert (model.info.execution.chosen_by, model.info.execution.threads) == ("setting", 2)


def test_the_models_own_tuning_overrides_the_setting(models: Path) -> None:
    """The tuning file of a model sets its threads, mode and batch size."""
    folder = publish_admission(models)
    tuning = Tuning(threads=2, execution="batched", max_batch_rows=8, machine=describe_machine())
    replace_document(folder.parent / TUNING, tuning)

    model = load_version(folder, plan_execution(Settings(execution="inline"), "cpu"))

    assert model.info.execution is not None
    assert model.info.execution.chosen_by == "tuning.json"
    assert (model.execution, model.info.execution.threads) == ("batched", 2)
    assert model.info.max_batch_rows == 8


@pytest.mark.parametrize(
    "content", ["{", '{"threads": 0}', '{"thread": 1}', '{"execution": "sideways"}', "[]"]
)
def test_a_model_with_an_invalid_tuning_file_serves(
    models: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The model serves as without the file, and the log has the reason."""
    folder = publish_admission(models)
    (folder.parent / "tuning.json").write_text(content)

    model = load_version(folder)

    assert model.execution == "inline"
    (record,) = (record for record in caplog.records if record.message == "tuning not used")
    assert "tuning.json is not valid" in record.__dict__["reason"]


def test_a_tuning_of_another_machine_applies_with_a_warning(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning lists the differences between the two machines."""
    folder = publish_admission(models)
    other = Machine(cpu="Zilog Z80", cores=1000, runtime=describe_machine().runtime)
    replace_document(folder.parent / TUNING, Tuning(execution="batched", machine=other))

    assert load_version(folder).execution == "batched"
    (record,) = caplog.records
    assert "CPU Zilog Z80, here" in record.__dict__["reason"]
    assert "cores 1000, here" in record.__dict__["reason"]
    assert "ONNX Runtime" not in record.__dict__["reason"]


def test_a_tuning_for_another_device_is_ignored(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Measurements on a GPU do not apply to the CPU."""
    folder = publish_admission(models)
    replace_document(folder.parent / TUNING, Tuning(device="cuda", execution="batched"))

    assert load_version(folder).execution == "inline"
    assert "requests cuda, and the service uses cpu" in caplog.records[0].__dict__["reason"]


def test_a_tuning_file_survives_a_round_trip(tmp_path: Path) -> None:
    """No other file is left in the folder."""
    tuning = Tuning(threads=2, machine=describe_machine())

    replace_document(tmp_path / TUNING, tuning)

    assert read_document(Tuning, tmp_path / TUNING) == tuning
    assert [path.name for path in tmp_path.iterdir()] == ["tuning.json"]


def test_a_new_tuning_file_changes_the_fingerprint(models: Path) -> None:
    """The next scan reloads a version with a new tuning file."""
    folder = publish_admission(models)
    before = compute_fingerprint(folder)

    replace_document(folder.parent / TUNING, Tuning(execution="batched"))

    assert compute_fingerprint(folder) != before


def test_a_running_service_applies_a_new_tuning_file(models: Path, start: StartApp) -> None:
    """The file is read by the next load; it is regarded neither as a model nor as a version."""
    folder = publish_admission(models)
    client = start(model_control="explicit")
    before = client.get("/models/admission").json()
    replace_document(
        folder.parent / TUNING, Tuning(execution="batched", threads=1, max_batch_rows=16)
    )

    assert client.post("/v2/repository/models/admission/load").status_code == 200

    after = client.get("/models/admission").json()
    assert (before["execution"], after["execution"]) == ("inline", "batched")
    assert before["execution_details"]["chosen_by"] == "warm-up"
    assert before["execution_details"]["row_microseconds"] > 0
    assert before["execution_details"]["batch_rows_bitwise"] is True
    assert after["execution_details"]["chosen_by"] == "tuning.json"
    assert after["execution_details"]["max_batch_rows"] == 16
    assert [each["version"] for each in after["versions"]] == ["1"]


def test_a_bare_model_is_batched_because_it_has_no_examples(models: Path, start: StartApp) -> None:
    """It is not timed, so no time is reported."""
    publish_bare(models, "simple", sum_and_difference())
    client = start()

    execution = client.get("/models/simple").json()["execution_details"]

    assert execution == {
        "mode": "batched",
        "chosen_by": "graph",
        "threads": 1,
        "max_batch_rows": 1,
    }
