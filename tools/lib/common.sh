# Sourced by the scripts in tools/: one place for the paths and the words they share.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${COTERIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/coterie}
models=${COTERIE_MODELS:-$cache/models}
base_model=$models/SmolLM2-135M-Instruct.Q4_1.gguf
embedder_model=$models/all-MiniLM-L6-v2
jobs=$(nproc)

# say <words…>: progress, on the error stream so that answers stay alone on the output.
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "installing packages needs root: run as root, install sudo, or install these yourself: ${*: -1}"
  fi
}

# quietly <log> <command…>: runs it with its output in a log, shown only when it fails; a dot every 5 s meanwhile.
quietly() {
  local log=$1 status=0; shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 &
  local child=$!
  local waited=0
  while kill -0 $child 2>/dev/null; do
    sleep 0.2; waited=$((waited + 1))
    [ $((waited % 25)) = 0 ] && printf '.' >&2
  done
  [ $waited -ge 25 ] && printf '\n' >&2
  wait $child || status=$?
  [ $status = 0 ] || { tail -n 40 "$log" >&2; die "'$*' failed with status $status; the whole log is $log"; }
}
