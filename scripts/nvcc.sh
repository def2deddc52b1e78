#!/bin/sh
# nvcc.sh LOG COMMAND...: runs nvcc with its report (registers and spills of each kernel, from ptxas) going to LOG, and
# shows it only when the command fails.
log=$1
shift
"$@" >"$log" 2>&1 || {
    status=$?
    cat "$log" >&2
    exit "$status"
}
