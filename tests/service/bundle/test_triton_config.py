"""Triton's config.pbtxt: labels from the model's own folder, and versions."""

from pathlib import Path

import pytest

from service.bundle.policy import Latest, VersionChoice
from service.bundle.triton_config import read_triton_labels, read_triton_versions

CONFIG = 'output [ { name: "scores" dims: [ 3 ] label_filename: %s } ]'


def write(model_folder: Path, named: str, labels: bytes = b"red\ngreen\n") -> None:
    (model_folder / "config.pbtxt").write_text(CONFIG % named)
    (model_folder / "colors.txt").write_bytes(labels)


@pytest.mark.parametrize("named", ['"colors.txt"', "'colors.txt'", '   "colors.txt"'])
def test_labels_are_the_lines_of_the_file_that_the_configuration_names(
    tmp_path: Path, named: str
) -> None:
    """One label per line; the name may have single or double quotes."""
    write(tmp_path, named)

    assert read_triton_labels(tmp_path) == {"scores": ("red", "green")}


def test_without_a_configuration_there_are_no_labels(tmp_path: Path) -> None:
    """A file of labels alone is ignored."""
    (tmp_path / "colors.txt").write_text("red")

    assert read_triton_labels(tmp_path) == {}


@pytest.mark.parametrize("named", ['"../colors.txt"', '"/etc/hosts"', '"a/b.txt"', '".."', "7"])
def test_a_path_to_another_folder_is_not_followed(tmp_path: Path, named: str) -> None:
    """A label file is read only if it is a file name without a folder."""
    model_folder = tmp_path / "model"
    model_folder.mkdir()
    write(model_folder, named)
    (tmp_path / "colors.txt").write_text("elsewhere")

    assert read_triton_labels(model_folder) == {}


def test_labels_that_cannot_be_read_are_reported_and_omitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a label file, or with an invalid one, the model serves without labels."""
    write(tmp_path, '"missing.txt"')
    missing = read_triton_labels(tmp_path)
    write(tmp_path, '"colors.txt"', b"\xff\xfe")
    unreadable = read_triton_labels(tmp_path)

    assert (missing, unreadable) == ({}, {})
    assert caplog.messages == ["labels cannot be read"] * 2


@pytest.mark.parametrize(
    "config",
    [
        '# label_filename: "colors.txt"',
        'output [ { name: "scores" # label_filename: "colors.txt"\n } ]',
        'output { name: "label_filename: \\"colors.txt\\"" }',
        'input [ { name: "scores" label_filename: "colors.txt" } ]',
        'output { label_filename: "colors.txt" }',
        'output { name: "scores" other { label_filename: "colors.txt" } }',
        "} ] output",
        "",
    ],
)
def test_only_label_files_of_outputs_are_read(tmp_path: Path, config: str) -> None:
    """Comments, strings, inputs, and outputs without a name have no labels."""
    write(tmp_path, '"colors.txt"')
    (tmp_path / "config.pbtxt").write_text(config)

    assert read_triton_labels(tmp_path) == {}


@pytest.mark.parametrize(
    "config",
    [
        'output [ { name: "a" dims: [ 3 ] }, { label_filename: "colors.txt", name: "b" } ]',
        'output { name: "a" } output: { name: "b"; label_filename: "colors.txt" }',
        """# output {\noutput [ { name: "b" reshape { shape: [ ] }
        label_filename: 'colors.txt' } ]""",
    ],
)
def test_labels_belong_to_their_output(tmp_path: Path, config: str) -> None:
    """Only the output with a label file gets labels."""
    write(tmp_path, '"colors.txt"')
    (tmp_path / "config.pbtxt").write_text(config)

    assert read_triton_labels(tmp_path) == {"b": ("red", "green")}


@pytest.mark.parametrize(
    ("config", "versions"),
    [
        ("version_policy: { all { }}", "all"),
        ("version_policy { latest { num_versions: 2 } }", Latest(latest=2)),
        ("version_policy: { latest: { } }", Latest(latest=1)),
        ("version_policy: { specific: { versions: [1, 3] } }", (1, 3)),
        ("version_policy {\n specific {\n versions: 1\n versions: 3\n }\n}\ninput [ ]", (1, 3)),
        ('name: "m" max_batch_size: 8 version_policy: { all { } } output [ ]', "all"),
        ("# version_policy: { all { } }\nmax_batch_size: 8", None),
        ('name: "version_policy { all { } }"', None),
        ("version_policy", None),
        ("version_policy: { latest { num_versions: 0 } }", None),
        ("version_policy: { specific { versions: [" + "9" * 5000 + "] } }", None),
        ("version_policy { specific { } }", None),
    ],
)
def test_the_version_policy_of_triton_is_read(
    tmp_path: Path, config: str, versions: VersionChoice | None
) -> None:
    """Triton's three policies are read in any notation; other ones are ignored."""
    (tmp_path / "config.pbtxt").write_text(config)

    assert read_triton_versions(tmp_path) == versions
