"""The command line: what each command does, and that no mistake ends in a traceback."""

import signal
import sys
import threading
from pathlib import Path
from traceback import walk_stack
from types import ModuleType

import numpy as np
import pytest

from service.bundle.store import read_bundle
from training import fit
from training.__main__ import main
from training.cli import new, write_recipe
from training.data.sources import Folders

_HEADER = "size,color,price\n"
_NEW = ["new", "--csv", "houses.csv", "--target", "price"]


def _houses(rows: int = 60) -> str:
    generator = np.random.default_rng(1)
    size = generator.normal(100, 20, rows)
    color = generator.choice(["red", "blue"], rows)
    lines = [
        f"{s:.2f},{c},{3 * s + 10 * (c == 'red'):.2f}" for s, c in zip(size, color, strict=True)
    ]
    return _HEADER + "\n".join(lines) + "\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_prints_recipes_and_versions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shipped recipe has a line with its published versions."""
    assert main(["list", "--models", str(here)]) == 0

    said = capsys.readouterr().out
    assert "ice_cream" in said
    assert "[published: none]" in said


def test_train_is_the_default_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`key=value` changes the recipe, and metrics are printed next to the baseline."""
    assert main(["line", "seed=5", "--models", "published"]) == 0

    said = capsys.readouterr().out
    assert "Published published/line/1" in said
    assert "9-fold cross-validation" in said
    assert '"seed": 5' in (here / "published/line/1/manifest.json").read_text()


@pytest.mark.parametrize("classes", [True, False])
def test_a_model_worse_than_the_baseline_is_reported_first(
    here: Path,
    classes: bool,  # noqa: FBT001 - a parameter of the test
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A complete tree learns noise by heart; command and report say so before anything else."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 300))
    word = [("yes" if value > 0 else "no") if classes else f"{value:.3f}" for value in y]
    lines = [f"{a:.3f},{b}" for a, b in zip(x, word, strict=True)]
    (here / "noise.csv").write_text("\n".join(["x,y", *lines]))
    labels = 'labels = ["no", "yes"]' if classes else ""
    (here / "noise.toml").write_text(
        'name = "noise"\ntitle = "Noise"\n[data]\nfile = "noise.csv"\n'
        f'[target]\ncolumn = "y"\n{labels}\n[[features]]\nname = "x"\ntype = "number"\n'
        '[network]\nfamily = "decision-tree"\n'
    )

    assert main(["train", "noise.toml"]) == 0

    said = [line for line in capsys.readouterr().out.splitlines() if "models folder" not in line]
    metric = "log_loss" if classes else "rmse"
    assert said[0].startswith(f"Worse than the baseline: {metric}")
    report = (here / "models/noise/1/report.html").read_text()
    assert "Worse than the baseline" in report
    assert report.index("Worse than the baseline") < report.index("Charts</h2>")


def test_new_drafts_and_trains_a_recipe_for_a_csv_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published model can be evaluated and compared; the same command trains again."""
    (here / "houses.csv").write_text(_houses())

    assert main([*_NEW, "--family", "linear"]) == 0
    drafted = capsys.readouterr().out
    assert main(["evaluate", "houses", "--csv", "houses.csv"]) == 0
    trained_on = capsys.readouterr().out.splitlines()
    (here / "others.csv").write_text(_houses() + "50,red,100\n")
    assert main(["evaluate", "houses", "--csv", "others.csv"]) == 0
    assert trained_on[0].startswith("These rows were used for training: ")
    assert trained_on[1] == "houses/1 on 60 rows of houses.csv:"
    assert capsys.readouterr().out.startswith("houses/1 on 61 rows of others.csv:")
    assert main(["houses.toml", "seed=2", "split.folds=2", "training.epochs=2"]) == 0
    assert main([*_NEW, "--family", "linear"]) == 0
    assert main(["compare"]) == 0

    said = capsys.readouterr().out
    assert "houses.csv: 60 rows, 3 columns." in drafted
    assert "Wrote houses.toml" in drafted
    assert "houses.toml already contains this recipe" in said
    assert "houses/1" in said
    assert "houses/2" in said
    assert "houses/3" in said


def test_recall_and_precision_of_a_rare_label_are_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below the misleading accuracy, as in the manifest."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=300)
    rare = x + generator.normal(size=300) > 1.6
    lines = [f"{a:.3f},{'ill' if b else 'well'}" for a, b in zip(x, rare, strict=True)]
    (here / "people.csv").write_text("x,state\n" + "\n".join(lines) + "\n")

    assert main(["new", "--csv", "people.csv", "--target", "state", "--family", "logistic"]) == 0

    said = capsys.readouterr().out
    evaluation = read_bundle(here / "models/people/1").manifest.evaluation
    assert evaluation is not None
    for metric in ("recall[ill]", "precision[ill]"):
        assert f"  {metric:<18} {evaluation.metrics[metric]:.4g}  (0)" in said


def test_the_users_copy_of_a_public_data_set_is_used(
    here: Path, monkeypatch: pytest.MonkeyPatch, folders: Folders
) -> None:
    """No data folder and no network is needed."""
    assert folders.data is not None
    (here / "mine.csv").write_bytes((folders.data / "admissions" / "ex2data1.txt").read_bytes())
    monkeypatch.delenv("ONWARD_DATA", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(here))

    assert main(["new", "--csv", "mine.csv", "--target", "3", "--family", "logistic"]) == 0
    assert main(["mine.toml", "split.folds=2"]) == 0

    assert 'source = "admissions"' in (here / "mine.toml").read_text()


