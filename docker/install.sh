#!/bin/sh
# In the builder stage alone: makes /opt/venv hold exactly what a lock says, with the building machine's own indexes and
# certificates, which come as build secrets and stay in no layer.
#
#   install.sh tools     the pinned uv
#   install.sh LOCK      the environment
set -eu

if [ -s /run/secrets/ca ]; then
    export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca
fi
if [ -s /run/secrets/uv ]; then
    set -a
    . /run/secrets/uv
    set +a
fi
[ -z "${UV_DEFAULT_INDEX:-}" ] || export PIP_INDEX_URL="$UV_DEFAULT_INDEX"

if [ "$1" = tools ]; then
    python3 -m venv /build/tools
    exec /build/tools/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes -r /requirements/uv.lock
fi

uv=/build/tools/bin/uv
$uv venv --quiet --python "$(command -v python3)" /opt/venv
find_links=
[ ! -d /requirements/wheels ] || find_links="--find-links /requirements/wheels"
# shellcheck disable=SC2086  # empty, or two words
exec $uv pip sync --python /opt/venv/bin/python --require-hashes --compile-bytecode \
    --build-constraints /requirements/build.lock $find_links "/requirements/$1"
