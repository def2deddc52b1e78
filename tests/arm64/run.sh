#!/bin/sh
# Builds the CPU backends for 64-bit ARM and runs their tests in qemu on a processor with dot products, and those of the
# parts on one without. Says what is missing and leaves with 77 where that cannot be done.
# usage: run.sh BUILD_DIR
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$1
for program in aarch64-linux-gnu-gcc qemu-aarch64 cmake ninja; do
    command -v "$program" >/dev/null || { echo "skipped: no $program" && exit 77; }
done
for file in ld-linux-aarch64.so.1 libjansson.so libcmocka.so; do
    [ -e "/usr/lib/aarch64-linux-gnu/$file" ] || { echo "skipped: no $file of arm64" && exit 77; }
done
cmake -G Ninja -S "$top/tests/arm64" -B "$build" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_TOOLCHAIN_FILE="$top/cmake/arm64.cmake" >/dev/null
ninja --quiet -C "$build"
export T5_TEST_SCALE=0.01 # an emulator takes a hundred times as long
QEMU_CPU=cortex-a76 ctest --test-dir "$build" --output-on-failure
QEMU_CPU=cortex-a72 ctest --test-dir "$build" --output-on-failure -R cpu_parts
