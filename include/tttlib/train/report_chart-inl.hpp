#pragma once
/// A chart of a report as SVG, drawn here so that it needs no script. It is drawn twice, wide and narrow, and the page
/// shows the one that fits: scaled to a phone, the letters of the wide one could not be read.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "tttlib/core/config.hpp"
#include "tttlib/train/report_parts.hpp"

namespace ttt::detail {

inline constexpr std::size_t report_colors = 8;    // as many as the style sheet names
inline constexpr std::size_t most_marked = 24;     // longer lines are drawn without a mark at every point

/// Text for an element or a quoted attribute; control characters, which HTML forbids, become U+FFFD.
TTTLIB_INLINE std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else if (c == '\'') out += "&#39;";
    else if ((code < 32 && c != '\n' && c != '\t') || code == 127) out += "\xEF\xBF\xBD";
    else out += c;
  }
  return out;
}

/// Whether a value has a place on a chart; close to the largest double, an axis with room beside it would overflow.
inline bool drawable(double value, bool log) { return log ? value > 1e-250 && value < 1e250 : std::abs(value) < 1e300; }

/// A value for people: four digits, with their zeros if numbers stand below each other, and all of a whole number.
TTTLIB_INLINE std::string value_text(double value, bool zeros = false) {
  if (std::isnan(value)) return "not a number";
  if (std::isinf(value)) return value > 0 ? "∞" : "-∞";
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size < 1e15 && value == std::round(value)) return fmt::format("{:.0f}", value);
  if (size >= 1000 && size < 1e7) return fmt::format("{:.1f}", value);
  return zeros ? fmt::format("{:#.4g}", value) : fmt::format("{:.4g}", value);
}

/// An axis: the range of values and the values that are written beside it.
struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<double> ticks;
  std::vector<std::string> labels;

  double scaled(double value) const { return log ? std::log10(value) : value; }
  /// 0 at `low`, 1 at `high`; what lies outside is moved to the border.
  double position(double value) const {
    if (log && !(value > 0)) return 0;
    return std::clamp((scaled(value) - scaled(low)) / (scaled(high) - scaled(low)), 0.0, 1.0);
  }
};

inline void add_linear_ticks(Axis& axis, int wanted, bool whole) {
  const double rough = (axis.high - axis.low) / wanted, power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double nice : {5.0, 2.0, 1.0})
    if (nice * power >= rough) step = nice * power;
  if (whole) step = std::max(step, 1.0);
  const double largest = std::max(std::abs(axis.low), std::abs(axis.high));
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
  const double first = std::ceil(axis.low / step - 1e-9), last = std::floor(axis.high / step + 1e-9);
  for (int i = 0; first + i <= last; ++i) {
    const double tick = (first + i) * step;
    axis.ticks.push_back(tick);
    axis.labels.push_back(tick == 0 ? "0" : largest < 1e6 && decimals < 6 ? fmt::format("{:.{}f}", tick, decimals)
                                                                          : fmt::format("{:.4g}", tick));
  }
}

inline void add_log_ticks(Axis& axis, int wanted) {
  const int first = static_cast<int>(std::floor(axis.scaled(axis.low))), last = static_cast<int>(std::ceil(axis.scaled(axis.high)));
  const int skip = std::max(1, (last - first + wanted - 1) / wanted);
  for (int power = first; power <= last; power += skip)
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double tick = digit * std::pow(10, power);
      if ((digit > 1 && last - first > 3) || tick < axis.low * 0.999 || tick > axis.high * 1.001) continue;
      axis.ticks.push_back(tick);
      axis.labels.push_back(tick >= 1e-4 && tick < 1e6 ? fmt::format("{:g}", tick) : fmt::format("{:.0e}", tick));
    }
}

/// The axis that shows all `values`, which are drawable. A vertical one ends on ticks, and starts from 0 where that
/// costs little of its length.
TTTLIB_INLINE Axis make_axis(const std::vector<double>& values, bool log, bool vertical, int wanted) {
  Axis axis;
  axis.log = log;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  axis.low = values.empty() ? (log ? 1 : 0) : *low;
  axis.high = values.empty() ? (log ? 10 : 1) : *high;
  const double size = std::max({std::abs(axis.low), std::abs(axis.high), 1e-280});
  const bool whole = std::all_of(values.begin(), values.end(), [](double v) { return v == std::round(v); });
  if (log) {
    const double decades = axis.scaled(axis.high) - axis.scaled(axis.low);
    const double room = decades < 1e-3 ? 2 : std::pow(10, vertical ? 0.05 * decades : 0);
    axis.low /= room;
    axis.high *= room;
    add_log_ticks(axis, wanted);
    return axis;
  }
  if (vertical && axis.low > 0 && axis.low < 0.4 * axis.high) axis.low = 0;
  if (axis.high - axis.low <= 1e-9 * size) {  // one value, or as good as one
    const double room = whole ? 1 : 0.1 * size;
    if (!vertical) axis.low -= room;
    if (vertical && axis.low > 0) axis.low = 0;
    else if (vertical && axis.high < 0) axis.high = 0;
    else axis.high += room;
  }
  add_linear_ticks(axis, wanted, whole && !vertical);
  if (vertical && axis.ticks.size() > 1) {
    const double step = axis.ticks[1] - axis.ticks[0];
    if (axis.low < axis.ticks.front() - 1e-6 * step) axis.low = axis.ticks.front() - step;
    if (axis.high > axis.ticks.back() + 1e-6 * step) axis.high = axis.ticks.back() + step;
    axis.ticks.clear();
    axis.labels.clear();
    add_linear_ticks(axis, static_cast<int>(std::lround((axis.high - axis.low) / step)), false);
  }
  return axis;
}

