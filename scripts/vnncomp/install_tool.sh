#!/usr/bin/env bash
# VNN-COMP: installs bvverify into .venv of this checkout.     install_tool.sh v1
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "install_tool.sh: the first argument is the version of the interface, v1, not '${1:-}'" >&2; exit 1; }
exec "$(dirname "$(realpath "$0")")/../bootstrap"
