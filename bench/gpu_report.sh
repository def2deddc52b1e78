#!/usr/bin/env bash
# What the first minutes on a GPU should say. See bench/gpu_report.sh --help.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'EOF'
usage: bench/gpu_report.sh [--rehearse] [OUT_DIR]

Builds the GPU plug-in for this machine's GPU, then, each with its own time limit and whatever the others did:
  kernels    every operation against the reference: float32, float16, bfloat16
  fixtures   every folder of tests/fixtures on the device: float32 exactly, float16 and bfloat16 by agreement
  sanitizer  compute-sanitizer memcheck, racecheck, synccheck over the attention and search tests
  speed      random weights of T5-small, base, large and MADLAD-3B shape: ms per step by rows and beams, encoder tokens/s,
             sentences/s of mixed lengths
Results go to OUT_DIR (build/gpu-report): log.txt, speed-SHAPE.jsonl and table.md. Takes under 9 minutes on an H200's
machine. Needs nvcc, the packages of scripts/packages.txt, and 8 GB of disk.
--rehearse runs the same on the host fibers with a tiny model: it shows that the script works, not how fast anything is.
EOF
}

is_rehearsal=false
case "${1:-}" in
    --help | -h) usage && exit 0 ;;
    --rehearse) is_rehearsal=true && shift ;;
    -*) echo "bench/gpu_report.sh: unknown option $1; see --help" >&2 && exit 2 ;;
esac
out=$(mkdir -p "${1:-build/gpu-report}" && cd "${1:-build/gpu-report}" && pwd)
build=$out/build
log=$out/log.txt
folders="t5-v1.0 t5-v1.1 flan-small-shape mt5 umt5 byt5 madlad silu-buckets"
shapes="small base large madlad-3b"
tests="test_cuda_kernels test_cuda_attention test_cuda_search test_cuda_agreement test_fixtures"
: >"$log"

# step SECONDS NAME COMMAND...: one line on the screen, everything else in the log.
step() {
    local limit=$1 name=$2 start=$SECONDS result=ok
    shift 2
    printf '== %s\n' "$name" >>"$log"
    timeout "$limit" "$@" >>"$log" 2>&1 || result="FAILED ($?)"
    printf '%-44s %s, %s s\n' "$name" "$result" "$((SECONDS - start))" | tee -a "$out/summary.txt"
}

: >"$out/summary.txt"
arch=80
plugin_target=t5cuda
if $is_rehearsal; then
    plugin_target=t5cuda_simt
    folders=silu-buckets
    shapes=rehearsal
elif ! cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>>"$log" | head -1); then
    echo "bench/gpu_report.sh: nvidia-smi finds no GPU" >&2
    exit 1
else
    arch=${cap/./}
fi

# shellcheck disable=SC2086 # lists of words
step 240 configure cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release "-DT5_CUDA_ARCHS=$arch"
# shellcheck disable=SC2086
step 300 build ninja -C "$build" $plugin_target $tests bench_gpu
T5_CUDA_PLUGIN=$(find "$build" -name "lib$plugin_target.so" -print -quit)
export T5_CUDA_PLUGIN
[ -n "$T5_CUDA_PLUGIN" ] || { tail -20 "$log" >&2 && exit 1; }

for type in float32 float16 bfloat16; do
    export T5_TEST_TYPE=$type
    for name in cuda_kernels cuda_attention cuda_search; do
        step 60 "$name $type" "$(find "$build" -type f -name "test_$name" -print -quit)"
    done
done
export T5_TEST_TYPE=float16
for folder in $folders; do
    step 60 "fixtures float32 $folder" "$build/tests/test_fixtures" cuda "$folder"
    step 60 "agreement $folder" "$(find "$build" -type f -name test_cuda_agreement -print -quit)" "$folder"
done
if command -v compute-sanitizer >/dev/null && ! $is_rehearsal; then
    for tool in memcheck racecheck synccheck; do
        for name in cuda_attention cuda_search; do
            step 90 "$tool $name" compute-sanitizer --tool "$tool" --error-exitcode 9 \
                "$(find "$build" -type f -name "test_$name" -print -quit)"
        done
    done
fi
for shape in $shapes; do
    folder=$out/$shape options=
    if $is_rehearsal; then
        folder=tests/fixtures/silu-buckets options=--quick
    else
        step 120 "weights $shape" python3 bench/random_model.py "$shape" "$folder"
    fi
    # shellcheck disable=SC2086
    step 90 "speed $shape" sh -c "'$build/bench/bench_gpu' --model '$folder' $options >'$out/speed-$shape.jsonl'"
    $is_rehearsal || rm -rf "$folder"
done
python3 bench/gpu_table.py "$out"/speed-*.jsonl | tee "$out/table.md"
! grep -q FAILED "$out/summary.txt"
