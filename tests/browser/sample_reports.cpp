// Writes reports with everything a page may hold, easy and awkward, and an index: sample_reports FOLDER
#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>

#include "tttlib/io/image.hpp"
#include "tttlib/train/report.hpp"

using namespace ttt;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

void write_ordinary(const std::string& folder, int argc, char** argv) {
  Report report("Which inner loss teaches the values?",
                "An inner step trains a small network on each image's keys and values. The outer gradient reaches the value projection "
                "only through the mixed second derivative of the inner loss, so a loss without one leaves it untrained.");
  report.result("3 of 4 orderings of the paper were reproduced; dot and rmse are within noise.");
  report.heading("The experiment");
  report.paragraph("Five rows, the same three seeds for each, 12 epochs on CIFAR-10.");
  const std::vector<std::string> names{"dot", "mse", "rmse", "mae", "smooth_l1"};
  ReportChart loss{.title = "Training loss", .x_label = "epoch", .y_label = "cross-entropy, nats", .caption = "Mean of three seeds."};
  ReportChart accuracy{.title = "Test accuracy", .x_label = "epoch", .y_label = "top-1, %", .caption = "Mean ± deviation of three seeds."};
  for (std::size_t n = 0; n < names.size(); ++n) {
    std::vector<double> losses, tops, spreads;
    for (int epoch = 1; epoch <= 12; ++epoch) {
      const double done = 1 - std::exp(-epoch / (3.0 + 0.4 * static_cast<double>(n)));
      losses.push_back(2.3 - 1.5 * done);
      tops.push_back(12 + 62 * done);
      spreads.push_back(0.8 + 0.2 * static_cast<double>(n));
    }
    loss.lines.push_back({names[n], losses});
    accuracy.lines.push_back({names[n], tops, {}, spreads});
  }
  report.chart(loss);
  report.chart(accuracy);
  report.table({.caption = "Accuracy beside the paper's",
                .columns = {"inner loss", "top-1, %", "paper, %", "training loss", "images/s", "parameters"},
                .rows = {{"dot", "71.2 ± 0.3", "78.9", "0.82", "310", "257,098"},
                         {"mse", "71.6 ± 0.2", "79.2", "0.80", "305", "257,098"},
                         {"mae", "64.9 ± 0.5", "76.5", "1.03", "301", "257,098"}},
                .paper_column = "paper, %"});
  Image kernel(9, 9);
  for (int y = 0; y < 9; ++y)
    for (int x = 0; x < 9; ++x) {
      const int value = static_cast<int>(255 * std::exp(-0.12 * ((x - 4) * (x - 4) + (y - 4) * (y - 4))));
      kernel.at(x, y)[0] = kernel.at(x, y)[1] = static_cast<std::uint8_t>(value);
      kernel.at(x, y)[2] = static_cast<std::uint8_t>(255 - value);
    }
  write_png(folder + "/kernel.png", kernel);
  report.picture(folder + "/kernel.png", "A bright spot in the middle of a dark square", "How far one changed key reaches");
  report.run(argc, argv, 0);
  report.write(folder + "/ordinary.html");
}

void write_awkward(const std::string& folder, int argc, char** argv) {
  Report report("Awkward <b>data</b> & \"quotes\"", "Everything that could break a page: </style><script>console.error('escaped?')</script>");
  report.paragraph("AWordWithoutAnyPlaceToBreakItInTheMiddleWhichIsLongerThanThePhoneIsWideAndGoesOnForAWhile");
  std::vector<double> noisy, late;
  for (int i = 0; i < 400; ++i) noisy.push_back(2 + std::sin(i * 0.05) + 0.3 * std::sin(i * 1.7));
  for (int i = 0; i < 300; ++i) late.push_back(i > 200 ? not_a_number : 3 - 0.01 * i);
  report.chart({.title = "Many points, one line diverges", .x_label = "step", .y_label = "loss", .lines = {{"noisy", noisy}, {"diverges", late}}});
  report.chart({.title = "Rates", .x_label = "rate η", .y_label = "size of the update",
                .lines = {{"update", {0.002, 0.03, 0.5, not_a_number, 80, 1e4}, {0.1, 0.2, 0.5, 1, 2, 5}}, {"<i>norm</i>", {0.1, 0.2, 0, 3}, {0.1, 1, 2, 5}}},
                .log_x = true, .log_y = true});
  report.chart({.title = "One point", .x_label = "epoch", .y_label = "accuracy, %", .lines = {{"test", {98.05}}}});
  report.chart({.title = "Nothing at all", .x_label = "epoch", .y_label = "loss", .lines = {{"none", {}}, {"never a number", {not_a_number, not_a_number}}}});
  ReportChart crowd{.title = "Eleven lines", .x_label = "epoch", .y_label = "a unit with a rather long name, in hundreds of its own"};
  for (int n = 0; n < 11; ++n) crowd.lines.push_back({"inner model number " + std::to_string(n), {1.0 * n, 1.5 * n, 1.4 * n, 2.0 * n}});
  report.chart(crowd);
  report.table({.columns = {"name", "value"}, .rows = {}});
  report.table({.caption = "Wide", .columns = std::vector<std::string>(14, "a column"), .rows = {std::vector<std::string>(14, "123.45")}});
  report.run(argc, argv, 18446744073709551615u);
  report.fact("A <fact>", "with & in it");
  report.write(folder + "/awkward report.html");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 1;
  try {
    const std::string folder = argv[1];
    write_ordinary(folder, argc, argv);
    write_awkward(folder, argc, argv);
    write_report_index(folder + "/index.html", "Reports", "Two pages.", {folder + "/ordinary.html", folder + "/awkward report.html"});
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
