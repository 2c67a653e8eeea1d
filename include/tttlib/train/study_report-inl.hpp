#pragma once
/// What the numbers of a study are worth, and how its page and its JSON file say so.

#include <array>
#include <sstream>

#include "tttlib/train/study_runs-inl.hpp"

namespace ttt {

namespace detail {

/// A table for a terminal; columns whose cells are numbers are set flush right.
TTTLIB_INLINE std::string table_text(const ReportTable& table) {
  const auto width_of = [](const std::string& text) {  // letters, not bytes
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  };
  std::vector<std::vector<std::string>> lines{table.columns};
  lines.insert(lines.end(), table.rows.begin(), table.rows.end());
  std::vector<std::size_t> widths(table.columns.size());
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], width_of(line[c]));
  std::string text;
  for (const auto& line : lines) {
    std::string row = " ";
    for (std::size_t c = 0; c < line.size(); ++c) {
      const std::string space(widths[c] - width_of(line[c]), ' ');
      row.append(" ").append(c > 0 ? space + line[c] : line[c] + space).append(" ");
    }
    text += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

inline std::string number_text(double x, int digits) { return std::isfinite(x) ? fmt::format("{:.{}f}", x, digits) : std::string("–"); }

/// Mean and sample deviation of the runs that did not diverge.
TTTLIB_INLINE void summarize_runs(StudyOutcome& outcome) {
  double sum = 0, loss = 0, squares = 0;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  double n = 0;
  outcome.diverged = 0;
  for (const StudyRun& run : outcome.runs) {
    if (run.diverged_at >= 0) {
      ++outcome.diverged;
      continue;
    }
    sum += run.top1;
    loss += run.train_loss;
    ++n;
  }
  outcome.top1 = n > 0 ? sum / n : nan;
  outcome.train_loss = n > 0 ? loss / n : nan;
  for (const StudyRun& run : outcome.runs)
    if (run.diverged_at < 0) squares += (run.top1 - outcome.top1) * (run.top1 - outcome.top1);
  outcome.deviation = n > 1 ? std::sqrt(squares / (n - 1)) : nan;
}

/// The 97.5 % point of Student's distribution (Cornish–Fisher expansion; the first two by their closed forms).
inline double student_975(double freedom) {
  if (freedom < 1.5) return 12.706;
  if (freedom < 2.5) return 4.303;
  const double z = 1.959964, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z, n = freedom;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) + (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n);
}

}  // namespace detail

TTTLIB_INLINE void StudyPage::heading(const std::string& text) {
  fmt::print("\n{}\n", text);
  report_.heading(text);
}
TTTLIB_INLINE void StudyPage::paragraph(const std::string& text) {
  std::string line;  // wrapped for terminals
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (line.size() + word.size() > 110) fmt::print("{}\n", line), line.clear();
    line += (line.empty() ? "" : " ") + word;
  }
  fmt::print("{}\n", line);
  report_.paragraph(text);
}
TTTLIB_INLINE void StudyPage::table(const ReportTable& table) {
  if (!table.caption.empty()) fmt::print("\n{}\n", table.caption);
  fmt::print("{}\n", detail::table_text(table));
  std::fflush(stdout);
  report_.table(table);
  tables_.push_back(table);
}
TTTLIB_INLINE void StudyPage::chart(const ReportChart& chart) {
  fmt::print("(chart in the report: {})\n", chart.title);
  report_.chart(chart);
}
TTTLIB_INLINE void StudyPage::picture(const std::string& png_path, const std::string& description, const std::string& caption) {
  fmt::print("(picture: {})\n", png_path);
  report_.picture(png_path, description, caption);
}

