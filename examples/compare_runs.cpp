// Puts training runs side by side: curves of accuracy and loss, a table, and mean ± deviation of the last accuracies.
//
//   compare_runs runs/seed0 runs/seed1 runs/seed2 --title "vit3_nano on CIFAR-10, three seeds" --out comparison.html
//
// A run is a folder that train_classifier wrote; its metrics.jsonl is read.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "command_line.hpp"
#include "tttlib/train/report.hpp"

using namespace ttt;

namespace {

struct Run {
  std::string name;
  std::vector<double> top1, train_loss, test_loss, images_per_second;  // per epoch; top1 in percent
};

Run read_run(const std::string& folder) {
  const std::filesystem::path path = std::filesystem::path(folder) / "metrics.jsonl";
  std::ifstream file(path);
  if (!file) fail<IoError>("compare_runs", "cannot open " + path.string(), "a run is a folder that train_classifier wrote");
  Run run;
  run.name = std::filesystem::absolute(path).lexically_normal().parent_path().filename().string();
  std::size_t number = 0;
  try {
    for (std::string line; std::getline(file, line);) {
      ++number;
      const auto epoch = nlohmann::json::parse(line);
      run.top1.push_back(100 * epoch.at("test_top1").get<double>());
      run.train_loss.push_back(epoch.at("train_loss").get<double>());
      run.test_loss.push_back(epoch.at("test_loss").get<double>());
      run.images_per_second.push_back(epoch.at("images_per_second").get<double>());
    }
  } catch (const nlohmann::json::exception& e) {
    fail<IoError>("compare_runs", concat("line ", number, " is none of metrics: ", path.string(), ": ", e.what()));
  }
  if (run.top1.empty()) fail<IoError>("compare_runs", "no epochs in " + path.string());
  return run;
}

ReportChart chart(const char* title, const char* y_label, const std::vector<Run>& runs, std::vector<double> Run::*values) {
  ReportChart c;
  c.title = title;
  c.x_label = "epoch";
  c.y_label = y_label;
  for (const Run& run : runs) c.lines.push_back({run.name, run.*values});
  return c;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Puts training runs side by side", "compare_runs");
  std::vector<std::string> folders;
  std::string title = "Training runs", out = "comparison.html";
  app.add_option("runs", folders, "Folders of runs")->required();
  app.add_option("--title", title)->capture_default_str();
  app.add_option("--out", out, "The page")->capture_default_str();
  return program::run(app, argc, argv, [&] {
    std::vector<Run> runs;
    for (const std::string& folder : folders) {
      for (const std::string* other = folders.data(); other != &folder; ++other)
        if (std::error_code error; std::filesystem::equivalent(*other, folder, error))
          fail<Error>("compare_runs", concat("one run twice: ", *other, ", ", folder));
      runs.push_back(read_run(folder));
    }
    double mean = 0, square = 0;
    ReportTable table{.caption = "After the last epoch", .columns = {"run", "epochs", "test top-1, %", "best, %", "train loss", "images/s"}};
    for (const Run& run : runs) {
      mean += run.top1.back() / static_cast<double>(runs.size());
      double rate = 0;
      for (double r : run.images_per_second) rate += r / static_cast<double>(run.images_per_second.size());
      table.rows.push_back({run.name, std::to_string(run.top1.size()), fmt::format("{:.2f}", run.top1.back()),
                            fmt::format("{:.2f}", *std::max_element(run.top1.begin(), run.top1.end())),
                            fmt::format("{:.3f}", run.train_loss.back()), fmt::format("{:.0f}", rate)});
    }
    for (const Run& run : runs) square += std::pow(run.top1.back() - mean, 2);
    std::string result = fmt::format("test top-1 after the last epoch: mean {:.2f} %", mean);
    if (runs.size() > 1) result += fmt::format(", deviation {:.2f}", std::sqrt(square / static_cast<double>(runs.size() - 1)));
    result += fmt::format(", {} run{}", runs.size(), runs.size() == 1 ? "" : "s");
    if (std::any_of(runs.begin(), runs.end(), [&](const Run& run) { return run.top1.size() != runs[0].top1.size(); })) result += " of different lengths";

    Report report(title, "");
    report.result(result);
    report.chart(chart("Test accuracy", "top-1, %", runs, &Run::top1));
    report.table(table);
    report.chart(chart("Training loss", "nats", runs, &Run::train_loss));
    report.chart(chart("Test loss", "nats", runs, &Run::test_loss));
    report.write(out);
    std::printf("%s\nwritten to %s\n", result.c_str(), out.c_str());
    return 0;
  });
}
