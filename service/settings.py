"""All settings of the service. Its other modules do not read settings from the environment.

Each field is the environment variable ``ONWARD_<NAME>`` and the option ``--<name>`` of
``onward serve``, and its description is the option's help.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.spelling import closest_name, format_suggestion

# Variables of training, which may be set in the same environment.
_TRAINING_VARIABLES = {"ONWARD_DATA"}
_SIZE = re.compile(r"(\d{1,9}) ?([kKmMgG])(i?)B")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
OWN_PATHS = (
    "docs",
    "favicon.ico",
    "health",
    "healthz",
    "metrics",
    "models",
    "openapi.json",
    "redoc",
    "static",
    "v1",
    "v2",
)
"""The first segments of the paths of the service."""
_DEVICES = ("auto", "cpu", "cuda", "tensorrt")


def _normalize_device(name: str) -> str:
    """Return the short name of a device, or the name of an execution provider without one."""
    short = name.lower().removesuffix("executionprovider")
    if short in _DEVICES:
        return short
    if name.endswith("ExecutionProvider"):
        return name
    raise ValueError(
        f"must be one of {', '.join(_DEVICES)}, or a name of ONNX Runtime such as "
        "OpenVINOExecutionProvider"
    )


def _check_root_path(path: str) -> str:
    """Return a prefix of paths that no path of the service itself can begin with."""
    if path and not _ROOT_PATH.fullmatch(path):
        raise ValueError("must begin with / and not end with /, such as /onward")
    if path.split("/")[1:2] and path.split("/")[1] in OWN_PATHS:
        raise ValueError(f"must not begin like a path of the service: {', '.join(OWN_PATHS)}")
    return path


def _read_bytes(value: object) -> object:
    """Return the number of bytes of a size with a unit, such as 64MB or 64MiB."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    number, letter, binary = found.groups()
    return int(number) * (1024 if binary else 1000) ** ("kmg".index(letter.lower()) + 1)