TTTLIB_INLINE double smallest_resolved_difference(const std::vector<StudyOutcome>& outcomes) {
  std::vector<const StudyOutcome*> rows;  // those that all seeds finished
  for (const StudyOutcome& o : outcomes)
    if (o.diverged == 0) rows.push_back(&o);
  const std::size_t R = rows.size(), S = rows.empty() ? 0 : rows[0]->runs.size();
  if (R < 2 || S < 2) return std::numeric_limits<double>::quiet_NaN();
  const auto at = [&](std::size_t r, std::size_t s) { return rows[r]->runs[s].top1; };
  std::vector<double> row_mean(R), seed_mean(S);
  double all = 0, squares = 0;
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t s = 0; s < S; ++s) {
      row_mean[r] += at(r, s) / static_cast<double>(S);
      seed_mean[s] += at(r, s) / static_cast<double>(R);
      all += at(r, s) / static_cast<double>(R * S);
    }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t s = 0; s < S; ++s) {
      const double rest = at(r, s) - row_mean[r] - seed_mean[s] + all;
      squares += rest * rest;
    }
  const double freedom = static_cast<double>((R - 1) * (S - 1));
  return detail::student_975(freedom) * std::sqrt(squares / freedom) * std::sqrt(2 / static_cast<double>(S));
}

TTTLIB_INLINE StudyVerdict judge(const StudyOutcome& better, const StudyOutcome& worse, double resolution) {
  if (better.diverged != 0 || worse.diverged != 0) {  // a row that diverges is worse than one that does not
    if (better.diverged == worse.diverged) return StudyVerdict::within_noise;
    return better.diverged < worse.diverged ? StudyVerdict::reproduced : StudyVerdict::reversed;
  }
  const double difference = better.top1 - worse.top1;
  if (!(std::abs(difference) >= resolution)) return StudyVerdict::within_noise;  // also without a resolution
  return difference > 0 ? StudyVerdict::reproduced : StudyVerdict::reversed;
}

namespace detail {

inline const char* verdict_text(StudyVerdict verdict) {
  return verdict == StudyVerdict::reproduced ? "reproduced" : verdict == StudyVerdict::reversed ? "reversed" : "within noise";
}

inline std::string accuracy_text(const StudyOutcome& o) {
  const std::size_t runs = o.runs.size();
  const std::string diverged = o.diverged > 0 ? fmt::format("diverged in {} of {}", o.diverged, runs) : std::string();
  if (!std::isfinite(o.top1)) return diverged;
  const std::string mean = fmt::format("{:.1f}", o.top1) + (std::isfinite(o.deviation) ? fmt::format(" ± {:.1f}", o.deviation) : std::string());
  return diverged.empty() ? mean : mean + ", " + diverged;
}

inline double mean_speed(const StudyOutcome& o) {
  double sum = 0;
  for (const StudyRun& run : o.runs) sum += run.images_per_second;
  return sum / static_cast<double>(o.runs.size());
}

TTTLIB_INLINE ReportTable accuracy_table(const Study& study, const std::vector<StudyRow>& rows, const std::vector<StudyOutcome>& outcomes) {
  ReportTable table{.caption = "Accuracy", .columns = {study.column, "top-1, %"}, .rows = {}};
  const bool paper = std::any_of(rows.begin(), rows.end(), [](const StudyRow& row) { return std::isfinite(row.paper); });
  if (paper) table.caption = "Accuracy beside the paper's", table.columns.push_back(table.paper_column = "paper: top-1, %");
  table.columns.insert(table.columns.end(), {"training loss", "images/s of one core"});
  for (std::size_t r = 0; r < rows.size(); ++r) {
    table.rows.push_back({rows[r].name, accuracy_text(outcomes[r])});
    if (paper)
      table.rows.back().push_back(number_text(rows[r].paper, 1) + (rows[r].paper_note.empty() ? "" : ", " + rows[r].paper_note));
    table.rows.back().push_back(number_text(outcomes[r].train_loss, 3));
    table.rows.back().push_back(number_text(mean_speed(outcomes[r]), 0));
  }
  return table;
}

TTTLIB_INLINE ReportTable cost_table(const Study& study, const std::vector<StudyRow>& rows, const std::vector<StudyOutcome>& outcomes) {
  ReportTable table{.caption = "Cost of one image", .columns = {study.column, "parameters", "MACs, M", "DeiT-S: parameters, M", "DeiT-S: MACs, G"}};
  const bool paper = std::any_of(rows.begin(), rows.end(), [](const StudyRow& row) { return !row.paper_cost.empty(); });
  if (paper) table.columns.push_back(table.paper_column = "paper: parameters, MACs");
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const StudyOutcome& o = outcomes[r];
    table.rows.push_back({rows[r].name, with_thousands(o.parameters), number_text(static_cast<double>(o.macs) / 1e6, 2),
                          number_text(o.deit_parameters, 2), number_text(o.deit_macs, 2)});
    if (paper) table.rows.back().push_back(rows[r].paper_cost.empty() ? "–" : rows[r].paper_cost);
  }
  return table;
}

