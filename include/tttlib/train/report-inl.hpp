#pragma once
/// The page: its style, charts as drawings, pictures inside, and the index of several.

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <thread>

#include "tttlib/core/error.hpp"
#include "tttlib/io/atomic_file.hpp"
#include "tttlib/io/input_file.hpp"
#include "tttlib/train/report.hpp"
#include "tttlib/train/report_chart-inl.hpp"
#include "tttlib/train/report_page-inl.hpp"

namespace ttt {

namespace detail {

inline std::string report_version() {
  return concat("tttlib ", TTTLIB_VERSION_MAJOR, ".", TTTLIB_VERSION_MINOR, ".", TTTLIB_VERSION_PATCH);
}

/// A whole page around `body`. Its policy forbids every request, so that a report cannot come to need the network.
TTTLIB_INLINE std::string html_page(const std::string& title, const std::string& lesson, const std::string& result, const std::string& body) {
  std::string page = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  page += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
          "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n";
  page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n";
  page += "<meta name=\"generator\" content=\"" + report_version() + "\">\n";
  page += "<meta name=\"description\" content=\"" + escape_html(lesson) + "\">\n";
  page += "<meta name=\"result\" content=\"" + escape_html(result) + "\">\n";
  page += "<link rel=\"icon\" href=\"data:,\">\n<title>" + escape_html(title) + "</title>\n<style>";
  page += report_style;
  page += "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>" + escape_html(title) + "</h1>\n";
  if (!lesson.empty()) page += "<p class=\"lesson\">" + escape_html(lesson) + "</p>\n";
  if (!result.empty()) page += "<p class=\"result\">" + escape_html(result) + "</p>\n";
  return page + "</header>\n" + body + "</main>\n<script>" + report_script + "</script>\n</body>\n</html>\n";
}

TTTLIB_INLINE std::string html_caption(const std::string& title, const std::string& caption) {
  if (title.empty() && caption.empty()) return "";
  return "<figcaption>" + (title.empty() ? title : "<strong>" + escape_html(title) + "</strong>") +
         (caption.empty() ? caption : "<span>" + escape_html(caption) + "</span>") + "</figcaption>\n";
}

/// Whether a column is set flush right: every cell that says something starts as a number does.
inline bool is_numeric(const ReportTable& table, std::size_t column) {
  bool any = false;
  for (const auto& row : table.rows) {
    std::string_view cell = row[column];
    if (cell.empty() || cell == "–" || cell == "not a number") continue;
    if (cell[0] == '-' || cell[0] == '+') cell.remove_prefix(1);
    if (cell.substr(0, 3) == "−") cell.remove_prefix(3);
    if (cell.substr(0, 3) == "∞") any = true;
    else if (cell.empty() || !std::isdigit(static_cast<unsigned char>(cell[0]))) return false;
    any = true;
  }
  return any;
}

/// A table that scrolls sideways by itself where the screen is too narrow, with the keyboard too.
TTTLIB_INLINE std::string html_table(const ReportTable& table, const std::string& name) {
  std::vector<std::string> attributes;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    const bool paper = !table.paper_column.empty() && table.columns[c] == table.paper_column;
    const std::string classes = std::string(is_numeric(table, c) ? "number" : "") + (paper ? " paper" : "");
    attributes.push_back(classes.empty() ? "" : " class=\"" + classes + "\"");
  }
  std::string html = "<div class=\"scroll\" role=\"group\" tabindex=\"0\" aria-label=\"" + escape_html(name) + "\"><table>\n<thead><tr>";
  for (std::size_t c = 0; c < table.columns.size(); ++c)
    html += "<th scope=\"col\"" + attributes[c] + ">" + escape_html(table.columns[c]) + "</th>";
  html += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string tag = c == 0 ? "th" : "td";
      html += "<" + tag + (c == 0 ? " scope=\"row\"" : "") + attributes[c] + ">" + escape_html(row[c]) + "</" + tag + ">";
    }
    html += "</tr>\n";
  }
  return html + "</tbody>\n</table></div>\n";
}

/// A command whose lines break between words, not at the dashes of an option.
TTTLIB_INLINE std::string html_command(const std::string& command) {
  std::string words = "<code><span>";
  for (const char c : escape_html(command)) words += c == ' ' ? std::string("</span> <span>") : std::string(1, c);
  return words + "</span></code>";
}

