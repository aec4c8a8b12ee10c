#!/bin/sh
# Runs DVC's own test classes, and quick tests of the remote, with the oldest DVC that shardflow-dvc supports, in an
# environment made for that.
#
#   tests/dvc/oldest.sh [DIRECTORY]       the environment is made in DIRECTORY (.venv-dvc-oldest), and used again
#
# Needs uv, or a Python 3.11 or newer whose venv has pip.
set -eu
cd "$(dirname "$0")/../.."
place=${1:-.venv-dvc-oldest}
pins=requirements/oldest.txt
ready="$place/ready-$(cat pyproject.toml dvc_ext/pyproject.toml "$pins" | cksum | cut -d ' ' -f 1)"

if [ ! -e "$ready" ]; then
    if uv --version >/dev/null 2>&1; then
        uv venv --quiet --clear --python "${PYTHON:-python3}" "$place"
        install="uv pip install --quiet --no-deps --python $place/bin/python"
    else
        "${PYTHON:-python3}" -m venv --clear "$place"
        install="$place/bin/python -m pip install --quiet --no-deps --disable-pip-version-check"
    fi
    $install -r "$pins"
    $install --no-build-isolation --editable . --editable dvc_ext
    touch "$ready"
fi
dvc=$(sed -n 's/^dvc==//p' "$pins")
"$place/bin/python" -c "import dvc; assert dvc.__version__ == '$dvc', dvc.__version__"
remote=tests/dvc/remote
exec "$place/bin/python" -m pytest -q -p no:cacheprovider -m "not service" tests/dvc/conformance \
    "$remote/test_options.py" "$remote/test_handed_over.py" "$remote/test_gone_store.py" "$remote/test_commands.py" \
    -k "not test_commands or comes_back or fetch_fills or versions_share or imported_fetched"
