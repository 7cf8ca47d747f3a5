# Python, the installed service and the shipped models; no compiler, no pip cache, no torch.
#
#   docker build -t onward .                                the CPU image
#   docker build -t onward --build-arg EXTRAS=tables .      also reads Parquet, Arrow and Excel
#   docker build -t onward:cuda --build-arg EXTRAS=cuda .   CUDA inside; the host brings the driver
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp onward
#
# The root may be read-only. /tmp must be writable for ONWARD_WORKERS above 1, whose workers share
# their metrics through files there, and for responses to tables that clients have not read yet.

FROM python:3.13-slim AS build
# Extras of pyproject.toml, comma separated: empty, cuda, tables, or cuda,tables. The libraries of
# tables take 196 MB, about as much as everything else.
ARG EXTRAS=""
# StringNormalizer, with which scikit-learn's text pipelines begin, opens this locale: 3 MB.
RUN apt-get update && apt-get install -y --no-install-recommends locales \
    && localedef --no-archive -i en_US -f UTF-8 /en_US.utf8
WORKDIR /source
RUN python -m venv --without-pip /opt/onward
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY training training
# The cache is the builder's own and never part of a layer.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/onward/bin/python install -c constraints.txt ".${EXTRAS:+[$EXTRAS]}"
# Both images hold the same build of ONNX Runtime, so both return the same results. Without CUDA its GPU
# libraries, and its second copy for programs in C, are never loaded: 315 MB. They are removed from the
# list of installed files too, so that pip and scanners see what is installed.
RUN case "$EXTRAS" in *cuda*) exit 0 ;; esac; \
    cd /opt/onward/lib/python3*/site-packages; \
    for library in libonnxruntime.so libonnxruntime_providers_cuda \
        libonnxruntime_providers_tensorrt; do \
        rm -f onnxruntime/capi/$library*; \
        sed -i "\#^onnxruntime/capi/$library#d" onnxruntime*.dist-info/RECORD; \
    done
# pysimdjson contains the sources that it was compiled from: 8 MB.
RUN cd /opt/onward/lib/python3*/site-packages; \
    for source in simdjson.cpp simdjson.h util.cpp util.h csimdjson.pyx csimdjson.pxd; do \
        rm -f simdjson/$source; \
        sed -i "\#^simdjson/$source,#d" pysimdjson*.dist-info/RECORD; \
    done
RUN pip --python /opt/onward/bin/python check
COPY models /models
# Whatever the checkout's umask was, the service's user can read the models.
RUN chmod -R a+rX /models

FROM python:3.13-slim
LABEL org.opencontainers.image.title="Onward" \
      org.opencontainers.image.description="Serves ONNX models over REST, with metrics" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/onward /opt/onward
COPY --from=build /models /models
COPY --from=build /en_US.utf8 /usr/lib/locale/en_US.utf8
# ORT_DISABLE_TELEMETRY: without it, ONNX Runtime sends telemetry.
ENV PATH="/opt/onward/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    ONWARD_HOST=0.0.0.0 \
    ONWARD_PORT=8000 \
    ONWARD_LOG_FORMAT=json \
    ONWARD_MODELS=/models
# A number, so that an orchestrator can see that it is not root. It needs no name and no home folder.
USER 10001:10001
EXPOSE 8000
# ProxyHandler({}) ignores the proxy variables of the environment; -I and -S start faster.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['ONWARD_PORT']}/health/ready\", timeout=4)"]
ENTRYPOINT ["onward"]
CMD ["serve"]
