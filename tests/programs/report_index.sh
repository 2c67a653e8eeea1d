#!/usr/bin/env bash
# tttlib_report_index: an index of reports, and one clear line for what is none.
set -u
programs=$1
. "$(dirname "$0")/expect.sh"
index=$programs/tttlib_report_index

page() { printf '<meta name="generator" content="tttlib">\n<meta name="description" content="Lesson">\n<meta name="result" content="">\n<title>%s</title>\n' "$1"; }
mkdir "$work/one"
page "One &amp; only" > "$work/one/report.html"
expect 0 "" "$index" "$work/index.html" "All runs" "Of today" "$work/one/report.html"
expect 0 '<a href="one/report.html">One &amp; only</a>' cat "$work/index.html"
expect_line 1 "usage: tttlib_report_index" "$index" "$work/index.html"
echo "<title>x</title>" > "$work/other.html"
expect_line 1 "ttt::write_report_index: not a report: $work/other.html" "$index" "$work/index.html" "All" "" "$work/other.html"
finish
