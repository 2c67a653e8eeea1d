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

# expect_error TEXT COMMAND…: one line, on stderr alone, that holds the text, and exit code 1.
expect_error() {
  local text=$1 got=0
  shift
  "$@" > "$work/output" 2> "$work/errors" || got=$?
  if [ "$got" != 1 ] || [ "$(wc -l < "$work/errors")" != 1 ] || ! grep -qF -- "$text" "$work/errors"; then
    printf 'FAIL: %s\n  exit code %s, expected 1 and one line on stderr with: %s\n' "$*" "$got" "$text"
    sed 's/^/  | /' "$work/errors"
    failures=$((failures + 1))
  else
    printf 'ok: %s\n' "${*##*/}"
  fi
}

# same A B: both files hold the same bytes.
same() {
  cmp -s "$1" "$2" && return
  printf 'FAIL: %s differs from %s\n' "${1#"$work"/}" "${2#"$work"/}"
  failures=$((failures + 1))
}

finish() {
  [ "$failures" = 0 ] || { echo "$failures failed"; exit 1; }
}