RootPath = Annotated[str, AfterValidator(_check_root_path)]
Device = Annotated[str, AfterValidator(_normalize_device)]
Execution = Literal["auto", "inline", "batched"]
VersionPolicy = Literal["latest", "all"]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveBytes = Annotated[Positive, BeforeValidator(_read_bytes)]
NonNegativeBytes = Annotated[NonNegative, BeforeValidator(_read_bytes)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeSeconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of the service; those not passed are read from the environment."""

    model_config = SettingsConfigDict(env_prefix="ONWARD_", frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. 127.0.0.1 accepts connections from this machine only; "
        "a container needs 0.0.0.0, which opens the service to its network.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="TCP port. 0 selects a free port and logs it. If the port is in use, the "
        "service does not start.",
    )
    root_path: RootPath = Field(
        default="",
        description="Path prefix that a proxy adds, such as /onward; the OpenAPI document and "
        "links then have it. Requests may arrive with the prefix or without it. Without this "
        "setting, a proxy must remove its prefix.",
    )
    models: Path = Field(
        default=Path("models"),
        description="Folder of models, each <name>/<version>/model.onnx. It must exist. A model "
        "that cannot be served is reported, and the others are served.",
    )
    version_policy: VersionPolicy = Field(
        default="latest",
        description="Which versions of a model are served, unless its policy.json says otherwise: "
        "latest, the newest that passes its self-test; all, which takes memory for each.",
    )
    device: Device = Field(
        default="auto",
        description="auto uses an NVIDIA GPU if one works; cpu never does. With cuda, tensorrt or "
        "the name of an ONNX Runtime execution provider, such as OpenVINOExecutionProvider, the "
        "service does not start if that device cannot be used, and reports why.",
    )
    gpu_memory_mib: NonNegative = Field(
        default=0,
        description="Maximum memory in MiB of each model on an NVIDIA GPU, including its weights; "
        "0 is no limit. With too little, predictions fail with status 500.",
    )
    workers: NonNegative = Field(
        default=1,
        description="Worker processes; 0 is one for each core that the service may use. One per "
        "core gives the highest throughput. Each worker loads every model, so memory grows with "
        "their number.",
    )
    worker_seconds: PositiveSeconds = Field(
        default=60.0,
        description="Seconds that a load or unload request waits for each of several workers; "
        "then the response is 503 and names the worker. Set it longer than the largest model "
        "takes to load.",
    )
    worker_health_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds in which each of several workers must respond to a health check, "
        "counted from the start of its process; a worker that does not is replaced. Increase it "
        "if processor time is scarce.",
    )
    memory_budget_mib: NonNegative = Field(
        default=0,
        description="Maximum memory in MiB of the models in each worker, estimated from their "
        "files. With a budget, models are loaded on their first request, and the least recently "
        "used ones are evicted. 0 loads all models at startup and keeps them loaded.",
    )
    max_loaded_models: NonNegative = Field(
        default=0,
        description="Maximum number of loaded models in each worker. With a limit, they are "
        "loaded and evicted as with a memory budget. 0 is no limit.",
    )
    load_isolation: Literal["none", "process"] = Field(
        default="none",
        description="process first loads each new version in a separate process, so that one that "
        "crashes ONNX Runtime or never finishes loading is rejected; this takes about a second, "
        "and the memory of that version a second time. none loads it in the service.",
    )
    threads: NonNegative = Field(
        default=0,
        description="Threads of ONNX Runtime for each run, in each worker. 0 chooses for each "
        "model at load: 1, or cores / workers for a slow model if that is measured to be faster. "
        "More than cores / workers makes all predictions slower.",
    )
    execution: Execution = Field(
        default="auto",
        description="How models run: inline, immediately on the event loop; batched, in a thread "
        "that joins requests; auto measures each model at load. A slow model that runs inline "
        "delays all other requests.",
    )
    model_control: Literal["none", "explicit"] = Field(
        default="none",
        description="explicit lets any client load and unload models through the repository API; "
        "none rejects these requests. With explicit, allow the repository API for trusted clients "
        "only.",
    )
    shared_memory: Literal["none", "system"] = Field(
        default="none",
        description="system lets clients on this machine pass tensors in POSIX shared memory; "
        "none rejects such requests. With system, any client can make the service read and "
        "overwrite all shared memory of the service's user. One worker only.",
    )
    poll_seconds: NonNegativeSeconds = Field(
        default=2.0,
        description="Seconds between scans of the models folder; new, changed and removed "
        "versions are applied without a restart. 0 scans only at startup. A shorter interval "
        "applies changes sooner and reads the folder more often.",
    )
    max_body_bytes: PositiveBytes = Field(
        default=64 * 1024 * 1024,
        description="Maximum size of a request body in bytes; above it status 413. Each request "
        "in progress may take several times this in memory. Tables are streamed and may be of any "
        "size.",
    )
    max_connections: Positive = Field(
        default=2048,
        description="Maximum number of open connections in each worker. When all are in use, a "
        "new connection replaces one that is idle or whose request is still arriving; if there is "
        "none, it gets status 503. Also limited by the process's limit of open files.",
    )
    first_request_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds that a new connection may stay open before its first byte; then it "
        "is closed. On Linux, the kernel holds a silent connection for up to seven seconds before "
        "it counts. Set it longer than load balancers keep unused connections open.",
    )
    head_seconds: PositiveSeconds = Field(
        default=15.0,
        description="Seconds from the first byte of a request to the end of its headers; above it "
        "status 408, and the connection is closed.",
    )
    body_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds over which the rate of an arriving request body is averaged; if it "
        "is below ONWARD_MIN_BODY_BYTES_PER_SECOND, status 408, and the connection is closed.",
    )
    min_body_bytes_per_second: NonNegative = Field(
        default=240,
        description="Minimum rate at which a request body must arrive, averaged over "
        "ONWARD_BODY_SECONDS. 0 accepts any rate above zero, for clients that write a table as "
        "they produce it.",
    )
    keep_alive_seconds: PositiveSeconds = Field(
        default=75.0,
        description="Seconds that an idle connection is kept open for its next request. Set it "
        "longer than a proxy in front keeps its idle connections, or the proxy loses requests.",
    )
    write_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds that a client may leave a response unread before its connection is "
        "closed. Increase it for clients that process a response while they read it.",
    )
    max_head_bytes: Annotated[int, Field(ge=1024), BeforeValidator(_read_bytes)] = Field(
        default=64 * 1024,
        description="Maximum size of a request head (request line and headers) in bytes; above it "
        "status 431.",
    )
    max_headers: Positive = Field(
        default=100, description="Maximum number of headers of a request; above it status 431."
    )
    max_url_bytes: PositiveBytes = Field(
        default=8 * 1024,
        description="Maximum length of a request URL in bytes; above it status 414.",
    )
    max_query_parameters: Positive = Field(
        default=32,
        description="Maximum number of parameters in a query string; above it status 414.",
    )
    max_concurrent_requests: Positive = Field(
        default=1024,
        description="Maximum number of requests that each worker processes at a time, counted "
        "once their body has arrived; above it status 429. Predictions that run inline are not "
        "counted. A higher limit accepts larger bursts, whose requests wait longer.",
    )
    max_concurrent_tables: Positive = Field(
        default=32,
        description="Maximum number of tables that each worker scores at a time; above it status "
        "429. Tables share one thread, so a higher limit does not make them faster.",
    )
    max_bytes_in_flight: PositiveBytes = Field(
        default=256 * 1024 * 1024,
        description="Maximum number of bytes that the bodies and responses of all requests take "
        "in each worker, decompressed and parsed; above it status 429. Set it to at least four "
        "times ONWARD_MAX_BODY_BYTES, or the largest bodies are always rejected. Bodies and "
        "responses of up to 64 KiB are not counted.",
    )
    max_unread_bytes: PositiveBytes = Field(
        default=128 * 1024 * 1024,
        description="Maximum number of unread bytes of responses in each worker; above it the "
        "clients that have read nothing for longest are disconnected.",
    )
    max_decompression_ratio: Positive = Field(
        default=100,
        description="Maximum number of bytes that one byte of a compressed body may expand to, "
        "checked above 1 MiB; above it status 413. JSON and CSV rarely exceed 20.",
    )
    max_request_rows: Positive = Field(
        default=100_000,
        description="Maximum number of rows or images of a request; above it status 413. Tables "
        "(text/csv and application/x-ndjson) are streamed and may have any number of rows.",
    )
    max_json_members: Positive = Field(
        default=1_000_000,
        description="Maximum number of values in a JSON body, counted by its commas, colons and "
        "opening brackets before it is parsed, colons and brackets twice; above it status 413. "
        "Also limits the strings of a BYTES tensor. Parsing blocks all other requests of a worker: "
        "about 100 ms for a million values.",
    )
    max_form_parts: Positive = Field(
        default=100,
        description="Maximum number of parts (files and fields) of a multipart form; above it "
        "status 413.",
    )
    max_csv_record_bytes: PositiveBytes = Field(
        default=1024 * 1024,
        description="Maximum size of a record of a CSV or newline-delimited JSON body in bytes, "
        "quoted line breaks included; above it status 413.",
    )
    max_table_file_memory_mib: Annotated[int, Field(ge=256)] = Field(
        default=1024,
        description="Maximum memory in MiB of a process that reads a Parquet, Arrow or Excel file "
        "from a request; above it status 400. Each worker has up to four such processes. A file "
        "needs several times its size when it is unpacked.",
    )
    max_spool_bytes: NonNegativeBytes = Field(
        default=1024**3,
        description="Maximum number of bytes of table responses that each worker stores in "
        "temporary files for clients that send without reading; a table that starts when they are "
        "used up gets status 507. 0 stores none; large tables then need a client that reads while "
        "it sends, such as curl.",
    )
    spool_folder: Path | None = Field(
        default=None,
        description="Folder for these temporary files; the system's temporary folder by default. "
        "Use a separate file system, so that nothing else is affected when it is full.",
    )
    max_image_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = Field(
        default=24 * 1024**2,
        description="Maximum number of pixels of an image according to its header; above it "
        "status 400, before anything is decoded. Decoding may take five bytes of memory for each "
        "pixel, so the limit is lower for formats whose decoders take more (by default AVIF 10 "
        "megapixels, WebP 7, JPEG 2000 6), and eight times higher for baseline JPEG, which is "
        "decoded at a reduced size. Each worker decodes one large image at a time.",
    )
    max_explained_rows: Positive = Field(
        default=100,
        description="Maximum number of rows or images of an explanation request; above it status "
        "400. Explaining a row by sampling takes about a hundred predictions.",
    )
    max_batch_rows: NonNegative = Field(
        default=0,
        description="Maximum number of rows joined into one run. 0 is 1024, and up to 8192 for "
        "models that compute that many within half a millisecond. A larger batch raises the "
        "throughput under load and the memory of a run. A single larger request still runs as one "
        "batch.",
    )
    max_queued_rows: Positive = Field(
        default=200_000,
        description="Maximum number of queued rows of each model; above it status 429 "
        "immediately. A higher limit accepts larger bursts, whose last requests wait longer.",
    )
    sticky_header: str = Field(
        default="x-client-id",
        description="Header that identifies the client, for models whose policy.json splits their "
        "traffic: requests with the same value get predictions from the same version. Requests "
        "without it are split randomly.",
    )
    split_seed: int | None = Field(
        default=None,
        description="Random seed for splitting traffic, for repeatable tests. Several workers "
        "draw the same numbers, each for its own requests.",
    )
    readiness: Literal["lenient", "strict"] = Field(
        default="lenient",
        description="lenient reports ready when at least one model is served; strict also "
        "requires that every model in the folder at startup has become ready, so that a rollout "
        "with a broken model stops.",
    )
    drain_seconds: NonNegativeSeconds = Field(
        default=2.0,
        description="Seconds after SIGTERM in which readiness is false and requests are still "
        "accepted, so that load balancers notice before the port closes. Set it longer than the "
        "period of their probes times their failure threshold; 0 closes the port immediately.",
    )
    deadline_seconds: PositiveSeconds = Field(
        default=30.0,
        description="Seconds that a prediction may take once its request has arrived, including "
        "time in the queue; above it status 504. Set it shorter than the clients' own timeout, so "
        "that they receive the reason.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="text is for people; json writes one object per line for log collectors.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Minimum severity of messages that are logged. debug is for developers; "
        "warning hides which models were loaded.",
    )
    log_requests: Literal["all", "errors", "none"] = Field(
        default="errors",
        description="Which requests are logged. errors logs responses with status 400 and above; "
        "all costs throughput; none leaves only the metrics.",
    )
    server_name: str = Field(
        default="onward",
        description="Name in the response to GET /v2; set it if clients compare it.",
    )


def may_have_unit(name: str) -> bool:
    """Return whether a setting is a size, which may have a unit such as MiB."""
    return BeforeValidator(_read_bytes) in Settings.model_fields[name].metadata


def find_misspelled_variables(names: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each ``ONWARD_`` variable that is not a setting."""
    known = {f"ONWARD_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(names):
        if name.startswith("ONWARD_") and name not in known | _TRAINING_VARIABLES:
            close = closest_name(name, known)
            advice = format_suggestion(close, "onward serve --help lists them.", str)
            yield f"{name} is not a setting and has no effect; {advice}"
