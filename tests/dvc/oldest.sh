#!/bin/sh
# Runs DVC's own test classes with the oldest DVC that shardflow-dvc supports, in an environment made for that.
#
#   tests/dvc/oldest.sh [DIRECTORY]       the environment is made in DIRECTORY (.venv-dvc-oldest), and used again
#
# Needs uv, or a Python 3.11 or newer whose venv has pip.
set -eu
cd "$(dirname "$0")/../.."
place=${1:-.venv-dvc-oldest}
dvc=3.50.1
needed="dvc==$dvc pathspec<0.13 pytest pytest-timeout pytest-xdist hypothesis moto[s3,server] boto3 aiohttp pip hatchling==1.27.0"

if [ ! -e "$place/ready" ]; then
    # The pins of a release that old are not ours: pathspec is the one that breaks it, and hatchling wants a newer one.
    grep -vE '^(pathspec|hatchling)==' requirements/run.txt > "${TMPDIR:-/tmp}/shardflow-oldest-$$.txt"
    if uv --version >/dev/null 2>&1; then
        uv venv --quiet --clear --python "${PYTHON:-python3}" "$place"
        install="uv pip install --quiet --python $place/bin/python"
    else
        "${PYTHON:-python3}" -m venv --clear "$place"
        install="$place/bin/python -m pip install --quiet --disable-pip-version-check"
    fi
    # shellcheck disable=SC2086  # words, all of them
    $install -r "${TMPDIR:-/tmp}/shardflow-oldest-$$.txt" $needed
    rm -f "${TMPDIR:-/tmp}/shardflow-oldest-$$.txt"
    $install --no-deps --no-build-isolation --editable . --editable dvc_ext
    touch "$place/ready"
fi
"$place/bin/python" -c "import dvc; assert dvc.__version__ == '$dvc', dvc.__version__"
exec "$place/bin/python" -m pytest -q -p no:cacheprovider tests/dvc/conformance
