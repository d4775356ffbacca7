#!/usr/bin/env bash
# VNN-COMP: decides an instance and writes sat (with a counterexample), unsat, unknown, timeout or error into the results file.
#   run_instance.sh v1 CATEGORY MODEL.onnx PROPERTY.vnnlib RESULTS.txt SECONDS
# Exit code 0 when the results file holds the answer; 1 wrong arguments, or the file cannot be written.
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "run_instance.sh: the first argument is the version of the interface, v1, not '${1:-}'" >&2; exit 1; }
[ $# -eq 6 ] || { echo "run_instance.sh: v1 CATEGORY MODEL.onnx PROPERTY.vnnlib RESULTS.txt SECONDS" >&2; exit 1; }
here=$(dirname "$(realpath "$0")")
[ -x "$here/../../.venv/bin/python" ] || { echo "run_instance.sh: bvverify is not installed; run install_tool.sh v1" >&2; exit 1; }
# Replaces this shell, so that whoever ends the script ends the search.
exec "$here/../../.venv/bin/python" "$here/run_instance.py" "${@:2}"
