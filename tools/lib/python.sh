# Sourced after common.sh: the Python environment of tools/train, made once for each list of versions.

# experts_python [extra]: prints the interpreter of an environment that has coterie-experts installed, and makes it where
# it is missing. The extra `train` adds torch: some gigabytes and minutes.
experts_python() {
  local extra=${1:-} source=$root/tools/train mark want
  # One for each checkout: it is installed editable.
  local environment=$cache/python/experts${extra:+-$extra}-$(printf '%s' "$root" | sha256sum | cut -c1-8)
  want=$(cat "$source/pyproject.toml" "$source/constraints.txt" | sha256sum | cut -d' ' -f1)
  mark=$environment/.made-of
  if [ "$(cat "$mark" 2>/dev/null)" != "$want" ]; then
    say "installing the Python packages of tools/train${extra:+ with $extra} in $environment"
    rm -rf "$environment"
    mkdir -p "$(dirname "$environment")"
    python3 -m venv "$environment"
    quietly "$cache/log/pip-experts.log" "$environment/bin/python" -m pip install --disable-pip-version-check \
      --constraint "$source/constraints.txt" --editable "$source${extra:+[$extra]}"
    printf '%s' "$want" >"$mark"
  fi
  printf '%s/bin/python' "$environment"
}
