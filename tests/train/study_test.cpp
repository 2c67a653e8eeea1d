// Studies: what differences are worth, results kept and found again, divergence, options.
#include "tttlib/train/study.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

using namespace ttt;

namespace {

/// An outcome of runs that ended with these accuracies; a negative one diverged.
StudyOutcome outcome(const std::vector<double>& accuracies) {
  StudyOutcome o;
  double sum = 0, squares = 0, n = 0;
  for (const double a : accuracies) {
    StudyRun run;
    if (a < 0) run.diverged_at = 7, ++o.diverged;
    else run.top1 = a, sum += a, ++n;
    o.runs.push_back(run);
  }
  o.top1 = sum / n;
  for (const double a : accuracies)
    if (a >= 0) squares += (a - o.top1) * (a - o.top1);
  o.deviation = std::sqrt(squares / (n - 1));
  return o;
}

int run(const Study& study, std::vector<std::string> words) {
  words.insert(words.begin(), "study");
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  return run_study(static_cast<int>(argv.size()), argv.data(), study);
}

/// A study of one row whose inner model is x·W to some power.
Study power_study(double power) {
  const inner::Factory<float> model = [power](const inner::Options& o) {
    return inner::model<float>("power", {{o.width, o.width}}, [power](auto& x, auto& w) { return pow(matmul(x, w[0]), power); });
  };
  return {.name = "power", .title = "Powers", .rows = {{.name = "mine", .mixer = mixers::inner_training("power", model)}}};
}

std::size_t files_in(const std::string& folder) {
  std::size_t n = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) n += entry.path().extension() == ".json";
  return n;
}

}  // namespace

TEST_CASE("the smallest resolved difference: for two rows the paired t-test, whatever seeds do to both") {
  // Differences 11, 10, 9: deviation 1; t with 2 degrees of freedom is 4.3027
  CHECK(std::abs(smallest_resolved_difference({outcome({60, 60, 60}), outcome({49, 50, 51})}) - 4.3027 / std::sqrt(3.0)) < 0.001);
  CHECK(std::abs(smallest_resolved_difference({outcome({60, 70, 20}), outcome({49, 60, 11})}) - 4.3027 / std::sqrt(3.0)) < 0.001);
  // Five rows, three seeds, 8 degrees of freedom, t = 2.3060; rests by hand: rows 0 and 1 have ±1, 0, ∓1 and the others the negative mean
  const std::vector<StudyOutcome> five{outcome({51, 50, 49}), outcome({49, 50, 51}), outcome({60, 60, 60}), outcome({70, 70, 70}),
                                       outcome({80, 80, 80})};
  CHECK(std::abs(smallest_resolved_difference(five) - 2.3060 * std::sqrt(4.0 / 8) * std::sqrt(2.0 / 3)) < 0.002);
  CHECK(std::isnan(smallest_resolved_difference({outcome({50}), outcome({60})})));
  CHECK(std::isnan(smallest_resolved_difference({outcome({50, 51, 52})})));
  // Rows that diverged are left out.
  CHECK(std::abs(smallest_resolved_difference({outcome({60, 60, 60}), outcome({10, -1, 90}), outcome({49, 50, 51})}) - 4.3027 / std::sqrt(3.0)) <
        0.001);
}

TEST_CASE("verdicts: resolved, reversed, noise; a row that diverges is the worse one") {
  const StudyOutcome low = outcome({49, 50, 51}), high = outcome({59, 60, 61}), broken = outcome({59, 60, -1});
  CHECK(judge(high, low, 2) == StudyVerdict::reproduced);
  CHECK(judge(low, high, 2) == StudyVerdict::reversed);
  CHECK(judge(high, low, 11) == StudyVerdict::within_noise);
  CHECK(judge(high, low, std::nan("")) == StudyVerdict::within_noise);
  CHECK(judge(low, broken, 2) == StudyVerdict::reproduced);
  CHECK(judge(broken, low, 2) == StudyVerdict::reversed);
  CHECK(judge(broken, broken, 2) == StudyVerdict::within_noise);
}

TEST_CASE("runs are kept and found again, one at a time or two, and made anew for another model of the same name") {
  const TemporaryFolder folder;
  const std::string cache = folder / "rows";
  const std::vector<std::string> options{"--quick", "--images", "100", "--cache", cache, "--out", folder / "out"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = options;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  REQUIRE(run(power_study(1), with({"--jobs", "1"})) == 0);
  CHECK(files_in(cache) == 2);
  const std::string first = read_bytes(folder / "out/power.json");
  std::filesystem::remove(std::filesystem::directory_iterator(cache)->path());  // as if it had been stopped before
  REQUIRE(run(power_study(1), with({"--jobs", "2"})) == 0);
  CHECK(files_in(cache) == 2);
  const std::string second = read_bytes(folder / "out/power.json");
  const auto accuracy = [](const std::string& text) { return text.substr(text.find("\"top1\""), 40); };
  CHECK(accuracy(first) == accuracy(second));
  CHECK(read_bytes(folder / "out/report.html").find("Quick run, which proves nothing") != std::string::npos);
  REQUIRE(run(power_study(2), with({})) == 0);
  CHECK(files_in(cache) == 4);
  // A damaged result is made anew.
  std::ofstream(std::filesystem::directory_iterator(cache)->path()) << "{";
  const auto handler = warning_handler();
  warning_handler() = [](const std::string&) {};
  REQUIRE(run(power_study(1), with({})) == 0);
  REQUIRE(run(power_study(2), with({})) == 0);
  warning_handler() = handler;
  CHECK(files_in(cache) == 4);
}

TEST_CASE("a row that diverges is reported, not fatal") {
  const TemporaryFolder folder;
  Study study = power_study(3);
  study.rows[0].mixer = mixers::inner_training("mlp", {.rate = 1e30});
  REQUIRE(run(study, {"--quick", "--images", "50", "--seeds", "1", "--cache", folder.path(), "--out", folder / "out"}) == 0);
  CHECK(read_bytes(folder / "out/report.html").find("diverged in 1 of 1") != std::string::npos);
  CHECK(read_bytes(folder / "out/power.json").find("\"diverged_at_step\": 0") != std::string::npos);
}

TEST_CASE("what a caller gets wrong ends with 1") {
  const Study study = power_study(1);
  CHECK(run(study, {"--sedes", "3"}) == 1);
  CHECK(run(study, {"--seeds"}) == 1);
  CHECK(run(study, {"--seeds", "many"}) == 1);
  CHECK(run(study, {"--seeds=0"}) == 1);
  CHECK(run(study, {"--only", "yours"}) == 1);
  CHECK(run(study, {"--data", "/no/such/folder"}) == 1);
  CHECK(run(study, {"--help"}) == 0);
}