TTTLIB_INLINE std::string base64(const std::vector<unsigned char>& bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned group = 0;
    for (std::size_t j = i; j < i + 3; ++j) group = group << 8 | (j < bytes.size() ? bytes[j] : 0u);
    for (std::size_t j = 0; j < 4; ++j) out += i + j <= bytes.size() ? digits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

/// The escaped text between two marks of a page that `html_page` wrote.
inline std::string text_between(const std::string& page, const std::string& path, const std::string& before, const std::string& after) {
  const std::size_t start = page.find(before);
  const std::size_t end = start == std::string::npos ? start : page.find(after, start + before.size());
  if (end == std::string::npos) fail<IoError>("write_report_index", "not a report: " + path);
  std::string text = page.substr(start + before.size(), end - start - before.size());
  if (text.find('<') != std::string::npos) fail<IoError>("write_report_index", "not a report: " + path);
  return text;
}

/// A path as a link from a page in `folder`.
TTTLIB_INLINE std::string link_to(const std::string& path, const std::filesystem::path& folder) {
  const std::string relative = std::filesystem::proximate(path, folder.empty() ? "." : folder).generic_string();
  std::string link;
  for (const char c : relative)
    if (std::isalnum(static_cast<unsigned char>(c)) || std::string_view("/._-~").find(c) != std::string_view::npos) link += c;
    else link += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return link;
}

}  // namespace detail

TTTLIB_INLINE void Report::heading(const std::string& text) { body_ += "<h2>" + detail::escape_html(text) + "</h2>\n"; }
TTTLIB_INLINE void Report::paragraph(const std::string& text) { body_ += "<p>" + detail::escape_html(text) + "</p>\n"; }

TTTLIB_INLINE void Report::chart(const ReportChart& chart) {
  for (const ReportLine& line : chart.lines)
    for (const auto* other : {&line.x, &line.spread})
      if (!other->empty() && other->size() != line.y.size())
        fail<ShapeError>("report", concat("x and spread of a line must be as long as its y: chart \"", chart.title, "\", line \"", line.name,
                                          "\", y ", line.y.size(), ", x ", line.x.size(), ", spread ", line.spread.size()));
  const std::string id = concat("chart", ++figures_);
  // The labels of the axes stand outside the drawing, where long ones wrap; its description has them too.
  body_ += "<figure class=\"chart\">\n" + detail::html_caption(chart.title, chart.caption) + detail::chart_legend(chart) +
           "<div class=\"unit\" aria-hidden=\"true\">" + detail::escape_html(chart.y_label) + "</div>\n<div class=\"plot\">\n" +
           detail::draw_chart(chart, id + "-wide", true) + detail::draw_chart(chart, id + "-narrow", false) +
           "<div class=\"tip\" role=\"status\"></div>\n</div>\n<div class=\"unit below\" aria-hidden=\"true\">" +
           detail::escape_html(chart.x_label) + "</div>\n<details><summary>Values</summary>\n" +
           detail::html_table(detail::chart_values(chart), chart.title + ", values") + "</details>\n</figure>\n";
}

TTTLIB_INLINE void Report::table(const ReportTable& table) {
  for (std::size_t r = 0; r < table.rows.size(); ++r)
    if (table.rows[r].size() != table.columns.size())
      fail<ShapeError>("report", concat("a row must have a cell for every column: table \"", table.caption, "\", row ", r, " has ",
                                        table.rows[r].size(), " cells, columns ", table.columns.size()));
  if (!table.paper_column.empty() && std::find(table.columns.begin(), table.columns.end(), table.paper_column) == table.columns.end())
    fail<ShapeError>("report", concat("no such column: table \"", table.caption, "\", paper_column \"", table.paper_column, "\""));
  body_ += "<figure>\n" + detail::html_caption(table.caption, "") + detail::html_table(table, table.caption.empty() ? "Table" : table.caption) + "</figure>\n";
}

