#!/usr/bin/env python3
"""Table of registers, shared memory and spilled bytes of each CUDA kernel, from what ptxas said in the build.

usage: cuda_registers.py BUILD_DIR [ARCH ...]     prints Markdown; architectures default to sm_80 sm_90 sm_100 sm_120
"""
import re
import subprocess
import sys
from pathlib import Path

ARCHS = ["sm_80", "sm_90", "sm_100", "sm_120"]

COMPILING = re.compile(r"Compiling entry function '(\w+)' for '(sm_\d+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


def read_reports(build):
    """{kernel: {arch: (registers, static shared bytes, spilled bytes)}}"""
    kernels = {}
    for path in sorted(Path(build, "cuda").glob("*.ptxas.txt")):
        name = arch = None
        spilled = 0
        for line in path.read_text().splitlines():
            if match := COMPILING.search(line):
                name, arch = match.groups()
            elif match := SPILLS.search(line):
                spilled = int(match[2]) + int(match[3])
            elif "Used " in line and name:
                registers = int(re.search(r"Used (\d+) registers", line)[1])
                shared = re.search(r"(\d+) bytes smem", line)
                kernels.setdefault(name, {})[arch] = (registers, int(shared[1]) if shared else 0, spilled)
    return kernels


def demangle(names):
    done = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True).stdout.splitlines()
    short = [re.sub(r"\(.*", "", name).replace("void ", "").replace("__nv_bfloat16", "bf16").replace("__half", "half")
             for name in done]
    return dict(zip(names, short))


def main(args):
    if not args:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    kernels = read_reports(args[0])
    archs = args[1:] or ARCHS
    names = demangle(list(kernels))
    print("| kernel | " + " | ".join(archs) + " | shared | spilled |")
    print("| --- |" + " --- |" * (len(archs) + 2))
    for kernel in sorted(kernels, key=lambda k: names[k]):
        by = kernels[kernel]
        registers = " | ".join(str(by[a][0]) if a in by else "-" for a in archs)
        print(f"| `{names[kernel]}` | {registers} | {max(v[1] for v in by.values())} | {max(v[2] for v in by.values())} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