/// A claim with what the paper and we measured.
struct Judged {
  std::string text;
  double paper = 0, ours = 0;  // differences in points
  StudyVerdict verdict = StudyVerdict::within_noise;
};

TTTLIB_INLINE std::vector<Judged> judge_claims(const Study& study, const std::vector<StudyRow>& rows, const std::vector<StudyOutcome>& outcomes,
                                               double resolution) {
  std::vector<StudyClaim> claims = study.claims;
  if (claims.empty())
    for (std::size_t r = 1; r < rows.size(); ++r) claims.push_back({rows[r].name, rows[0].name});
  const auto find = [&](const std::string& name) {
    return static_cast<std::size_t>(std::find_if(rows.begin(), rows.end(), [&](const StudyRow& row) { return row.name == name; }) - rows.begin());
  };
  std::vector<Judged> judged;
  for (const StudyClaim& claim : claims) {
    const std::size_t a = find(claim.better), b = find(claim.worse);
    if (a == rows.size() || b == rows.size()) continue;  // left out by --only
    judged.push_back({claim.better + " over " + claim.worse, rows[a].paper - rows[b].paper, outcomes[a].top1 - outcomes[b].top1,
                      judge(outcomes[a], outcomes[b], resolution)});
  }
  return judged;
}

inline std::string list_of(const std::vector<Judged>& judged, StudyVerdict verdict) {
  std::string list;
  for (const Judged& j : judged)
    if (j.verdict == verdict) list += (list.empty() ? "" : ", ") + j.text;
  return list.empty() ? "none" : list;
}

/// Every pair of rows that the paper tells apart, counted by verdict.
TTTLIB_INLINE std::array<int, 3> judge_all_pairs(const std::vector<StudyRow>& rows, const std::vector<StudyOutcome>& outcomes, double resolution) {
  std::array<int, 3> count{};
  for (std::size_t a = 0; a < rows.size(); ++a)
    for (std::size_t b = 0; b < rows.size(); ++b)
      if (rows[a].paper > rows[b].paper + 0.05) ++count[static_cast<std::size_t>(judge(outcomes[a], outcomes[b], resolution))];
  return count;
}

TTTLIB_INLINE ReportChart loss_chart(const std::vector<StudyRow>& rows, const std::vector<StudyOutcome>& outcomes, const StudyOptions& o) {
  ReportChart chart{.title = "Training loss",
                    .x_label = "epoch",
                    .y_label = "cross-entropy, nats",
                    .caption = fmt::format("Mean of {} seeds over equal parts of the run.", o.seeds)};
  for (std::size_t r = 0; r < rows.size(); ++r) {
    ReportLine line{.name = rows[r].name};
    for (std::size_t i = 0; i < outcomes[r].runs[0].curve.size(); ++i) {
      double sum = 0;
      for (const StudyRun& run : outcomes[r].runs) sum += i < run.curve.size() ? run.curve[i] : std::numeric_limits<double>::quiet_NaN();
      line.y.push_back(sum / static_cast<double>(outcomes[r].runs.size()));
      line.x.push_back(static_cast<double>(o.epochs) * (static_cast<double>(i) + 0.5) / static_cast<double>(outcomes[r].runs[0].curve.size()));
    }
    chart.lines.push_back(line);
  }
  return chart;
}

