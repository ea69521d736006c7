# Images of Evergreen: airflow, trainer, serving, broker, dev. `./evergreen deploy` builds them; by hand:
#
#   DOCKER_BUILDKIT=1 docker build --target trainer -t evergreen/trainer:0.1.0 .
#
# What only the building machine knows comes in as build secrets and by the predefined proxy arguments, and is in no
# layer: --secret id=uv,src=FILE (lines UV_DEFAULT_INDEX='...' and others that uv reads) and --secret id=ca,src=FILE
# (certificate authorities, PEM). requirements/wheels/ may hold wheels that no index has.

ARG BASE=python:3.11-slim-bookworm
# Of the trainer: none, cpu or cuda. With cuda the libraries come as wheels: several gigabytes.
ARG TORCH=none

# What installs: nothing of it but the environments in /opt/venv reaches an image.
FROM ${BASE} AS builder
ENV UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never
COPY docker/install.sh /build/install.sh
RUN --mount=type=bind,source=requirements,target=/requirements \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh tools

FROM builder AS airflow-packages
RUN --mount=type=bind,source=requirements,target=/requirements --mount=type=cache,target=/cache \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh airflow.lock

FROM builder AS dev-packages
RUN --mount=type=bind,source=requirements,target=/requirements --mount=type=cache,target=/cache \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh main.lock

FROM builder AS serving-packages
RUN --mount=type=bind,source=requirements,target=/requirements --mount=type=cache,target=/cache \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh serving.lock

FROM builder AS broker-packages
RUN --mount=type=bind,source=requirements,target=/requirements --mount=type=cache,target=/cache \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh broker.lock

FROM builder AS trainer-packages-none
RUN --mount=type=bind,source=requirements,target=/requirements --mount=type=cache,target=/cache \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh trainer.lock

FROM builder AS trainer-packages-cpu
RUN --mount=type=bind,source=requirements,target=/requirements --mount=type=cache,target=/cache \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh trainer-cpu.lock

FROM builder AS trainer-packages-cuda
RUN --mount=type=bind,source=requirements,target=/requirements --mount=type=cache,target=/cache \
    --mount=type=secret,id=uv --mount=type=secret,id=ca \
    sh /build/install.sh trainer-cuda.lock

FROM trainer-packages-${TORCH} AS trainer-packages

# What all images share: the user, the places, what Python needs to know.
FROM ${BASE} AS common
RUN groupadd --gid 50000 evergreen \
    && useradd --uid 50000 --gid 50000 --home-dir /home/evergreen --create-home --shell /usr/sbin/nologin evergreen \
    && for folder in /var/lib/evergreen /var/lib/evergreen/training_sets /var/lib/evergreen/models \
        /var/lib/evergreen/models/trained; do install -d -o 50000 -g 50000 "$folder"; done
ENV EVERGREEN_HOME=/var/lib/evergreen \
    HOME=/home/evergreen \
    MPLCONFIGDIR=/tmp/matplotlib \
    PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/evergreen/include \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/tmp/cache
WORKDIR /opt/evergreen

