# Sourced after common.sh: Python environments, each made once for what it is made of.

# python_environment <name> <what it is made of> <pip's arguments…>: prints the interpreter of an environment into which
# they were installed, and makes it where it is missing or was made of something else.
python_environment() {
  local name=$1 want environment=$cache/python/$1
  want=$(printf '%s\n' "$2" | sha256sum | cut -d' ' -f1)
  shift 2
  if [ "$(cat "$environment/.made-of" 2>/dev/null)" != "$want" ]; then
    say "installing Python packages in $environment"
    rm -rf "$environment"
    mkdir -p "$(dirname "$environment")"
    python3 -m venv "$environment"
    quietly "$cache/log/pip-$name.log" "$environment/bin/python" -m pip install --disable-pip-version-check "$@"
    printf '%s' "$want" >"$environment/.made-of"
  fi
  printf '%s/bin/python' "$environment"
}

# experts_python [extra]: of the environment that has coterie-experts (tools/train) installed. The extra `train` adds torch:
# some gigabytes and minutes.
experts_python() {
  local extra=${1:-} source=$root/tools/train
  # One for each checkout: it is installed editable.
  python_environment "experts${extra:+-$extra}-$(printf '%s' "$root" | sha256sum | cut -c1-8)" \
    "$(cat "$source/pyproject.toml" "$source/constraints.txt")" \
    --constraint "$source/constraints.txt" --editable "$source${extra:+[$extra]}"
}
