#!/bin/bash
# On a machine with a CUDA device: its tests, the benchmark's ratios, and how close training is to the card's peak.
#
#   scripts/gpu_check.sh [FOLDER]     writes what each says to a file of FOLDER; default: outputs/gpu
#
# PYTHON names the interpreter (default: python3, which must have the package with its extra [dev]).
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-outputs/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
nvidia-smi -L | tee "$out/device.txt" || { echo "gpu_check: there is no CUDA device here" >&2; exit 1; }

failed=0
check() { # NAME COMMAND...
    echo "== $1"
    "${@:2}" 2>&1 | tee "$out/$1.txt" | tail -n 25 || failed=1
}
check tests "$python" -m pytest -m cuda -q -p no:cacheprovider
for suite in step hg loop loop-bf16; do
    check "benchmark-$suite" "$python" scripts/benchmark.py "$suite"
done
check profile "$python" scripts/gpu_profile.py
check profile-compiled "$python" scripts/gpu_profile.py --compile
exit $failed
