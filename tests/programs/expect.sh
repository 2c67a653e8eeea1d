# Small helpers for the scripts of this folder.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect CODE TEXT COMMAND…: the exit code, and a text somewhere in what the command prints.
expect() {
  local code=$1 text=$2 got=0
  shift 2
  "$@" > "$work/output" 2>&1 || got=$?
  if [ "$got" != "$code" ] || ! grep -qF -- "$text" "$work/output"; then
    printf 'FAIL: %s\n  exit code %s, expected %s; expected to read: %s\n' "$*" "$got" "$code" "$text"
    sed 's/^/  | /' "$work/output"
    failures=$((failures + 1))
  else
    printf 'ok: %s\n' "${*##*/}"
  fi
}

# expect_line: the same, and the message is one line.
expect_line() {
  expect "$@"
  if [ "$(wc -l < "$work/output")" -gt 1 ]; then
    printf 'FAIL: more than one line:\n'
    sed 's/^/  | /' "$work/output"
    failures=$((failures + 1))
  fi
}

finish() {
  [ "$failures" = 0 ] || { echo "$failures failed"; exit 1; }
}