/// Accuracy along the study's axis, ours and the paper's, each relative to its own mean: the levels differ too much for one scale.
TTTLIB_INLINE ReportChart axis_chart(const Study& study, const std::vector<StudyRow>& rows, const std::vector<StudyOutcome>& outcomes) {
  ReportLine ours{.name = "this run"}, paper{.name = "paper"};
  double mean_ours = 0, mean_paper = 0, n = 0;
  for (std::size_t r = 0; r < rows.size(); ++r)
    if (std::isfinite(rows[r].x) && std::isfinite(outcomes[r].top1)) mean_ours += outcomes[r].top1, mean_paper += rows[r].paper, ++n;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (!std::isfinite(rows[r].x)) continue;
    ours.x.push_back(rows[r].x);
    ours.y.push_back(outcomes[r].top1 - mean_ours / n);
    ours.spread.push_back(std::isfinite(outcomes[r].deviation) ? outcomes[r].deviation : 0);
    paper.x.push_back(rows[r].x);
    paper.y.push_back(rows[r].paper - mean_paper / n);
  }
  return {
      .title = "Accuracy",
      .x_label = study.axis,
      .y_label = "top-1 minus the mean of its line, points",
      .lines = {ours, paper},
      .log_x = study.log_axis,
      .caption = "The two lines come from different data and sizes; their shapes may be compared, not their levels. Whiskers: deviation over seeds."};
}

TTTLIB_INLINE nlohmann::ordered_json to_json(const ReportTable& table) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& row : table.rows) {
    nlohmann::ordered_json j;
    for (std::size_t c = 0; c < row.size(); ++c) j[table.columns[c]] = row[c];
    rows.push_back(j);
  }
  return {{"caption", table.caption}, {"rows", rows}};
}

/// What both the page and the JSON file say.
struct StudyFindings {
  std::vector<StudyRow> rows;
  std::vector<StudyOutcome> outcomes;
  double resolution = 0;
  std::vector<Judged> claims;
  std::array<int, 3> pairs{};
  std::string result;
};

TTTLIB_INLINE nlohmann::ordered_json to_json(const Study& study, const StudyFindings& f, const StudyOptions& o, const StudyData& data,
                                             const std::vector<ReportTable>& mechanism, const std::string& command) {
  nlohmann::ordered_json j{
      {"study", study.name},
      {"title", study.title},
      {"lesson", study.lesson},
      {"result", f.result},
      {"quick", o.quick},
      {"command", command},
      {"version", concat("tttlib ", TTTLIB_VERSION_MAJOR, ".", TTTLIB_VERSION_MINOR, ".", TTTLIB_VERSION_PATCH)},
      {"machine", machine_name()},
      {"data", data.name},
      {"epochs", o.epochs},
      {"batch_size", o.batch_size},
      {"lr", o.lr},
      {"weight_decay", o.weight_decay},
      {"backbone", {{"channels", o.backbone.channels}, {"depth", o.backbone.depth}, {"heads", o.backbone.heads}, {"patch", o.backbone.patch_size}}},
      {"smallest_resolved_difference", number_or_null(f.resolution)}};
  j["mechanism"] = nlohmann::ordered_json::array();
  for (const ReportTable& table : mechanism) j["mechanism"].push_back(to_json(table));
  for (std::size_t r = 0; r < f.rows.size(); ++r) {
    const StudyOutcome& out = f.outcomes[r];
    nlohmann::ordered_json row{{"name", f.rows[r].name},
                               {"mixer", f.rows[r].mixer.name},
                               {"top1", number_or_null(out.top1)},
                               {"deviation", number_or_null(out.deviation)},
                               {"paper_top1", number_or_null(f.rows[r].paper)},
                               {"paper_note", f.rows[r].paper_note},
                               {"paper_cost", f.rows[r].paper_cost},
                               {"train_loss", number_or_null(out.train_loss)},
                               {"images_per_second", mean_speed(out)},
                               {"diverged", out.diverged},
                               {"parameters", out.parameters},
                               {"macs", out.macs},
                               {"deit_small_parameters_millions", out.deit_parameters},
                               {"deit_small_macs_billions", out.deit_macs}};
    for (const StudyRun& run : out.runs) row["runs"].push_back(to_json(run));
    j["rows"].push_back(row);
  }
  j["claims"] = nlohmann::ordered_json::array();
  for (const Judged& c : f.claims)
    j["claims"].push_back({{"claim", c.text},
                           {"paper_difference", number_or_null(c.paper)},
                           {"difference", number_or_null(c.ours)},
                           {"verdict", verdict_text(c.verdict)}});
  j["pairs"] = {{"reproduced", f.pairs[0]}, {"reversed", f.pairs[1]}, {"within_noise", f.pairs[2]}};
  return j;
}

