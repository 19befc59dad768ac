#!/bin/bash
# The reproduction of docs/rules.md on one GPU, in order of importance, in pieces: a call works for so many seconds,
# saves, and exits with 75; the same call goes on from there, to the same bits. Exit 0: all done; 1: a run failed or
# diverged, as its summary says.
#
#   scripts/reproduce_gpu.sh DATA SECONDS [FIGURE/SCALE...]
#
# DATA holds cifar10/ and imagenet/, each as its dataset.root takes it. The runs lie in outputs/SCALE/FIGURE, and
# `corridor-figures FIGURE --runs outputs/SCALE` draws them at any time. Figures 4 and 7 show runs of Figures 2 and 8.
#
# PYTHON names the interpreter (default: python3), PROCESSES how many runs share the GPU (default: 6), of each of two
# sweeps that run side by side: small batches leave most of a GPU idle. Keep what has ended:
#   python scripts/thin.py outputs/full/fig2 outputs/reference/full/fig2
set -uo pipefail
data=${1:?where the data are}
end=$((SECONDS + ${2:?how many seconds to work}))
jobs=("${@:3}")
[ ${#jobs[@]} -gt 0 ] || jobs=(fig2/full fig9/full fig5/full fig6/full fig9/mini fig5/mini fig6/mini
    fig2/mini fig8/mini fig3/mini stem/full)
export OMP_NUM_THREADS=1

sweep() { # FIGURE/SCALE
    local figure=${1%/*} scale=${1#*/} place left
    place=outputs/$scale/$figure
    left=$((end - SECONDS))
    [ "$left" -gt 15 ] || return 75
    mkdir -p "$(dirname "$place")"
    timeout --signal=TERM "$left" "${PYTHON:-python3}" -m corridor_exp.cli.sweep figure="$figure" scale="$scale" \
        dataset.root="$data/\${dataset.name}" out_dir="$place" processes="${PROCESSES:-6}" >"$place.log" 2>&1
    local code=$?
    echo "$1: exit $code, $((end - SECONDS)) s left"
    [ "$code" = 124 ] && return 75
    return "$code"
}

worst=0
for job in "${jobs[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n; code=$?; [ "$code" -gt "$worst" ] && worst=$code
    done
    sweep "$job" &
done
while [ "$(jobs -p | wc -l)" -gt 0 ]; do
    wait -n; code=$?
    [ "$code" = 127 ] && break
    [ "$code" -gt "$worst" ] && worst=$code
done
exit "$worst"
