# Sourced by the scripts in ops/: words for people go to stderr, results to stdout.
# shellcheck shell=bash

started=$SECONDS
say() { printf '\033[1m==>\033[0m [%3ds] %s\n' "$((SECONDS - started))" "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Where models, virtual environments and other things that can be made again are kept.
# shellcheck disable=SC2034
cache=${STAFFEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/staffel}
