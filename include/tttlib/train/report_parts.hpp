#pragma once
/// What a report is made of.

#include <string>
#include <vector>

namespace ttt {

/// A line of a chart; a value that is not finite leaves a gap in it.
struct ReportLine {
  std::string name = {};
  std::vector<double> y = {};
  std::vector<double> x = {};       // none: 1, 2, 3 …
  std::vector<double> spread = {};  // none, or the ± of every y
};

struct ReportChart {
  std::string title = {};
  std::string x_label = {}, y_label = {};  // with units: "accuracy, %"
  std::vector<ReportLine> lines = {};
  bool log_x = false, log_y = false;
  std::string caption = {};
};

struct ReportTable {
  std::string caption = {};
  std::vector<std::string> columns = {};
  std::vector<std::vector<std::string>> rows = {};
  std::string paper_column = {};  // the column with the paper's figures, set apart from ours
};

}  // namespace ttt
