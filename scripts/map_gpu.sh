#!/bin/bash
# scripts/map_gpu.sh DATA SECONDS OUT [PART…]: the runs of the map (docs/when-clr-works.md) on one machine with a CUDA
# device. A PART is map_digits, map_full, map_cifar or map_fresh; without one, all.
# DATA has CIFAR-10 as train/<class>/ and test/<class>/. The CIFAR-10 part runs on the device, the digits parts on the
# processor, at the same time. After SECONDS all runs are stopped. OUT gets files of each part, for `corridor-figures map`.
set -u
DATA=$1 END=$((SECONDS + $2)) OUT=$3 PYTHON=${PYTHON:-python3} CORES=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
mkdir -p "$OUT" outputs/map
PARTS=("${@:4}")
[ ${#PARTS[@]} -gt 0 ] || PARTS=(map_digits map_full map_cifar map_fresh)

sweep() { # figure processes overrides…
  local left=$((END - SECONDS))
  [ $left -gt 10 ] || { echo "$1: no time left"; return; }
  timeout --signal=TERM $left "$PYTHON" -m corridor_exp.cli.sweep figure="$1" out_dir="outputs/map/$1" processes="$2" "${@:3}" > "outputs/map/$1.log" 2>&1
  echo "$1: exit $? after $SECONDS seconds"
  "$PYTHON" scripts/thin_lines.py map "$OUT/$1" "outputs/map/$1"
}

# Decode the images once, before several runs would do so at the same time.
"$PYTHON" -c "
import sys, torch
from corridor_exp.datasets import cifar10
cifar10(root=sys.argv[1], download=False, device=torch.device('cpu'), seed=0)" "$DATA"
has() { [[ " ${PARTS[*]} " == *" $1 "* ]]; }
(for part in map_digits map_full; do has $part && sweep $part $((CORES / 2 + 1)); done) &
(for part in map_cifar map_fresh; do has $part && sweep $part "$CORES" dataset.root="$DATA"; done) &
wait
