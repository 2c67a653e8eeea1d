#pragma once
/// A run as one web page that needs nothing else: curves, tables, pictures, and how to repeat it. Text is plain and
/// escaped; the page fetches nothing, follows the reader's light or dark mode, and works without script.
///
///   Report report("Six epochs on shapes", "What the run shows, in a paragraph.");
///   report.chart({.title = "Loss", .x_label = "epoch", .y_label = "nats", .lines = {{"train", losses}}});
///   report.run(argc, argv, seed);
///   report.write("runs/demo/report.html");

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/core/config.hpp"
#include "tttlib/train/report_parts.hpp"

namespace ttt {

/// A page under construction: its parts appear in the order of the calls.
class Report {
 public:
  Report(std::string title, std::string lesson) : title_(std::move(title)), lesson_(std::move(lesson)) {}

  /// The outcome in one sentence, shown at the top and in an index.
  void result(const std::string& text) { result_ = text; }
  void heading(const std::string& text);
  void paragraph(const std::string& text);
  /// Throws ShapeError if a line's `x` or `spread` is not as long as its `y`.
  void chart(const ReportChart& chart);
  /// Throws ShapeError if a row is not as long as `columns`, or none of them is `paper_column`.
  void table(const ReportTable& table);
  /// Embeds a PNG file; `description` is for people who cannot see it. Throws IoError if it is not a PNG file.
  void picture(const std::string& png_path, const std::string& description, const std::string& caption = "");

  /// How to repeat the run: its command, seed, the version of tttlib and the machine.
  void run(int argc, const char* const* argv, std::uint64_t seed);
  /// One more line of that kind.
  void fact(const std::string& name, const std::string& value) { facts_.emplace_back(name, value); }

  /// The page.
  std::string html() const;
  /// Replaces the file as a whole or not at all. Throws IoError.
  void write(const std::string& path) const;

 private:
  std::string title_, lesson_, result_, body_;
  int figures_ = 0;
  std::vector<std::pair<std::string, std::string>> facts_;
};

/// Writes a page that links to reports, with the title, lesson and result of each as read from its file.
/// Throws IoError if a file is missing or not a report.
void write_report_index(const std::string& path, const std::string& title, const std::string& lesson,
                        const std::vector<std::string>& reports);

/// A command as it can be typed again, quoted where a shell needs it.
std::string command_line(int argc, const char* const* argv);

/// The processor's name and its number of cores.
std::string machine_name();

}  // namespace ttt

#if !defined(TTTLIB_COMPILED)
#include "tttlib/train/report-inl.hpp"
#endif
