#!/bin/bash
# The paper's CIFAR-10 figures at full scale on one GPU, in pieces: a call works for so many seconds, saves, and exits
# with 75; the same call goes on from there, to the same bits. Exit 0: all done.
#
#   scripts/reproduce_gpu.sh DATA [SECONDS [FIGURE...]]     default: 570 seconds, fig2 fig9 fig5
#
# DATA is what dataset.root takes; the runs lie in outputs/full/FIGURE, and `corridor-figures FIGURE --runs outputs/full`
# draws them at any time. Figures 4 and 7 show the runs of Figure 2 under CLR.
#
# With 40 minutes of a card: four calls of 570 seconds with the default figures. Figure 2 comes first (its first three
# runs, CLR with probes, are Figures 4 and 7, too), then Figure 9, then Figure 5. Keep what has ended:
#   python scripts/thin.py outputs/full/fig2 outputs/reference/full/fig2
set -uo pipefail
data=${1:?where the data are, as dataset.root takes it}
end=$((SECONDS + ${2:-570}))
figures=("${@:3}")
sweep=(${PYTHON:-python3} -m corridor_exp.cli.sweep)

[ ${#figures[@]} -gt 0 ] || figures=(fig2 fig9 fig5)

worst=0
for figure in "${figures[@]}"; do
    left=$((end - SECONDS))
    [ "$left" -gt 20 ] || exit 75
    timeout --signal=TERM "$left" "${sweep[@]}" figure="$figure" scale=full dataset.root="$data" out_dir="outputs/full/$figure"
    code=$?
    if [ "$code" = 124 ] || [ "$code" = 75 ]; then exit 75; fi
    [ "$code" -gt "$worst" ] && worst=$code
done
exit "$worst"
