// Writes a page that links to reports: tttlib_report_index INDEX.html TITLE LESSON REPORT.html…
// Title, lesson and result of each report are read from its file.

#include <cstdio>
#include <exception>

#include "tttlib/train/report.hpp"

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: tttlib_report_index INDEX.html TITLE LESSON REPORT.html...\n");
    return 1;
  }
  try {
    ttt::write_report_index(argv[1], argv[2], argv[3], {argv + 4, argv + argc});
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