TTTLIB_INLINE void Report::picture(const std::string& png_path, const std::string& description, const std::string& caption) {
  const std::vector<unsigned char> bytes = InputFile("report", png_path).read_all();
  static constexpr unsigned char signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  if (bytes.size() < 24 || !std::equal(std::begin(signature), std::end(signature), bytes.begin()))
    fail<IoError>("report", "not a PNG picture: " + png_path);
  const auto number = [&](std::size_t at) {
    return std::uint32_t(bytes[at]) << 24 | std::uint32_t(bytes[at + 1]) << 16 | std::uint32_t(bytes[at + 2]) << 8 | bytes[at + 3];
  };
  const std::uint32_t width = number(16), height = number(20);  // the first chunk is the header
  // Small pictures are enlarged by whole pixels; wide ones keep a size at which their details can be seen.
  const std::uint32_t scale = width > 0 && width < 160 ? 320 / width : 1;
  body_ += fmt::format(
      "<figure>\n{}<div class=\"scroll picture\" role=\"group\" tabindex=\"0\" aria-label=\"{}\"><img{} width=\"{}\" height=\"{}\" alt=\"{}\" "
      "style=\"min-width:min({}px, 36rem);max-width:100%\" src=\"data:image/png;base64,{}\"></div>\n</figure>\n",
      detail::html_caption("", caption), detail::escape_html(caption.empty() ? "Picture" : caption), scale > 1 ? " class=\"pixels\"" : "", width * scale, height * scale,
      detail::escape_html(description), width, detail::base64(bytes));
}

TTTLIB_INLINE void Report::run(int argc, const char* const* argv, std::uint64_t seed) {
  fact("Command", command_line(argc, argv));
  fact("Seed", concat(seed));
  fact("Version", detail::report_version());
  fact("Machine", machine_name());
}

TTTLIB_INLINE std::string Report::html() const {
  std::string body = body_;
  if (!facts_.empty()) {
    body += "<section class=\"run\">\n<h2>How to repeat this</h2>\n<dl>\n";
    for (const auto& [name, value] : facts_) {
      const std::string text = name == "Command" ? detail::html_command(value) : detail::escape_html(value);
      body += "<dt>" + detail::escape_html(name) + "</dt><dd>" + text + "</dd>\n";
    }
    body += "</dl>\n</section>\n";
  }
  return detail::html_page(title_, lesson_, result_, body);
}

TTTLIB_INLINE void Report::write(const std::string& path) const { write_file_atomically(path, html(), "report"); }

TTTLIB_INLINE void write_report_index(const std::string& path, const std::string& title, const std::string& lesson,
                                      const std::vector<std::string>& reports) {
  std::string body = "<ul class=\"reports\">\n";
  for (const std::string& report : reports) {
    const std::vector<unsigned char> bytes = InputFile("write_report_index", report).read_all();
    const std::string page(bytes.begin(), bytes.end());
    const auto meta = [&](const std::string& name) {
      return detail::text_between(page, report, "<meta name=\"" + name + "\" content=\"", "\">");
    };
    meta("generator");
    const std::string result = meta("result");
    body += "<li><h2><a href=\"" + detail::link_to(report, std::filesystem::path(path).parent_path()) + "\">" +
            detail::text_between(page, report, "<title>", "</title>") + "</a></h2>\n<p>" + meta("description") + "</p>\n" +
            (result.empty() ? "" : "<p>" + result + "</p>\n") + "</li>\n";
  }
  write_file_atomically(path, detail::html_page(title, lesson, "", body + "</ul>\n"), "write_report_index");
}

TTTLIB_INLINE std::string command_line(int argc, const char* const* argv) {
  std::string line;
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_-./=:,+@%").find(c) != std::string_view::npos;
    });
    std::string quoted = "'";
    for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += (i ? " " : "") + (plain ? word : quoted + "'");
  }
  return line;
}

TTTLIB_INLINE std::string machine_name() {
  std::string name;
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; name.empty() && std::getline(info, line);)
    if (line.rfind("model name", 0) == 0 && line.find(':') != std::string::npos)
      name = line.substr(std::min(line.size(), line.find(':') + 2));
  utsname system{};
  if (name.empty() && uname(&system) == 0) name = system.machine;
  const unsigned cores = std::thread::hardware_concurrency();
  return concat(name.empty() ? "unknown processor" : name, ", ", cores, cores == 1 ? " core" : " cores");
}

}  // namespace ttt