TTTLIB_INLINE StudyFindings find_out(const Study& study, std::vector<StudyRow> rows, const StudyData& data, const StudyOptions& o) {
  StudyFindings f;
  f.rows = std::move(rows);
  f.outcomes = run_rows(f.rows, data, o);
  for (StudyOutcome& outcome : f.outcomes) summarize_runs(outcome);
  f.resolution = smallest_resolved_difference(f.outcomes);
  f.claims = judge_claims(study, f.rows, f.outcomes, f.resolution);
  f.pairs = judge_all_pairs(f.rows, f.outcomes, f.resolution);
  int count[3] = {};
  for (const Judged& j : f.claims) ++count[static_cast<int>(j.verdict)];
  const char* what = study.claims.empty() ? "comparisons" : "of the paper's orderings";
  f.result = fmt::format("{} {}: {} reproduced, {} reversed, {} within noise", f.claims.size(), what, count[0], count[1], count[2]);
  if (study.claims.empty())
    f.result =
        fmt::format("{} comparisons with {}: {} better, {} worse, {} within noise", f.claims.size(), f.rows[0].name, count[0], count[1], count[2]);
  f.result += std::isfinite(f.resolution) ? fmt::format(" (differences below {:.1f} points).", f.resolution)
                                          : std::string(" (one seed or one row tells nothing).");
  if (o.quick) f.result = "Quick run, which proves nothing. " + f.result;
  return f;
}

TTTLIB_INLINE void show_experiment(StudyPage& page, const Study& study, const StudyFindings& f, const StudyOptions& o) {
  page.table(accuracy_table(study, f.rows, f.outcomes));
  if (!study.remark.empty()) page.paragraph(study.remark);
  if (std::isfinite(f.resolution))
    page.paragraph(
        fmt::format("The smallest difference this run can resolve is {:.1f} points: with {} seeds, two equal rows differ by more in one of twenty "
                    "cases. What a seed does to all rows alike is taken away first. Test images are the same for all rows, so this is about chance "
                    "in training, not about other images.",
                    f.resolution, o.seeds));
  else page.paragraph("With one seed or one row nobody can tell chance from effect, so every difference counts as noise.");
  if (!f.claims.empty()) {
    const bool paper = !study.claims.empty();
    ReportTable table{
        .caption = paper ? "The paper's orderings" : "Compared with the first row", .columns = {"ordering", "difference, points"}, .rows = {}};
    if (paper) table.columns.push_back("paper: difference, points"), table.paper_column = table.columns.back();
    table.columns.push_back("verdict");
    for (const Judged& j : f.claims) {
      std::vector<std::string> row{j.text, std::isfinite(j.ours) ? fmt::format("{:+.1f}", j.ours) : "–"};
      if (paper) row.push_back(std::isfinite(j.paper) ? fmt::format("{:+.1f}", j.paper) : "–");
      row.push_back(paper                                   ? verdict_text(j.verdict)
                    : j.verdict == StudyVerdict::reproduced ? "better"
                    : j.verdict == StudyVerdict::reversed   ? "worse"
                                                            : "within noise");
      table.rows.push_back(row);
    }
    page.table(table);
    if (paper)
      page.paragraph(
          fmt::format("Reproduced: {}. Reversed: {}. Within noise: {}. Of all {} pairs of rows that differ in the paper, {} come out the same way, "
                      "{} the other way, {} cannot be told apart here.",
                      list_of(f.claims, StudyVerdict::reproduced), list_of(f.claims, StudyVerdict::reversed),
                      list_of(f.claims, StudyVerdict::within_noise), f.pairs[0] + f.pairs[1] + f.pairs[2], f.pairs[0], f.pairs[1], f.pairs[2]));
  }
  if (!study.axis.empty()) page.chart(axis_chart(study, f.rows, f.outcomes));
  page.chart(loss_chart(f.rows, f.outcomes, o));
  page.table(cost_table(study, f.rows, f.outcomes));
  page.paragraph(
      "MACs are multiply-accumulates, of the products and convolutions that are really done, the inner step's included. A DeiT-S here has 14 × 14 "
      "tokens, the mean over them instead of a class token, and this mixer in all 12 blocks.");
}

}  // namespace detail

}  // namespace ttt