# One trainer: a spec in, a bundle out. No Airflow, no Spark, no Feast, and no network when it runs.
FROM common AS trainer
COPY --from=trainer-packages /opt/venv /opt/venv
COPY LICENSE ./
COPY docker/healthy.py docker/healthy.py
COPY requirements/*.lock requirements/
COPY include include
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ENV EVERGREEN_REVISION=${REVISION}
LABEL org.opencontainers.image.title="evergreen/trainer" \
    org.opencontainers.image.description="Trains one candidate from a spec and a training set" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
USER 50000:50000
# It lives for one job and serves nothing: its end is its health.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "evergreen.jobs.train"]
CMD ["--help"]

# The model behind HTTP. No Airflow, no Spark.
FROM common AS serving
COPY --from=serving-packages /opt/venv /opt/venv
COPY LICENSE ./
COPY docker/healthy.py docker/healthy.py
COPY requirements/*.lock requirements/
COPY include include
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ENV EVERGREEN_REVISION=${REVISION}
LABEL org.opencontainers.image.title="evergreen/serving" \
    org.opencontainers.image.description="Serves the champion over HTTP" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
USER 50000:50000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "/opt/evergreen/docker/healthy.py", "http://127.0.0.1:8000/health"]
CMD ["uvicorn", "--factory", "evergreen.serving.app:create_app", "--host", "0.0.0.0", "--port", "8000", "--no-server-header"]

# What stands between workers and the engine.
FROM common AS broker
COPY --from=broker-packages /opt/venv /opt/venv
COPY LICENSE ./
COPY docker/healthy.py docker/healthy.py
COPY requirements/*.lock requirements/
COPY include include
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ENV EVERGREEN_REVISION=${REVISION}
LABEL org.opencontainers.image.title="evergreen/broker" \
    org.opencontainers.image.description="Lets workers start trainers, and nothing else" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
USER 50000:50000
EXPOSE 2375
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "/opt/evergreen/docker/healthy.py", "http://127.0.0.1:2375/_broker/health"]
CMD ["python", "-m", "evergreen.broker"]

# Java for Spark; Airflow and everything that its tasks import. Also Spark's master and workers, and MLflow's server.
FROM common AS java
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends openjdk-17-jre-headless procps \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*.log /var/log/apt \
    && ln -s "$(dirname "$(dirname "$(readlink -f /usr/bin/java)")")" /opt/java
ENV JAVA_HOME=/opt/java

FROM java AS airflow
COPY --from=airflow-packages /opt/venv /opt/venv
COPY LICENSE ./
COPY docker/healthy.py docker/healthy.py
COPY requirements/*.lock requirements/
# An empty configuration: Airflow is told everything by its environment, and would write a file of its own.
RUN install -d -o 50000 -g 50000 /opt/airflow /opt/airflow/logs /var/lib/mlflow /var/lib/spark \
    && install -o 50000 -g 50000 /dev/null /opt/airflow/airflow.cfg
ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/evergreen/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/evergreen/plugins \
    MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONPATH=/opt/evergreen/include:/opt/evergreen/plugins:/opt/evergreen \
    SPARK_HOME=/opt/venv/lib/python3.11/site-packages/pyspark
COPY pyproject.toml evergreen ./
COPY dags dags
COPY feature_repo feature_repo
COPY plugins plugins
COPY include include
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ENV EVERGREEN_REVISION=${REVISION}
LABEL org.opencontainers.image.title="evergreen/airflow" \
    org.opencontainers.image.description="Airflow, Spark and MLflow with Evergreen's DAGs" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
USER 50000:50000
EXPOSE 8080
# Compose gives each service its own check; alone, this image is an API server.
HEALTHCHECK --interval=15s --timeout=10s --start-period=90s --retries=5 \
    CMD ["python", "/opt/evergreen/docker/healthy.py", "http://127.0.0.1:8080/api/v2/monitor/health"]
CMD ["airflow", "api-server"]

# Airflow's image with tests and checks: `docker run evergreen/dev:VERSION pytest -q tests/unit/lake`.
FROM java AS dev
COPY --from=dev-packages /opt/venv /opt/venv
COPY LICENSE ./
COPY docker/healthy.py docker/healthy.py
COPY requirements/*.lock requirements/
RUN install -d -o 50000 -g 50000 /opt/airflow
ENV AIRFLOW_HOME=/opt/airflow \
    PYTHONPATH=/opt/evergreen/include:/opt/evergreen/plugins:/opt/evergreen
COPY pyproject.toml evergreen ./
COPY dags dags
COPY feature_repo feature_repo
COPY plugins plugins
COPY include include
COPY tests tests
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ENV EVERGREEN_REVISION=${REVISION}
LABEL org.opencontainers.image.title="evergreen/dev" \
    org.opencontainers.image.description="Evergreen with its tests and checks" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
USER 50000:50000
HEALTHCHECK NONE
CMD ["pytest", "-q", "-p", "no:cacheprovider", "tests/unit"]
