#!/usr/bin/env python3
"""Checks of the source text. Usage: tidy.py includes|headers|functions|format|text|readme [TOP]

Each check prints one line per finding, `file:line: what`, and exits 1 when there is any; 77 when the machine lacks the
tool that it needs. docs/CONTRIBUTING.md says what the rules are for; the dependency table stands here alone.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SKIPPED = 77
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

# What each folder may include of ours, besides itself: a folder, or one header of it.
MAY_INCLUDE = {
    "base": [],
    "json": ["base"],
    "config": ["base"],
    "tokenizer": ["base", "json"],
    "model": ["base", "json"],
    "text": ["base"],
    "cpu": ["base", "model"],
    "cuda": ["base", "model", "device/plugin.h"],
    "device": ["base", "model", "cpu"],
    "engine": ["base", "model"],
    "translate": ["base", "json", "text", "tokenizer", "model", "engine", "device"],
    "server": ["base", "config", "text", "engine", "device", "translate", "tokenizer/tokenizer.h", "model/decoding.h"],
    "cli": ["base", "config", "text", "engine", "device", "translate", "tokenizer/tokenizer.h",
            "model/decoding.h", "model/decoding.def", "model/hparams.h", "model/quantize_folder.h",
            "model/weights.h"],
}
# Which folders may include the headers of an outside library.
LIBRARIES = {
    r"microhttpd\.h": ["server"],
    r"gnutls/.*": ["server"],
    r"jansson\.h": ["config", "json", "tokenizer", "model", "translate", "server", "cli"],
    r"sentencepiece.*": ["tokenizer"],
    r"unicode/.*": ["text"],
    r"(cld2/|compact_lang_det|public/compact_lang_det).*": ["text"],
    r"cu(da|blas|rand|sparse|_).*": ["cuda"],
}
C_SUFFIXES = {".c", ".h", ".cc", ".cu", ".cuh"}
TEXT_SUFFIXES = C_SUFFIXES | {".py", ".sh", ".cmake", ".md", ".txt", ".def", ".yaml", ".yml", ""}
SKIPPED_NAMES = {".git", ".cache", "build", "fixtures", "corpus", "models", "__pycache__"}


def files(top, suffixes):
    """Our files below `top` with one of the suffixes, as paths relative to it, sorted."""
    found = []
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = [s for s in subfolders if s not in SKIPPED_NAMES and not s.startswith("build")]
        ours = [Path(folder, name) for name in names if name not in SKIPPED_NAMES]  # in a worktree .git is a file
        found += [path.relative_to(top) for path in ours if path.suffix in suffixes]
    return sorted(found)


def lines_of(top, path):
    return (top / path).read_text(encoding="utf-8").splitlines()


def is_allowed(folder, included):
    return any(included == allowed or included.startswith(allowed + "/") for allowed in [folder, *MAY_INCLUDE[folder]])


def check_includes(top):
    """The dependency rule: a folder sees only what MAY_INCLUDE and LIBRARIES list for it."""
    for path in files(top, C_SUFFIXES):
        folder = path.parts[0]
        if folder not in MAY_INCLUDE:
            continue  # tests and benchmarks may see everything
        for number, line in enumerate(lines_of(top, path), 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^">]+)[">]', line)
            if not match:
                continue
            quote, included = match.groups()
            if quote == '"' and included.split("/")[0] not in MAY_INCLUDE:
                yield f"{path}:{number}: {included}: not a path from the top of the tree"
            elif quote == '"' and not is_allowed(folder, included):
                yield f"{path}:{number}: {folder}/ may not include {included}"
            for library, folders in LIBRARIES.items():
                if quote == "<" and re.fullmatch(library, included) and folder not in folders:
                    yield f"{path}:{number}: only {', '.join(folders)} may include {included}"


def compile_alone(top, path, compiler, language):
    with tempfile.NamedTemporaryFile("w", suffix="." + language) as source:
        source.write(f'#include "{path}"\n')
        source.flush()
        command = [compiler, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-I", str(top), source.name]
        done = subprocess.run(command, capture_output=True, text=True)
    return [] if done.returncode == 0 else [f"{path}:1: does not compile alone as {language}: {done.stderr.strip()}"]


def check_headers(top):
    """Each header compiles alone as C, and as C++ when it says T5_C_BEGIN; each has #pragma once and a file comment."""
    headers = [p for p in files(top, {".h"}) if p.parts[0] in MAY_INCLUDE and p.parts[0] != "cuda"]
    jobs = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in headers:
            text = (top / path).read_text(encoding="utf-8")
            if "#pragma once" not in text:
                yield f"{path}:1: no #pragma once"
            if not text.startswith(f"/* {path}: "):
                yield f"{path}:1: must open with a comment: /* {path}: what it is"
            jobs.append(pool.submit(compile_alone, top, path, os.environ.get("CC", "cc"), "c"))
            if "T5_C_BEGIN" in text:
                jobs.append(pool.submit(compile_alone, top, path, os.environ.get("CXX", "c++"), "cc"))
    for job in jobs:
        yield from job.result()


