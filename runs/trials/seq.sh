#!/bin/bash
# seq.sh CODE FOLDER SEED [extra...] -- STAGES
CODE=$1 FOLDER=$2 SEED=$3; shift 3; EXTRA=(); while [ "$1" != "--" ]; do EXTRA+=("$1"); shift; done; shift
cd $CODE; echo -5 > /proc/self/autogroup
. /work/exp/env.sh; export PYTHONPATH=$CODE
for s in "$@"; do date; /usr/bin/time -f "%es" python -m minidream.train $s --folder $FOLDER --seed $SEED --quiet "${EXTRA[@]}" || exit 1; done; date
