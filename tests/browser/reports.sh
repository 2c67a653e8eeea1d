#!/usr/bin/env bash
# Writes the sample reports and opens them in headless Chromium: reports.sh SAMPLE_REPORTS
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1" "$work"
if ! command -v python3 > /dev/null; then
  echo "skipped: there is no Python on this machine"
  exit 77
fi
python3 "$(dirname "$0")/check_reports.py" "$work/ordinary.html" "$work/awkward report.html" "$work/index.html"
