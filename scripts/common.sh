# shellcheck shell=bash
# scripts/common.sh: what ./run and ./check share. Sourced by bash (and by sh in a Dockerfile) at the top of the tree.

# packages_for USE...: the names in scripts/packages.txt with one of these uses, on one line.
packages_for() {
    awk -v uses=" $* " '!/^#/ && index(uses, " " $2 " ") { printf "%s%s", sep, $1; sep = " " }' scripts/packages.txt
}

# is_installed PACKAGE: for this machine's architecture; others may be installed beside it.
is_installed() {
    dpkg-query -W -f '${Architecture} ${db:Status-Status}\n' "$1" 2>/dev/null |
        grep -qxE "($(dpkg --print-architecture)|all) installed"
}

# need_packages USE...: installs what is missing. Root is asked nothing; anybody else gets the one line to run.
need_packages() {
    local wanted missing="" package
    wanted=$(packages_for "$@")
    if ! command -v dpkg-query >/dev/null; then
        echo "$0: not a Debian system: make sure that the equivalents of these are installed: $wanted" >&2
        return 0
    fi
    for package in $wanted; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "$0: some packages are missing. Install them with this line, then start $0 again:" >&2
        echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "$0: installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    # shellcheck disable=SC2086 # one word a package
    apt-get install -y -qq --no-install-recommends $missing >&2
}

# build_preset PRESET TARGET [cmake options]: configures build/PRESET and builds TARGET; quiet when all is well, but for
# a word before the first build, so that nobody takes its minutes for a hang.
build_preset() {
    local preset=$1 target=$2
    shift 2
    [ -e "build/$preset/build.ninja" ] || echo "building into build/$preset, some minutes the first time" >&2
    cmake --preset "$preset" --log-level=WARNING "$@" >/dev/null
    ninja --quiet -C "build/$preset" "$target" >&2
}
