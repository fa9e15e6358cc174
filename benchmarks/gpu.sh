#!/usr/bin/env bash
# Everything that needs a GPU, unattended: build, tests, benchmarks, sanitizers. `make gpu` runs it in the Python given
# by PYTHON, which has torch >= 2.11, Triton and what is named below; nothing is downloaded. Results go to
# benchmarks/results. What fails is said at the end: the rest is done all the same, since a GPU may not be there again
# soon.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
failed=()

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
try() {
  "$@" && return
  failed+=("$*")
  echo "FAILED: $*" >&2
}

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "make gpu needs a CUDA device; torch of $python finds none." >&2
  exit 2
fi

missing=$("$python" -c '
import importlib.util, shutil
modules = ("triton", "numpy", "setuptools", "pybind11", "pytest", "pytest_benchmark")
print(*(name for name in modules if importlib.util.find_spec(name) is None))
print(*(name for name in ("cmake", "ninja") if shutil.which(name) is None))
')
if [[ -n ${missing//[[:space:]]/} ]]; then
  echo "make gpu needs more than $python has: $(echo $missing)." >&2
  exit 2
fi

step "building for this GPU"
arch=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
# The build looks for nvcc, and says so where there is none.
CLOF_EXT_CUDA=1 TORCH_CUDA_ARCH_LIST="$arch" "$python" setup.py --quiet build_ext --inplace
"$python" -m clof_ext.cli info

step "tests"
# Kernels are compiled as tests ask for them: several processes at once where pytest-xdist is there.
workers=$("$python" -c 'import xdist' 2>/dev/null && echo "-n $(($(nproc) < 8 ? $(nproc) : 8))" || true)
# shellcheck disable=SC2086
try "$python" -m pytest -q $workers -m gpu tests/ops tests/cuda tests/nn

# After the tests, which compile Triton's kernels in several processes.
step "selftest"
try "$python" -m clof_ext.cli selftest --device cuda

step "benchmarks"
# Networks of published batches and of a million edges; torch.compile, minutes for each, is in bench_edge_block.
try "$python" -m benchmarks.bench_network --device cuda --cases clofnet-5 clofnet-20 --hidden 64 128 \
  --systems 128 2632 --seconds 0.2
try "$python" -m benchmarks.profile_edge_block
try "$python" -m benchmarks.bench_geometry --device cuda
try "$python" -m benchmarks.bench_edge_block

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    sanitizer=(compute-sanitizer --tool "$tool" --error-exitcode 1)
    step "compute-sanitizer $tool"
    try "${sanitizer[@]}" "$python" -m clof_ext.cli selftest --device cuda
    # Triton's kernels are in its cache by now.
    tests=("${sanitizer[@]}" --target-processes all "$python" -m pytest -q -p no:cacheprovider)
    try "${tests[@]}" tests/cuda/test_frame_message.py -k "test_options and (ClofNet or gated)"
    try "${tests[@]}" tests/cuda/test_mlp.py -k test_values_and_gradients
  done
else
  echo "compute-sanitizer is not installed: memcheck and racecheck are left out"
fi

if command -v ncu >/dev/null; then
  step "profile of the edge block"
  ncu --kernel-name 'regex:prepare_kernel|forward_kernel|backward_kernel|nodes_kernel' --launch-count 8 --csv \
    --log-file benchmarks/results/edge_block_ncu.csv --set basic \
    "$python" -m benchmarks.bench_edge_block --hidden 64 --edges 1000000 --seconds 0 --output "$(mktemp -d)" ||
    echo "ncu may not read counters here: the profile is left out"
else
  echo "ncu is not installed: the profile is left out"
fi

step "done"
if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
