"""How a model is run: by its tuning.json, the settings, or the time of its warm-up."""

from pathlib import Path

import pytest

from service.bundle.store import read_document, replace_document
from service.bundle.tuning import TUNING, Machine, Tuning
from service.engine.loader import ExecutionPlan, load, plan_for, this_machine
from service.engine.model import Limits, ServedModel
from service.engine.repository import Candidate, fingerprint
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.conftest import StartApp
from tests.models import place_bare, publish_admission, sum_and_difference


def loaded(folder: Path, plan: ExecutionPlan | None = None) -> ServedModel:
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, plan or ExecutionPlan(), Limits(1024, 1000), Metrics())


def test_a_quick_model_runs_inline_and_gives_why(models: Path) -> None:
    """Timed when it is loaded; its rows are the same alone and together."""
    told = loaded(publish_admission(models)).info.execution

    assert told is not None
    assert (told.mode, told.chosen_by, told.threads) == ("inline", "warm-up", 1)
    assert told.rows_bitwise
    assert told.row_seconds is not None
    assert 0 < told.row_seconds < 0.01


def test_the_setting_overrides_the_timing(models: Path) -> None:
    """Whatever was measured."""
    plan = plan_for(Settings(execution="batched", threads=2), "cpu")

    model = loaded(publish_admission(models), plan)

    assert model.execution == "batched"
    assert model.info.execution is not None
    assert (model.info.execution.chosen_by, model.info.execution.threads) == ("setting", 2)


def test_the_models_own_tuning_overrides_the_setting(models: Path) -> None:
    """Threads, where it runs, and the largest batch."""
    folder = publish_admission(models)
    tuning = Tuning(threads=2, execution="batched", max_batch_rows=8, machine=this_machine())
    replace_document(folder.parent / TUNING, tuning)

    model = loaded(folder, plan_for(Settings(execution="inline"), "cpu"))

    assert model.info.execution is not None
    assert model.info.execution.chosen_by == "tuning.json"
    assert (model.execution, model.info.execution.threads) == ("batched", 2)
    assert model.info.max_batch_rows == 8


@pytest.mark.parametrize(
    "content", ["{", '{"threads": 0}', '{"thread": 1}', '{"execution": "sideways"}', "[]"]
)
def test_a_broken_tuning_rejects_nothing(
    models: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The model serves as without it, and the log says what is wrong."""
    folder = publish_admission(models)
    (folder.parent / "tuning.json").write_text(content)

    model = loaded(folder)

    assert model.execution == "inline"
    (record,) = (record for record in caplog.records if record.message == "tuning not used")
    assert "tuning.json is not valid" in record.__dict__["reason"]


def test_a_tuning_of_another_machine_holds_and_is_warned_of(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning tells what differs."""
    folder = publish_admission(models)
    other = Machine(cpu="Zilog Z80", cores=1000, runtime=this_machine().runtime)
    replace_document(folder.parent / TUNING, Tuning(execution="batched", machine=other))

    assert loaded(folder).execution == "batched"
    (record,) = caplog.records
    assert "CPU Zilog Z80, here" in record.__dict__["reason"]
    assert "cores 1000, here" in record.__dict__["reason"]
    assert "ONNX Runtime" not in record.__dict__["reason"]


def test_a_tuning_for_a_device_that_is_not_used_is_left_aside(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was measured on a GPU says nothing of the CPU."""
    folder = publish_admission(models)
    replace_document(folder.parent / TUNING, Tuning(device="cuda", execution="batched"))

    assert loaded(folder).execution == "inline"
    assert "requests cuda, and the service uses cpu" in caplog.records[0].__dict__["reason"]


def test_a_tuning_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """And nothing else is left in the folder."""
    tuning = Tuning(threads=2, machine=this_machine())

    replace_document(tmp_path / TUNING, tuning)

    assert read_document(Tuning, tmp_path / TUNING) == tuning
    assert [path.name for path in tmp_path.iterdir()] == ["tuning.json"]


def test_a_new_tuning_changes_what_a_look_sees(models: Path) -> None:
    """So that the watcher opens the version anew."""
    folder = publish_admission(models)
    before = fingerprint(folder)

    replace_document(folder.parent / TUNING, Tuning(execution="batched"))

    assert fingerprint(folder) != before


def test_a_running_service_follows_a_tuning(models: Path, start: StartApp) -> None:
    """Written while it serves, read by the next load; the folder is neither model nor version."""
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


def test_a_bare_model_is_batched_for_want_of_examples(models: Path, start: StartApp) -> None:
    """Nothing was timed, so no time is told."""
    place_bare(models, "simple", sum_and_difference())
    client = start()

    told = client.get("/models/simple").json()["execution_details"]

    assert told == {
        "mode": "batched",
        "chosen_by": "graph",
        "threads": 1,
        "max_batch_rows": 1,
    }
