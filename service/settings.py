"""Every option of the service: the only reader of the environment.

Each field is a setting ``ONWARD_<NAME>`` and an option ``--<name>`` of ``onward serve``.
Its description is what ``--help`` and ``docs/operations.md`` say.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.spelling import nearest

# Read by the training programs; a name that both may find in one environment.
_NOT_OURS = {"ONWARD_DATA"}


_DEVICES = ("auto", "cpu", "cuda", "tensorrt")


def _device(name: str) -> str:
    """A device by its short name, where it has one, or by its execution provider's name."""
    short = name.lower().removesuffix("executionprovider")
    if short in _DEVICES:
        return short
    if name.endswith("ExecutionProvider"):
        return name
    raise ValueError(
        f"must be one of {', '.join(_DEVICES)}, or a name of ONNX Runtime such as "
        "OpenVINOExecutionProvider"
    )


Device = Annotated[str, AfterValidator(_device)]
Execution = Literal["auto", "inline", "batched"]
VersionPolicy = Literal["latest", "all"]
Positive = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The service's options, from the environment unless given."""

    model_config = SettingsConfigDict(env_prefix="ONWARD_", frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. 127.0.0.1 is this machine alone; a container needs "
        "0.0.0.0, which opens the service to the network it is on.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="TCP port. 0 takes a free one, which the log names. A port in use stops the "
        "start with an error.",
    )
    models: Path = Field(
        default=Path("models"),
        description="Folder of models, each <name>/<version>/model.onnx. It must exist; a model "
        "that cannot be served is reported and the others serve.",
    )
    version_policy: VersionPolicy = Field(
        default="latest",
        description="Which versions of a model serve, where its own policy.json does not say: "
        "latest, the newest that proves itself; all, which takes memory for each.",
    )
    device: Device = Field(
        default="auto",
        description="auto uses an NVIDIA GPU where one works; cpu never does; cuda, tensorrt, and "
        "ONNX Runtime's own provider names such as OpenVINOExecutionProvider, refuse to start "
        "where they do not work, and say why.",
    )
    gpu_memory_mib: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Most mebibytes that each model's runs take on an NVIDIA GPU, weights "
        "included; 0 is no limit. Too little fails runs with 500.",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="Processes; 0 is one for each core that the process may use. One per core "
        "gives the most throughput; each loads every model, so memory grows with them.",
    )
    worker_seconds: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that a load or unload waits for each of several workers; above it "
        "503, which names the worker. At least as long as the largest model takes to load.",
    )
    worker_health_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds in which each of several workers must answer a health check, from "
        "its first import on; one that does not is replaced. Longer where processors are scarce.",
    )
    memory_budget_mib: int = Field(
        default=0,
        ge=0,
        description="Most mebibytes that models take in each worker, as told from their files. "
        "With it a model is loaded by its first request, and the least recently used leaves for "
        "it. 0 loads every model at the start and keeps it.",
    )
    max_loaded_models: int = Field(
        default=0,
        ge=0,
        description="Most models in memory in each worker; with it they are loaded and leave as "
        "with a budget. 0 is no such limit.",
    )
    load_isolation: Literal["none", "process"] = Field(
        default="none",
        description="process opens each new version in a process of its own first, so that one "
        "whose load crashes the runtime or never ends is refused; it takes about a second and "
        "that version's memory once more. none trusts that loads end.",
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="ONNX Runtime threads a run, in each worker. 0 chooses for each model: 1, and "
        "for a slow one cores / workers where that is measured to be quicker when it is loaded. "
        "More than cores / workers makes every answer slower.",
    )
    execution: Execution = Field(
        default="auto",
        description="How models run: inline, at once on the event loop; batched, joined in a "
        "thread; auto times each when it is loaded. inline for a slow model holds up every "
        "caller of the service.",
    )
    model_control: Literal["none", "explicit"] = Field(
        default="none",
        description="explicit lets any caller load and unload models by the repository calls; "
        "none refuses them. Keep those calls from strangers.",
    )
    shared_memory: Literal["none", "system"] = Field(
        default="none",
        description="system lets callers on this machine hand over tensors in POSIX shared "
        "memory that they name; none refuses that. With system, whoever reaches the service can "
        "have it read and overwrite any shared memory of the service's user. One worker only.",
    )
    poll_seconds: float = Field(
        default=2.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between looks at the models folder; new, changed and removed versions "
        "are taken over without a restart. 0 never looks again. Less notices sooner and reads the "
        "folder more often.",
    )
    max_body_bytes: Positive = Field(
        default=64 * 1024 * 1024,
        description="Largest request body in bytes; above it 413. Each request in flight may hold "
        "several times this in memory. Tables stream and may be of any size.",
    )
    max_connections: Positive = Field(
        default=2048,
        description="Most open connections in each worker. When all are in use, a new one takes "
        "the place of one that is idle or whose request is still arriving; if none is, it gets "
        "503. Also bounded by the process's limit of open files.",
    )
    first_request_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds a new connection may stay open before its first byte; then it is "
        "closed. Longer than load balancers keep unused connections in reserve.",
    )
    head_seconds: PositiveSeconds = Field(
        default=15.0,
        description="Seconds from the first byte of a request to the end of its headers; above "
        "it 408 and the connection is closed.",
    )
    body_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds of waiting in which a request body must make progress: at least "
        "ONWARD_MIN_BODY_BYTES_PER_SECOND on average; if not, 408 and the connection is closed.",
    )
    min_body_bytes_per_second: Annotated[int, Field(ge=0)] = Field(
        default=240,
        description="Slowest rate at which a request body may arrive, averaged over "
        "ONWARD_BODY_SECONDS. 0 accepts any rate above zero, for clients that write a table as "
        "they produce it.",
    )
    keep_alive_seconds: PositiveSeconds = Field(
        default=75.0,
        description="Seconds an idle connection is kept open for its next request. Longer than "
        "the proxy in front keeps its own idle connections, or it loses requests.",
    )
    write_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds a client may leave a response unread before its connection is "
        "closed. Longer for clients that process a response while they read it.",
    )
    max_head_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=64 * 1024,
        description="Largest request head (request line and headers) in bytes; above it 431.",
    )
    max_headers: Positive = Field(
        default=100, description="Most headers of one request; above it 431."
    )
    max_url_bytes: Positive = Field(
        default=8 * 1024, description="Longest request URL in bytes; above it 414."
    )
    max_query_parameters: Positive = Field(
        default=32, description="Most parameters in a query string; above it 414."
    )
    max_concurrent_requests: Positive = Field(
        default=1024,
        description="Most requests that each worker processes at a time, counted once their body "
        "has arrived; above it 429. Predictions that are computed at once, on the event loop, are "
        "not counted. More accepts larger bursts, and makes each of them wait longer.",
    )
    max_concurrent_tables: Positive = Field(
        default=32,
        description="Most tables that each worker scores at a time; above it 429. Tables share "
        "one thread of work, so more does not make them faster.",
    )
    max_bytes_in_flight: Positive = Field(
        default=256 * 1024 * 1024,
        description="Most bytes that the bodies and responses of all requests may take in each "
        "worker, decompressed and parsed; above it 429. At least four times "
        "ONWARD_MAX_BODY_BYTES, or the largest bodies are always rejected. Bodies and responses "
        "of up to 64 KiB are not counted.",
    )
    max_unread_bytes: Positive = Field(
        default=128 * 1024 * 1024,
        description="Most bytes of responses that clients leave unread in each worker; above it "
        "the clients that have read nothing for longest are disconnected.",
    )
    max_decompression_ratio: Positive = Field(
        default=100,
        description="Most bytes that one byte of a compressed body may expand to, checked above "
        "1 MiB; above it 413. JSON and CSV seldom exceed 20.",
    )
    max_request_rows: Positive = Field(
        default=100_000,
        description="Most rows or images of one request; above it 413. Tables (text/csv and "
        "application/x-ndjson) stream and may have any number.",
    )
    max_json_members: Positive = Field(
        default=1_000_000,
        description="Most values in one JSON body, as its commas, colons and opening brackets "
        "tell, brackets counting twice; above it 413, before anything is parsed. Also the most "
        "strings of a BYTES tensor. While a body is parsed nothing else runs, so more makes other "
        "clients wait longer: about 150 ms for a million.",
    )
    max_form_parts: Positive = Field(
        default=100,
        description="Most parts (files and fields) of one multipart form; above it 413.",
    )
    max_csv_record_bytes: Positive = Field(
        default=1024 * 1024,
        description="Largest single record of a CSV or newline-delimited JSON body in bytes, "
        "quoted line breaks included; above it 413.",
    )
    max_spool_bytes: Annotated[int, Field(ge=0)] = Field(
        default=1024**3,
        description="Most bytes of all table responses together that each worker keeps in "
        "temporary files while their clients still send and do not read; a table that begins "
        "when they are used up gets 507. 0 keeps none; a large table then needs a client that "
        "reads while it sends, as curl does.",
    )
    spool_folder: Path | None = Field(
        default=None,
        description="Folder of those temporary files; the system's temporary folder by default. "
        "On a file system of its own, so that a full one affects nothing else.",
    )
    max_image_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = Field(
        default=24 * 1024**2,
        description="Most pixels of an image, as its header states; above it 400, before "
        "anything is decoded. Decoding may take five bytes of memory for each of them, so formats "
        "whose decoders take more have a part of them (of the default: AVIF 10 megapixels, WebP 7, "
        "JPEG 2000 6), and baseline JPEG, which is decoded at a reduced size, may have eight times "
        "as many. One large image is decoded at a time in each worker.",
    )
    max_explained_rows: Positive = Field(
        default=100,
        description="Most rows or images of one explanation; above it 400. Where a model is "
        "asked for its reasons, each costs some hundred predictions.",
    )
    max_batch_rows: int = Field(
        default=0,
        ge=0,
        description="Most rows joined into one run. 0 is 1024, and up to 8192 where a model "
        "computes so many within half a millisecond. More raises throughput under load and the "
        "memory of a run; a single larger request still runs whole.",
    )
    max_queued_rows: Positive = Field(
        default=200_000,
        description="Most rows waiting per model; above it 429 at once. More rides out bursts, "
        "and makes the last caller wait longer.",
    )
    sticky_header: str = Field(
        default="x-caller-id",
        description="Header of requests that tells who asks, for models whose policy.json splits "
        "their requests: the same value is answered by the same version. Requests without it are "
        "split by chance.",
    )
    split_seed: int | None = Field(
        default=None,
        description="Seed of the chance by which requests are split, for tests that are to be "
        "repeated. Several workers draw the same numbers, each for its own requests.",
    )
    readiness: Literal["lenient", "strict"] = Field(
        default="lenient",
        description="lenient is ready when at least one model serves; strict also asks that every "
        "model which was in the folder at the start has served, so that a rollout with a broken "
        "model stops.",
    )
    drain_seconds: float = Field(
        default=2.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds after SIGTERM in which readiness is false and requests are still "
        "taken, so that load balancers notice before the port closes. Longer than their probes' "
        "period times the failures they wait for; 0 closes at once.",
    )
    deadline_seconds: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds a prediction may take from the moment its request has arrived, "
        "waiting included; above it 504. Keep it below the client's own timeout, so that the "
        "client reads why.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="text is for people; json is one object a line for log collectors.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe messages kept. debug is for developers; warning hides which "
        "models were loaded.",
    )
    log_requests: Literal["all", "errors", "none"] = Field(
        default="errors",
        description="Which requests get a log line. errors logs answers of 400 and above; all "
        "costs throughput; none leaves only the metrics.",
    )
    server_name: str = Field(
        default="onward",
        description="Name told by GET /v2; set it where clients compare it.",
    )


def misspelt_variables(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each variable that looks like a setting and is none."""
    known = {f"ONWARD_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(names):
        if name.startswith("ONWARD_") and name not in known | _NOT_OURS:
            close = nearest(name, known)
            advice = f"did you mean {close}?" if close else "onward serve --help lists them."
            yield f"{name} is not a setting and has no effect; {advice}"
