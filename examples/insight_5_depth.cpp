// Insight 5: a deeper inner model is harder to train, and has one step to do it.
//
// Depth adds capacity on paper, but the inner model is trained by a single step, and the gradient of an early layer passes
// through the later ones, which are small at the start: less and less arrives. The three-layer model underfits: its
// training loss is higher, too. What helps is a gate (glu) or a nonlinearity on a single layer (silu_fc); residuals and
// identity starts bring a deeper model back to the level of a shallow one, not beyond.
// (ViT³ paper, section 3.)

#include "insights/example_tokens.hpp"
#include "tttlib/ttt/inner_train.hpp"

using namespace insights;

namespace {

const struct {
  const char *name, *model;
  double paper;
} models[] = {{"fc", "fc", 79.1},
              {"l2", "mlp_l2", 78.9},
              {"l3", "mlp_l3", 77.5},
              {"silu_fc", "silu_fc", 79.4},
              {"swiglu", "swiglu", 79.0},
              {"glu", "glu", 79.7},
              {"residual", "mlp_residual", 78.8},
              {"W2 + I", "mlp_identity", 79.1},
              {"W2 starts as I", "mlp_w2_identity", 79.0}};

/// Gradient norms layer by layer, and the inner loss reached, from initial weights of one deviation.
void look_at(StudyPage& page, const Tokens& t, double deviation, const std::string& whose) {
  const std::vector<std::int64_t> steps{0, 1, 2, 4, 8, 16, 32, 64};
  const double of_zero = mean(losses::mse(zeros_like(t.v), t.v)).item();
  ReportTable table{.caption = fmt::format("Initial weights of deviation {}, {}", deviation, whose),
                    .columns = {"inner model", "weights per head", "size of d/dW1", "size of d/dW2", "size of d/dW3", "error at the start",
                                "after 1 step", "after 64"},
                    .rows = {}};
  ReportChart chart{.title = fmt::format("Inner squared error, initial weights of deviation {}", deviation),
                    .x_label = "inner steps",
                    .y_label = "mse loss over that of answering 0"};
  for (const auto& m : models) {
    const InnerModel<double> model = inner::make<double>(m.model, {.width = t.k.size(3)});
    InnerState<double> state = initial_state(model.initial_weights(t.k.size(1), deviation), t.k.size(0));  // [B, H, …] each
    const Tensors<double> g = inner_gradient<double>(model, losses::mse, state.w, {t.k, t.v, {}});         // [B, H, …] each
    std::vector<std::string> row{m.name, fmt::format("{}", model.parameter_count())};
    const double heads = static_cast<double>(t.k.size(0) * t.k.size(1));
    for (std::size_t layer = 0; layer < 3; ++layer) row.push_back(layer < g.size() ? short_number(norm(g[layer]).item() / std::sqrt(heads)) : "–");
    ReportLine line{.name = m.name};
    std::int64_t done = 0;
    for (const std::int64_t n : steps) {
      if (n > 0) state = inner_update<double>(model, state, {t.k, t.v, {}}, {.loss = losses::mse, .epochs = n - done}).detach();
      done = n;
      line.x.push_back(static_cast<double>(n));
      const double error = inner_loss(model, losses::mse, state.w, t) / of_zero;
      line.y.push_back(error < 4 ? error : std::numeric_limits<double>::quiet_NaN());  // larger ones never come back
    }
    for (const std::size_t at : {std::size_t(0), std::size_t(1), steps.size() - 1})
      row.push_back(std::isfinite(line.y[at]) ? fmt::format("{:.3f}", line.y[at]) : "diverged");
    table.rows.push_back(row);
    chart.lines.push_back(line);
  }
  page.table(table);
  page.chart(chart);
}

void mechanism(StudyPage& page) {
  const Tokens t = example_tokens(4, 2, 8, 32);  // [4, 2, 64, 32]
  page.paragraph(
      "Untrained inner models learn the keys and values of 4 images, with the squared error and rate 1. Gradients: their norm per head at the "
      "start. Errors are relative to that of answering 0.");
  look_at(page, t, 0.02, "as the reference starts");
  look_at(page, t, start_deviation, "as the experiment below starts");
  page.paragraph(
      "Every further factor of small weights between a weight and the loss makes its gradient smaller: from the reference's start l3 gets a small "
      "part of what l2 gets, and fc far more than both; after one step l3 and swiglu are where they were. An identity in the path (W2 + I, W2 "
      "starts as I) gives W1 the gradient that it has in silu_fc. glu starts no better than l2: what it has over l2 comes with outer training. "
      "From the larger start all of them move.");
}

}  // namespace

int main(int argc, char** argv) {
  Study study{.name = "insight_5",
              .title = "Insight 5: a deeper inner model is harder to train",
              .lesson =
                  "The inner model has one step to learn in, and gradients shrink with every factor of small weights between a weight and the "
                  "loss. Three layers underfit; a gate does best, and residuals or identities only mend what depth breaks.",
              .column = "inner model"};
  for (const auto& m : models) study.rows.push_back({.name = m.name, .mixer = mixer(m.model), .paper = m.paper});
  study.claims = {{"glu", "l2"}, {"glu", "fc"},     {"silu_fc", "fc"}, {"fc", "l3"},
                  {"l2", "l3"},  {"glu", "swiglu"}, {"silu_fc", "l2"}, {"W2 + I", "residual"}};
  study.mechanism = mechanism;
  study.remark = "A model that underfits has a higher training loss, not only a lower accuracy: compare the columns for l2 and l3.";
  return run_study(argc, argv, study);
}
