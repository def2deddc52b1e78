#!/usr/bin/env bash
# What the first minutes on a GPU should say. See bench/gpu_report.sh --help.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
usage: bench/gpu_report.sh [--build DIR] [--seconds N] [OUT_DIR]     on a machine with a GPU
       bench/gpu_report.sh --pack DIR ARCH                           anywhere: builds into DIR for, say, ARCH 90
       bench/gpu_report.sh --rehearse [--build DIR] [OUT_DIR]        on the host fibers, with tiny shapes

Builds the GPU plug-in for this machine's GPU, then, each part with its own time limit and whatever the others did:
  kernels      every operation against the reference: float32, float16, bfloat16
  fixtures     every folder of tests/fixtures on the device: float32 exactly, float16 and bfloat16 by agreement
  experiments  1 and 2: the constants of the machine; the real step in four ways
  speed        random weights of T5-small, base, large and MADLAD-3B shape: ms per step by rows and beams, encoder tokens/s,
               sentences/s of mixed lengths; beside them CTranslate2 and transformers, when python3 can import them
  experiments  4 to 8
  sanitizer    compute-sanitizer memcheck, racecheck, synccheck over a small run
Nothing is begun after N seconds (520): what is left is reported as skipped. Results go to OUT_DIR (build/gpu-report):
summary.txt, log.txt, *.jsonl, report.json and table.md.

Needs nvcc, cmake, ninja, the packages of scripts/packages.txt, and 8 GB of disk. Where these packages are missing, build
elsewhere with --pack, bring the tree with DIR in it, and give --build DIR: the two libraries lie in it, and the
toolkit is not needed.
END
}

mode=run build="" limit_s=520 out=""
while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h) usage && exit 0 ;;
        --rehearse) mode=rehearse ;;
        --build) build=${2:?--build needs a folder} && shift ;;
        --seconds) limit_s=${2:?--seconds needs a number} && shift ;;
        --pack) mode=pack build=${2:?--pack needs a folder} arch=${3:?--pack needs an architecture} && shift 2 ;;
        -*) echo "bench/gpu_report.sh: unknown option $1; see --help" >&2 && exit 2 ;;
        *) out=$1 ;;
    esac
    shift
done

experiments="exp_gaps exp_memory exp_step $(tr '\n' ' ' <bench/exp/more.txt)"
tests="test_cuda_kernels test_cuda_attention test_cuda_search test_agreement test_fixtures"

# build_for ARCH: everything that the parts run. Paths of the fixtures are taken from the top of the tree.
build_for() {
    cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release "-DT5_CUDA_ARCHS=$1" -DT5_WITH_CUDA=ON -DT5_TEST_ROOT=. \
        "${@:2}" && ninja -C "$build" t5cuda bench_gpu $tests $experiments
}

if [ "$mode" = pack ]; then
    mkdir -p "$build/lib"
    build_for "$arch" >"$build.log" 2>&1 || { tail -20 "$build.log" >&2 && exit 1; }
    find "$build" \( -name '*.o' -o -name '*.a' -o -name '*.d' -o -name '*.txt' -o -name '*.ninja*' \) -type f -delete
    for library in libjansson.so.4 libcmocka.so.0; do
        cp "$(ldd "$(find "$build" -type f -name test_fixtures)" | awk -v name=$library '$1 == name { print $3 }')" "$build/lib"
    done
    du -sh "$build"
    exit 0
fi

