#!/usr/bin/env bash
# What only a GPU can show, within 10 minutes: the CUDA tests, then the speed table (docs/results/speed_gpu.md).
# PYTHON: an interpreter with a CUDA build of torch and inril's core dependencies; default: .venv's.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
export PYTHONPATH="$PWD:$PWD/ros2_ws/src/inril_bringup${PYTHONPATH:+:$PYTHONPATH}"
"$python" - <<'PY' || exit 1
import sys, torch
if not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__} finds no GPU: install a CUDA build of torch, or name an interpreter by PYTHON=")
print(f"torch {torch.__version__} on {torch.cuda.get_device_name()}")
PY
"$python" -m pytest tests/finetune/test_cuda.py -q
"$python" -m inril_core.bench.speed --device cuda --out "${OUT:-docs/results}/speed_gpu.md" "$@"