inline double line_x(const ReportLine& line, std::size_t i) { return line.x.empty() ? static_cast<double>(i + 1) : line.x[i]; }

inline double line_spread(const ReportLine& line, std::size_t i) {
  return line.spread.empty() || !(std::abs(line.spread[i]) < 1e300) ? 0 : std::abs(line.spread[i]);
}

inline std::string point_text(const ReportLine& line, std::size_t i) {
  const double spread = line_spread(line, i);
  return value_text(line.y[i], true) + (spread > 0 ? " ± " + value_text(spread) : "");
}

/// The path of a mark around (0, 0): lines differ in shape too, for readers who see few colours.
inline const char* mark_path(std::size_t line) {
  static const char* const shapes[] = {"m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z", "m-3.2-3.2h6.4v6.4h-6.4z",
                                       "m0-4.6l4.6 4.6l-4.6 4.6l-4.6-4.6z", "m0-4.4l4.3 7.6h-8.6z"};
  return shapes[(line + line / report_colors) % 4];
}

inline bool is_marked(const ReportChart& chart) {
  return std::all_of(chart.lines.begin(), chart.lines.end(), [](const ReportLine& line) { return line.y.size() <= most_marked; });
}

/// The classes by which the style sheet gives a line its colour and, without marks, its dashes.
inline std::string line_class(const ReportChart& chart, std::size_t line) {
  return fmt::format("c{}{}", line % report_colors, is_marked(chart) ? std::string() : fmt::format(" dash{}", line % 4));
}

/// A chart in words: where each line starts and ends, and its extremes.
TTTLIB_INLINE std::string describe_chart(const ReportChart& chart) {
  std::string text = fmt::format("Line chart of {} against {}.", chart.y_label, chart.x_label);
  for (const ReportLine& line : chart.lines) {
    std::vector<std::size_t> seen;
    for (std::size_t i = 0; i < line.y.size(); ++i)
      if (drawable(line_x(line, i), chart.log_x) && drawable(line.y[i], chart.log_y)) seen.push_back(i);
    text += " " + line.name + ": ";
    if (seen.empty()) {
      text += "no values.";
      continue;
    }
    const auto at = [&](std::size_t i) { return value_text(line.y[i]) + " at " + value_text(line_x(line, i)); };
    const auto [low, high] = std::minmax_element(seen.begin(), seen.end(), [&](std::size_t a, std::size_t b) { return line.y[a] < line.y[b]; });
    if (seen.size() == 1) text += at(seen[0]);
    else text += fmt::format("from {} to {}, lowest {}, highest {}", at(seen.front()), at(seen.back()), at(*low), at(*high));
    const std::size_t lost = line.y.size() - seen.size();
    text += lost > 0 ? fmt::format("; {} of {} values cannot be drawn.", lost, line.y.size()) : ".";
  }
  return text;
}

