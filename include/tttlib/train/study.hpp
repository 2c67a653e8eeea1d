#pragma once
/// A study: one small backbone, trained with each of several token mixers on the same images with the same seeds, and a
/// page that says what the differences are worth. A program is its description:
///
///   int main(int argc, char** argv) {
///     return run_study(argc, argv, {.name = "losses", .title = "…", .lesson = "…",
///                                   .rows = {{"dot", mixers::inner_training("mlp")},
///                                            {"mae", mixers::inner_training("mlp", {.loss = losses::mae})}}});
///   }

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tttlib/models/deit.hpp"
#include "tttlib/train/report.hpp"

namespace ttt {

/// One line of a study's table.
struct StudyRow {
  std::string name = {};
  TokenMixer<float> mixer = {};
  double paper = std::numeric_limits<double>::quiet_NaN();  // its accuracy in the paper, %
  std::string paper_note = {};                              // beside it: "diverged", its speed …
  std::string paper_cost = {};                              // its parameters and multiply-accumulates
  double x = std::numeric_limits<double>::quiet_NaN();      // its place on `Study::axis`
};

/// "This row is more accurate than that one", by names.
struct StudyClaim {
  std::string better = {}, worse = {};
};

/// Where the part before the experiment goes: onto the terminal and into the report.
class StudyPage {
 public:
  StudyPage(Report& to, std::string folder, bool quick) : report_(to), folder_(std::move(folder)), quick_(quick) {}

  /// True if the reader wants to see the page soon.
  bool quick() const { return quick_; }
  /// The output folder, for pictures.
  const std::string& folder() const { return folder_; }

  void heading(const std::string& text);
  void paragraph(const std::string& text);
  void table(const ReportTable& table);
  /// On the terminal only its title is shown.
  void chart(const ReportChart& chart);
  void picture(const std::string& png_path, const std::string& description, const std::string& caption = "");

  const std::vector<ReportTable>& tables() const { return tables_; }

 private:
  Report& report_;
  std::string folder_;
  bool quick_;
  std::vector<ReportTable> tables_;
};

struct Study {
  std::string name = "study";  // of its files: runs/insights/NAME/NAME.json
  std::string title = {}, lesson = {};
  std::string column = "mixer";  // what the rows are
  std::vector<StudyRow> rows = {};
  std::vector<StudyClaim> claims = {};  // without any, the first row is compared with every other
  std::string axis = {};                // label of a chart of accuracy against the rows' `x`; empty: none
  bool log_axis = false;
  std::function<void(StudyPage&)> mechanism = {};
  std::string remark = {};  // shown below the table
};

/// How a study is run; the command line sets these, see `study_help`.
struct StudyOptions {
  std::string data = "shapes", out, cache = "runs/insights/rows";
  std::int64_t images = 10000, test_images = 2000, epochs = 10, seeds = 3, batch_size = 50;
  double lr = 3e-3, weight_decay = 0.05, warmup_share = 0.1, clip_grad = 1;
  int jobs = 1;
  Device device = {};  // where the runs are
  std::vector<std::string> only;
  bool quick = false, help = false;
  DeitOptions backbone = study_backbone();

  /// 32 × 32 images, patches of 4, 64 channels, 3 blocks, 2 heads; the mean over tokens, since most mixers live on the grid.
  static DeitOptions study_backbone() {
    DeitOptions o;
    o.image_size = 32;
    o.patch_size = 4;
    o.channels = 64;
    o.depth = 3;
    o.heads = 2;
    o.num_classes = 10;
    o.class_token = false;
    o.deviation = 0;  // layers' own defaults: the short runs of a study leave no time to grow out of small weights
    return o;
  }
};

/// One training of one row.
struct StudyRun {
  double top1 = std::numeric_limits<double>::quiet_NaN();        // on the test images; NaN if it diverged
  double train_loss = std::numeric_limits<double>::quiet_NaN();  // mean over the last epoch
  std::vector<double> curve;                                     // training loss, means of equal parts of the run
  double images_per_second = 0, seconds = 0;                     // by the thread's own processor time; on a GPU by the clock
  std::int64_t diverged_at = -1;                                 // step whose loss or gradient was not a number
};

/// All runs of one row, and its cost.
struct StudyOutcome {
  std::vector<StudyRun> runs;                      // one per seed
  double top1 = 0, deviation = 0, train_loss = 0;  // % and nats, over the runs that did not diverge
  std::int64_t diverged = 0;                       // runs that did
  std::int64_t parameters = 0, macs = 0;           // of the study's backbone, one image
  double deit_parameters = 0, deit_macs = 0;       // of a DeiT-S at 224 × 224 with this mixer, millions and billions
};

/// The smallest difference between two rows' mean accuracies that seeds alone produce in one of twenty cases: t·s·√(2/n)
/// with n seeds, and s the deviation that is left after the means of rows and of seeds (which all rows share) are taken
/// away; for two rows that is the paired t-test. Rows with diverged runs are left out. NaN without two rows and two seeds.
double smallest_resolved_difference(const std::vector<StudyOutcome>& outcomes);

/// What became of a claim.
enum class StudyVerdict { reproduced, reversed, within_noise };
StudyVerdict judge(const StudyOutcome& better, const StudyOutcome& worse, double resolution);

/// Runs a study as a program does: reads options, shows the mechanism, trains what is not yet in the cache, writes
/// NAME.json and report.html. Returns the exit code; what a caller got wrong is told in one line on stderr.
int run_study(int argc, const char* const* argv, const Study& study);

}  // namespace ttt

#if !defined(TTTLIB_COMPILED)
#include "tttlib/train/study-inl.hpp"
#endif