def test_an_existing_recipe_is_not_overwritten(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may have been edited; another one gets the next free number, once."""
    (here / "houses.csv").write_text(_houses())
    (here / "houses.toml").write_text("mine")

    assert main([*_NEW, "--family", "linear"]) == 0
    assert main([*_NEW, "--family", "linear"]) == 0
    assert main([*_NEW, "--family", "linear", "--drop", "color"]) == 0

    said = capsys.readouterr().out
    assert "Wrote houses.2.toml; houses.toml has another recipe, and is unchanged" in said
    assert "houses.2.toml already contains this recipe" in said
    assert "Wrote houses.3.toml" in said
    assert (here / "houses.toml").read_text() == "mine"
    assert "color" not in (here / "houses.3.toml").read_text()
    assert [path.name for path in sorted((here / "models/houses").glob("[0-9]"))] == ["1", "2", "3"]


def test_a_recipe_that_cannot_be_trained_is_removed(here: Path) -> None:
    """`new` leaves no file behind."""
    (here / "houses.csv").write_text(_houses())
    (here / "models").write_text("in the way")

    assert main([*_NEW, "--family", "linear"]) == 2

    assert not (here / "houses.toml").exists()


def test_an_interrupted_run_prints_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """^C while a network is fitted: code 130, no bundle, and no recipe."""
    (here / "houses.csv").write_text(_houses(300))
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = threading.Event()

    def interrupt() -> None:
        # Not before: a library that reads the table may swallow what is raised in its callbacks.
        while not ended.wait(0.01):
            if (here / "houses.toml").exists() and _runs(fit):
                signal.raise_signal(signal.SIGINT)
                return

    presser = threading.Thread(target=interrupt)
    presser.start()
    try:
        code = main([*_NEW, "--family", "mlp"])
    finally:
        ended.set()
        presser.join()
        signal.signal(signal.SIGINT, usual)

    assert code == 130
    assert capsys.readouterr().err == "Interrupted; published models are unchanged.\n"
    assert not (here / "houses.toml").exists()
    assert not (here / "models").exists()


def _runs(module: ModuleType) -> bool:
    """Whether the main thread is in one of a module's functions."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the documented way
    within = [] if frame is None else [inner.f_code.co_filename for inner, _ in walk_stack(frame)]
    return module.__file__ in within


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        (_HEADER, "has a header but no rows"),
        (_HEADER + "1,red,2\n", "has one value in all rows"),
        (_HEADER + "1,red,same\n2,blue,same\n3,red,same\n", "has one value in all rows"),
        ("size,color\n1,red\n2,blue\n", "has no column 'price'"),
        (_HEADER + ",,\n,,\n", "has no value in all rows"),
        (_HEADER + "1,red,2\n1,red,2,4,5\n", "5 cells where the first row has 3"),
    ],
)
def test_an_unusable_table_exits_with_a_message(
    content: str, sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, a message on standard error, and nothing published."""
    (here / "table.csv").write_text(content)

    assert main(["new", "--csv", "table.csv", "--target", "price"]) == 2

    assert sentence in capsys.readouterr().err
    assert not (here / "models").exists()


def test_the_error_for_text_in_a_numeric_column_has_its_cell(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word in a numeric column of a recipe is rejected by row and column."""
    (here / "houses.csv").write_text(_houses())
    write_recipe(new(Path("houses.csv"), "price", None, "linear"), Path("houses.toml"))
    (here / "houses.csv").write_text(_houses().replace("\n", "\nbig,red,300\n", 1))

    assert main(["houses.toml"]) == 2

    assert "row 1, column 'size': 'big' is not a number" in capsys.readouterr().err


def test_a_misspelled_file_is_reported_with_the_closest_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a recipe of the same folder, also of another one than the working folder."""
    (here / "own").mkdir()
    (here / "own" / "wohnungen.toml").touch()

    assert main(["own/wohnungn.toml"]) == 2

    assert "No such file or directory; did you mean own/wohnungen.toml?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["admision"], "did you mean admission"),
        (["ice_cream", "training.epoch=3"], "did you mean epochs"),
        (["ice_cream", "epochs=3"], "did you mean training.epochs?"),
        (["evaluate", "nothing", "--csv", "x.csv"], "There is no model 'nothing'"),
        (["new", "--csv", ".", "--target", "y"], "is a folder"),
        (["new", "--csv", "absent.csv", "--target", "y"], "No such file"),
        (["absent.toml"], "absent.toml cannot be read"),
        (["ice_crem.toml"], "did you mean the recipe ice_cream?"),
    ],
)
@pytest.mark.usefixtures("here")
def test_invalid_arguments_exit_with_a_message(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and how to fix it, without a traceback."""
    assert main(words) == 2

    assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_compare_rejects_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    """The message suggests a similar name, and nothing is printed."""
    assert main(["line"]) == 0
    capsys.readouterr()

    assert main(["compare", "line", "lime"]) == 2

    said = capsys.readouterr()
    assert "There is no model 'lime' in models; did you mean 'line'?" in said.err
    assert said.out == ""


def test_evaluate_rejects_a_modified_bundle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All checks of the contract apply."""
    assert main(["line"]) == 0
    model = here / "models/line/1/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    (here / "points.csv").write_text("x,y\n1,3\n2,5\n")

    assert main(["evaluate", "line", "--csv", "points.csv"]) == 2

    assert "has changed: its sha256" in capsys.readouterr().err