/// One drawing, `width` pixels wide where it is not scaled.
TTTLIB_INLINE std::string draw_chart(const ReportChart& chart, const std::string& id, bool wide) {
  std::vector<double> xs, ys;
  for (const ReportLine& line : chart.lines)
    for (std::size_t i = 0; i < line.y.size(); ++i) {
      const double x = line_x(line, i), y = line.y[i], spread = line_spread(line, i);
      if (!drawable(x, chart.log_x) || !drawable(y, chart.log_y)) continue;
      xs.push_back(x);
      for (const double end : {y - spread, y, y + spread})
        if (drawable(end, chart.log_y)) ys.push_back(end);
    }
  const Axis x_axis = make_axis(xs, chart.log_x, false, wide ? 12 : 6), y_axis = make_axis(ys, chart.log_y, true, 5);

  std::size_t label_length = 1;
  for (const std::string& label : y_axis.labels) label_length = std::max(label_length, label.size());
  const double width = wide ? 704 : 328, height = wide ? 310 : 240;
  const double left = 14 + 7.2 * static_cast<double>(label_length), right = width - 16, top = 10, bottom = height - 26;
  const auto px = [&](double x) { return left + 8 + (right - left - 16) * x_axis.position(x); };
  const auto py = [&](double y) { return bottom - (bottom - top) * y_axis.position(y); };

  std::string svg = fmt::format(
      "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{}-title {}-text\" data-x=\"{}\">\n"
      "<title id=\"{}-title\">{}</title><desc id=\"{}-text\">{}</desc>\n",
      wide ? "wide" : "narrow", width, height, id, id, escape_html(chart.x_label), id, escape_html(chart.title), id,
      escape_html(describe_chart(chart)));
  svg += "<g class=\"axes\">";
  for (std::size_t i = 0; i < y_axis.ticks.size(); ++i) {
    const double y = py(y_axis.ticks[i]);
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}H{:.1f}\"/><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", left, y, right,
                       left - 8, y + 4.5, y_axis.labels[i]);
  }
  for (std::size_t i = 0; i < x_axis.ticks.size(); ++i) {
    const double x = px(x_axis.ticks[i]);
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}v5\"/><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>", x, bottom, x,
                       bottom + 20, x_axis.labels[i]);
  }
  if (xs.empty())
    svg += fmt::format("<text class=\"none\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">no values</text>", (left + right) / 2, (top + bottom) / 2);
  svg += fmt::format("</g>\n<path class=\"guide\" d=\"M0 {:.1f}V{:.1f}\"/>\n", top, bottom);

  for (std::size_t n = 0; n < chart.lines.size(); ++n) {
    const ReportLine& line = chart.lines[n];
    std::string path, whiskers, marks;
    bool gap = true;
    for (std::size_t i = 0; i < line.y.size(); ++i) {
      const double value_x = line_x(line, i), value_y = line.y[i], spread = line_spread(line, i);
      if (!drawable(value_x, chart.log_x) || !drawable(value_y, chart.log_y)) {
        gap = true;
        continue;
      }
      const double x = px(value_x), y = py(value_y);
      path += fmt::format("{}{:.1f} {:.1f}{}", gap ? "M" : "L", x, y, gap ? "h0" : "");  // h0: a lone point is a dot
      gap = false;
      if (spread > 0)
        whiskers += fmt::format("M{0:.1f} {1:.1f}V{2:.1f}m-4 0h8M{3:.1f} {1:.1f}h8", x, py(value_y - spread), py(value_y + spread), x - 4);
      marks += fmt::format("<path d=\"M{:.1f} {:.1f}{}\" data-at=\"{:.1f}\" data-x=\"{}\" data-y=\"{}\"/>", x, y, mark_path(n), x,
                           value_text(value_x), point_text(line, i));
    }
    svg += fmt::format("<g class=\"line {}\" data-name=\"{}\">", line_class(chart, n), escape_html(line.name));
    if (!whiskers.empty()) svg += "<path class=\"whiskers\" d=\"" + whiskers + "\"/>";
    if (!path.empty()) svg += "<path class=\"stroke\" d=\"" + path + "\"/>";
    svg += "<g class=\"marks" + std::string(is_marked(chart) ? "" : " quiet") + "\">" + marks + "</g></g>\n";
  }
  return svg + "</svg>\n";
}

/// What each colour stands for; a single line needs none beside its title unless it has a name.
TTTLIB_INLINE std::string chart_legend(const ReportChart& chart) {
  std::string list;
  for (std::size_t n = 0; n < chart.lines.size(); ++n) {
    const ReportLine& line = chart.lines[n];
    if (line.name.empty()) continue;
    const bool drawn = [&] {
      for (std::size_t i = 0; i < line.y.size(); ++i)
        if (drawable(line_x(line, i), chart.log_x) && drawable(line.y[i], chart.log_y)) return true;
      return false;
    }();
    list += fmt::format(
        "<li><svg viewBox=\"0 0 28 12\" width=\"28\" height=\"12\" aria-hidden=\"true\"><g class=\"line {}\"><path class=\"stroke\" d=\"M1 6H27\"/>"
        "{}</g></svg>{}{}</li>",
        line_class(chart, n), is_marked(chart) ? fmt::format("<g class=\"marks\"><path d=\"M14 6{}\"/></g>", mark_path(n)) : std::string(),
        escape_html(line.name), drawn ? "" : " (no values)");
  }
  return list.empty() ? list : "<ul class=\"legend\">" + list + "</ul>\n";
}

/// The numbers behind a chart: a row for every x that some line has.
TTTLIB_INLINE ReportTable chart_values(const ReportChart& chart) {
  ReportTable table;
  table.columns.push_back(chart.x_label);
  std::map<double, std::vector<std::string>> rows;
  for (std::size_t n = 0; n < chart.lines.size(); ++n) {
    const ReportLine& line = chart.lines[n];
    table.columns.push_back(line.name.empty() ? chart.y_label : line.name);
    for (std::size_t i = 0; i < line.y.size(); ++i) {
      if (std::isnan(line_x(line, i))) continue;
      auto& cells = rows.try_emplace(line_x(line, i), chart.lines.size()).first->second;
      cells[n] += (cells[n].empty() ? "" : ", ") + point_text(line, i);
    }
  }
  for (auto& [x, cells] : rows) {
    cells.insert(cells.begin(), value_text(x));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace ttt::detail
