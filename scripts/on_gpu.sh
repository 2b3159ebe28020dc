#!/usr/bin/env bash
# What a machine with an NVIDIA GPU and `pip install -e . "jax[cuda12]"` is asked in eight minutes: speed of the models
# that programs are planned for, predicted beside measured. Results go to $OUT, or to ./on_gpu.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${OUT:-on_gpu}
mkdir -p "$out"
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/programs} TF_CPP_MIN_LOG_LEVEL=3
export XLA_PYTHON_CLIENT_MEM_FRACTION=.9

# A heading, seconds at most, and a command whose output is kept and whose end is shown.
ask() {
    local name=$1 seconds=$2
    shift 2
    printf '\n=== %s (%ds)\n' "$name" "$SECONDS"
    timeout -k 5 "$seconds" "$@" >"$out/$name.txt" 2>&1
    local status=$?
    tail -n 12 "$out/$name.txt"
    [ $status -eq 0 ] || echo "$name ended with $status"
}

ask card 20 nvidia-smi --query-gpu=name,memory.total,clocks.max.sm,power.limit --format=csv
ask gpt2_plan 60 python scripts/train_gpt.py configs/gpt2_124m_gpu.yaml --plan gpu:1
ask gpt2 100 python scripts/train_gpt.py configs/gpt2_124m_gpu.yaml --steps 60 --report_every 10
ask gpt2_stacked 80 python scripts/train_gpt.py configs/gpt2_124m_gpu.yaml --stacked true --steps 40 --report_every 10
ask gpt2_long 80 python scripts/train_gpt.py configs/gpt2_124m_gpu.yaml --length 32768 --batch_size 2 --steps 20 --report_every 5
ask resnet50 80 python scripts/train_resnet.py configs/resnet50_gpu.yaml --steps 60 --report_every 10
printf '\n=== all in %ds\n' "$SECONDS"