def check_functions(top):
    """No function over 70 lines, brace to brace; no source file over 600, tests apart."""
    for path in files(top, C_SUFFIXES):
        lines = lines_of(top, path)
        if len(lines) > FILE_LINES_MAX and path.parts[0] in MAY_INCLUDE:
            yield f"{path}:1: {len(lines)} lines, at most {FILE_LINES_MAX}"
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{" and not lines[number - 2].startswith("namespace"):
                start = number
            elif line.startswith("}") and start is not None:
                if number - start + 1 > FUNCTION_LINES_MAX:
                    yield f"{path}:{start}: function of {number - start + 1} lines, at most {FUNCTION_LINES_MAX}"
                start = None


def check_format(top):
    """clang-format 14 with the tree's .clang-format would change nothing."""
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    if " 14." not in version:
        print("clang-format 14 is not installed")
        sys.exit(SKIPPED)
    paths = [str(p) for p in files(top, C_SUFFIXES)]
    done = subprocess.run([tool, "--dry-run", *paths], cwd=top, capture_output=True, text=True)
    yield from sorted({line.split(": warning:")[0] + ": clang-format" for line in done.stderr.splitlines()
                       if ": warning:" in line})


def check_text(top):
    """Text files: UTF-8, LF, no trailing space, a last newline; no promises, no machine's paths."""
    promise = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    machine_path = re.compile(r"(?<![\w.~}])/(home|root|work|Users)/\w|/tmp/build")
    for path in files(top, TEXT_SUFFIXES):
        try:
            text = (top / path).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            yield f"{path}:1: not UTF-8"
            continue
        if text and not text.endswith("\n"):
            yield f"{path}:1: no newline at the end"
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield f"{path}:{number}: trailing space or carriage return"
            if promise.search(line):
                yield f"{path}:{number}: a promise instead of code: {line.strip()}"
            if machine_path.search(line) and path.name != "tidy.py":
                yield f"{path}:{number}: the path of one machine: {line.strip()}"


def check_readme(top):
    """The C program in README.md compiles as it stands there."""
    blocks = re.findall(r"```c\n(.*?)```", (top / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        command = [os.environ.get("CC", "cc"), "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", str(top), "-xc", "-"]
        done = subprocess.run(command, input=block, capture_output=True, text=True)
        if done.returncode != 0:
            yield f"README.md:1: the C program does not compile: {done.stderr.strip()}"


CHECKS = {"includes": check_includes, "headers": check_headers, "functions": check_functions, "format": check_format,
          "text": check_text, "readme": check_readme}


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in CHECKS:
        print(__doc__, file=sys.stderr)
        return 2
    top = Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parents[2]).resolve()
    findings = list(CHECKS[sys.argv[1]](top))
    print("\n".join(findings) if findings else "nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
