#!/usr/bin/env bash
# Everything that needs a GPU, unattended: build, tests, sanitizers, benchmarks. `make gpu` runs it in the Python given
# by PYTHON, which has torch >= 2.11 and Triton; nothing is downloaded. Results go to benchmarks/results.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "make gpu needs a CUDA device; torch of $python finds none." >&2
  exit 2
fi

step "building for this GPU"
arch=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST:-$arch}" "$python" setup.py --quiet build_ext --inplace
"$python" -m clof_ext.cli info

step "selftest"
"$python" -m clof_ext.cli selftest --device cuda

step "tests"
"$python" -m pytest -q -m gpu tests

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "compute-sanitizer $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$python" -m clof_ext.cli selftest --device cuda
  done
else
  echo "compute-sanitizer is not installed: memcheck and racecheck are left out"
fi

step "benchmarks"
"$python" -m benchmarks.bench_geometry --device cuda
"$python" -m benchmarks.throughput --device cuda
step "done"
