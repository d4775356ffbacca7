#!/usr/bin/env bash
# VNN-COMP: sees to it that an instance can be run: bvverify is installed, both files are there. No analysis.
#   prepare_instance.sh v1 CATEGORY MODEL.onnx PROPERTY.vnnlib
# Exit code 0 when it can; 1 wrong arguments; 2 a file is missing.
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "prepare_instance.sh: the first argument is the version of the interface, v1, not '${1:-}'" >&2; exit 1; }
[ $# -ge 4 ] || { echo "prepare_instance.sh: v1 CATEGORY MODEL.onnx PROPERTY.vnnlib" >&2; exit 1; }
here=$(dirname "$(realpath "$0")")
[ -x "$here/../../.venv/bin/python" ] || { echo "prepare_instance.sh: bvverify is not installed; run install_tool.sh v1" >&2; exit 1; }
exec "$here/../../.venv/bin/python" "$here/run_instance.py" --prepare "$2" "$3" "$4"