out=${out:-build/gpu-report}
mkdir -p "$out"
out=$(cd "$out" && pwd)
log=$out/log.txt
: >"$log"
: >"$out/summary.txt"
rm -f "$out"/*.jsonl
folders="t5-v1.0 t5-v1.1 flan-small-shape mt5 umt5 byt5 madlad silu-buckets"
shapes="small base large madlad-3b"
begin_s=$SECONDS

say() {
    printf '%-44s %s\n' "$1" "$2" | tee -a "$out/summary.txt"
}

# step SECONDS NAME COMMAND...: one line on the screen, everything else in the log.
step() {
    local step_limit=$1 name=$2 start=$SECONDS result=ok
    local left=$((limit_s - (SECONDS - begin_s)))
    shift 2
    if [ "$left" -lt 5 ]; then
        say "$name" "skipped: no time left"
        return 0
    fi
    [ "$mode" != rehearse ] || step_limit=$((step_limit * 10)) # fibers beside other tests
    [ "$step_limit" -lt "$left" ] || step_limit=$left
    printf '== %s\n' "$name" >>"$log"
    timeout -k 5 "$step_limit" "$@" >>"$log" 2>&1 || result="FAILED ($?)"
    say "$name" "$result, $((SECONDS - start)) s"
}

# lines SECONDS NAME FILE COMMAND...: the same; standard output goes to OUT_DIR/FILE.
lines() {
    local file=$out/$3
    # shellcheck disable=SC2016 # the inner shell's arguments
    step "$1" "$2" sh -c 'file=$1 && shift && "$@" >"$file"' sh "$file" "${@:4}"
}

program() {
    find "$build" -type f -name "$1" -print -quit
}

test_type="" kernel_tests="cuda_kernels cuda_attention cuda_search"
if [ "$mode" = rehearse ]; then
    folders=silu-buckets shapes=rehearsal test_type=float16 kernel_tests=cuda_kernels
    build=${build:-$out/build}
    plugin=libt5cuda_simt.so
    [ -n "$(program $plugin)" ] || step 600 build sh -c "cmake -G Ninja -S . -B '$build' -DT5_WITH_CUDA=OFF &&
        ninja -C '$build' t5cuda_simt bench_gpu $tests $(printf '%s' "$experiments" | sed 's/exp_/rehearse_/g')"
else
    plugin=libt5cuda.so
    cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>>"$log" | head -1) || cap=""
    [ -n "$cap" ] || { echo "bench/gpu_report.sh: nvidia-smi finds no GPU" >&2 && exit 1; }
    nvidia-smi >>"$log"
    if [ -z "$build" ]; then
        build=$out/build
        export build tests experiments
        export -f build_for
        step 240 build bash -c "build_for ${cap/./}"
    fi
fi
T5_CUDA_PLUGIN=$(program $plugin)
export T5_CUDA_PLUGIN
export LD_LIBRARY_PATH="$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" # of a pack
[ -n "$T5_CUDA_PLUGIN" ] || { tail -20 "$log" >&2 && exit 1; }

# experiment SECONDS NAME [FLAGS...]: one program of bench/exp.
experiment() {
    local name=$2 file=$2
    if [ "$mode" = rehearse ]; then
        lines "$1" "$name" "$file.jsonl" "$(program "rehearse_${name#exp_}")" --rehearse "${@:3}"
    else
        [ $# -lt 4 ] || file=$2-$(basename "$4")
        lines "$1" "$name ${4:+$(basename "$4")}" "$file.jsonl" "$(program "$name")" --seconds 30 "${@:3}"
    fi
}

# folder_of SHAPE: where its random weights are; they are made when first asked for.
folder_of() {
    if [ "$mode" = rehearse ]; then
        echo tests/fixtures/silu-buckets
        return
    fi
    [ -f "$out/models/$1/config.json" ] || step 60 "weights $1" python3 bench/random_model.py "$1" "$out/models/$1" >&2
    echo "$out/models/$1"
}

for type in ${test_type:-float32 float16 bfloat16}; do
    for name in $kernel_tests; do
        step 20 "$name $type" env "T5_TEST_TYPE=$type" "$(program "test_$name")"
    done
done
for folder in $folders; do
    # A rehearsal leaves to ctest what it has as tests of their own.
    [ "$mode" = rehearse ] || step 20 "fixtures float32 $folder" "$(program test_fixtures)" cuda "$folder"
    step 20 "agreement $folder" "$(program test_agreement)" cuda "$folder"
done
experiment 90 exp_gaps
experiment 40 exp_memory
for shape in ${shapes/ madlad-3b/}; do
    experiment 40 exp_step --model "$(folder_of "$shape")"
done
for shape in $shapes; do
    quick=""
    [ "$mode" != rehearse ] || quick=--quick
    # shellcheck disable=SC2086 # a flag or nothing
    lines 60 "speed $shape" "speed-$shape.jsonl" "$(program bench_gpu)" --model "$(folder_of "$shape")" $quick
    if [ "$mode" != rehearse ]; then
        lines 45 "rivals $shape" "rivals-$shape.jsonl" python3 bench/gpu_rivals.py --model "$(folder_of "$shape")"
    fi
done
for name in $(cat bench/exp/more.txt); do
    experiment 60 "$name" --model "$(folder_of "${shapes%% *}")"
done
if command -v compute-sanitizer >/dev/null && [ "$mode" != rehearse ]; then
    for tool in memcheck racecheck synccheck; do
        step 40 "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$(program bench_gpu)" \
            --model tests/fixtures/silu-buckets --quick
    done
fi
python3 bench/gpu_table.py "$out" | tee "$out/table.md"
rm -rf "$out/models"
say total "$((SECONDS - begin_s)) s"
! grep -q FAILED "$out/summary.txt"
