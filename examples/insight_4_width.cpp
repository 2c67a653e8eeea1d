// Insight 4: a wider inner model learns more of each image.
//
// The inner model is the layer's memory of one image. Unlike attention, whose memory grows with the number of tokens, it
// has a fixed size, and width is the plain way to enlarge it: accuracy grows steadily with the hidden width, at a price in
// parameters and products. (ViT³ paper, section 3.)

#include "insights/example_tokens.hpp"
#include "tttlib/ttt/inner_train.hpp"

using namespace insights;

namespace {

/// The inner loss that is reached, against the hidden width.
void mechanism(StudyPage& page) {
  constexpr std::int64_t B = 4, H = 2, d = 32, side = 8;
  const Tokens t = example_tokens(B, H, side, d);  // [B, H, N, d]
  const std::vector<double> ratios{0.5, 1, 2, 3, 4};
  const std::vector<std::int64_t> steps{1, 4, 16, 64};
  const int starts = page.quick() ? 2 : 5;
  page.paragraph(
      fmt::format("A two-layer inner model learns the keys and values of 4 images, with the squared error (which has a floor, so that learning can "
                  "be seen), rate 1. Mean over {} random starts. The wider the model, the further it gets; a single step of that length tells less.",
                  starts));
  ReportChart chart{.title = "Inner squared error reached",
                    .x_label = "hidden width over head width",
                    .y_label = "mse loss over that of answering 0",
                    .log_y = true};
  ReportTable table{.caption = "Inner squared error reached, over that of answering 0", .columns = {"width", "weights per head"}, .rows = {}};
  for (const std::int64_t n : steps) {
    chart.lines.push_back({.name = fmt::format("{} {}", n, n == 1 ? "step" : "steps")});
    table.columns.push_back(chart.lines.back().name);
  }
  const double of_zero = mean(losses::mse(zeros_like(t.v), t.v)).item();
  for (const double ratio : ratios) {
    const InnerModel<double> model = inner::make<double>("mlp", {.width = d, .ratio = ratio});
    std::vector<double> reached(steps.size());
    for (int start = 0; start < starts; ++start) {
      InnerState<double> state = initial_state(model.initial_weights(H, start_deviation_at(ratio)), B);  // [B, H, …] each
      std::int64_t done = 0;
      for (std::size_t i = 0; i < steps.size(); ++i) {
        state = inner_update<double>(model, state, {t.k, t.v, {}}, {.loss = losses::mse, .epochs = steps[i] - done}).detach();
        done = steps[i];
        reached[i] += inner_loss(model, losses::mse, state.w, t) / of_zero / starts;
      }
    }
    std::vector<std::string> row{fmt::format("r{}", ratio), fmt::format("{}", model.parameter_count())};
    for (std::size_t i = 0; i < steps.size(); ++i) {
      chart.lines[i].x.push_back(ratio);
      chart.lines[i].y.push_back(reached[i]);
      row.push_back(fmt::format("{:.3f}", reached[i]));
    }
    table.rows.push_back(row);
  }
  page.table(table);
  page.chart(chart);
}

}  // namespace

int main(int argc, char** argv) {
  Study study{.name = "insight_4",
              .title = "Insight 4: a wider inner model learns more of each image",
              .lesson =
                  "The inner model is the layer's memory of one image, and its size does not grow with the image. Width enlarges it, and accuracy "
                  "follows, at a price in parameters and products.",
              .column = "hidden width"};
  const struct {
    double paper;
    const char* cost;
  } paper[] = {{78.9, "23.5 M, 4.58 G"}, {79.2, "24.1 M, 4.92 G"}, {79.5, "24.7 M, 5.27 G"}, {79.6, "25.2 M, 5.62 G"}};
  for (int r = 1; r <= 4; ++r) {
    InnerLayerOptions layer;
    if (r > 1) layer.ratio = r;  // r1 is the row that other tables have too
    const auto& p = paper[r - 1];
    study.rows.push_back(
        {.name = fmt::format("r{}", r), .mixer = mixer("mlp_l2", {}, layer), .paper = p.paper, .paper_cost = p.cost, .x = static_cast<double>(r)});
  }
  study.claims = {{"r2", "r1"}, {"r3", "r1"}, {"r4", "r1"}, {"r3", "r2"}, {"r4", "r2"}, {"r4", "r3"}};
  study.axis = "hidden width over head width";
  study.mechanism = mechanism;
  study.remark =
      "The cost table below has the paper's parameters and multiply-accumulates beside those of a DeiT-S with our mixer: every step of width adds "
      "the same 0.59 M parameters in both, the paper's backbone has about 0.8 M more, and we count the products that are done.";
  return run_study(argc, argv, study);
}
