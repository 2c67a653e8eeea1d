// Insight 5: a deeper inner model is harder to train, and has one step to do it.
//
// Depth adds capacity on paper, but the inner model is trained by a single step, and the gradient of an early layer passes
// through the later ones, which are small at the start: the lower layers hardly move. The three-layer model underfits: its
// training loss is higher, too. What helps is a gate (glu) or one layer with a nonlinearity (silu_fc), where every weight is
// one product away from the loss; residuals and identity starts bring a deep model back to the level of a shallow one.
// (ViT³ paper, section 3.6 and Table 5.)

#include "insights/example_tokens.hpp"
#include "tttlib/ttt/inner_train.hpp"

using namespace insights;

namespace {

const struct { const char *name, *model; double paper; } models[] = {
    {"fc", "fc", 79.1}, {"l2", "mlp_l2", 78.9}, {"l3", "mlp_l3", 77.5}, {"silu_fc", "silu_fc", 79.4}, {"swiglu", "swiglu", 79.0}, {"glu", "glu", 79.7},
    {"residual", "mlp_residual", 78.8}, {"W2 + I", "mlp_identity", 79.1}, {"W2 starts as I", "mlp_w2_identity", 79.0}};

/// Gradient norms layer by layer, and the inner loss reached.
void mechanism(StudyPage& page) {
  constexpr std::int64_t B = 4, H = 2, d = 32, side = 8;
  const Tokens t = example_tokens(B, H, side, d);  // [B, H, N, d]
  const std::vector<std::int64_t> steps{0, 1, 2, 4, 8, 16, 32, 64};
  const double of_zero = mean(losses::mse(zeros_like(t.v), t.v)).item();
  page.paragraph(fmt::format("Untrained inner models, all with weights of deviation {} (of the later layer unless it starts as I), on the keys and values of 4 images. Gradients: of the squared "
                             "error at the start. Errors are relative to that of answering 0; rate 1.", start_deviation));
  ReportTable table{.caption = "Gradients by layer and the error that is reached",
                    .columns = {"inner model", "weights per head", "size of d/dW1", "size of d/dW2", "size of d/dW3", "error at the start", "after 1 step", "after 64"}, .rows = {}};
  ReportChart chart{.title = "Inner squared error", .x_label = "inner steps", .y_label = "mse loss over that of answering 0"};
  for (const auto& m : models) {
    const InnerModel<double> model = inner::make<double>(m.model, {.width = d});
    InnerState<double> state = initial_state(model.initial_weights(H, start_deviation), B);                 // [B, H, …] each
    const Tensors<double> g = inner_gradient<double>(model, losses::mse, state.w, {t.k, t.v, {}});          // [B, H, …] each
    std::vector<std::string> row{m.name, fmt::format("{}", model.parameter_count())};
    for (std::size_t layer = 0; layer < 3; ++layer) row.push_back(layer < g.size() ? short_number(norm(g[layer]).item() / std::sqrt(double(B * H))) : "–");
    ReportLine line{.name = m.name};
    std::int64_t done = 0;
    for (const std::int64_t n : steps) {
      if (n > 0) state = inner_update<double>(model, state, {t.k, t.v, {}}, {.loss = losses::mse, .epochs = n - done}).detach();
      done = n;
      line.x.push_back(static_cast<double>(n));
      line.y.push_back(inner_loss(model, losses::mse, state.w, t) / of_zero);
    }
    for (const std::size_t at : {std::size_t(0), std::size_t(1), steps.size() - 1}) row.push_back(fmt::format("{:.3f}", line.y[at]));
    table.rows.push_back(row);
    chart.lines.push_back(line);
  }
  page.table(table);
  page.chart(chart);
}

}  // namespace

int main(int argc, char** argv) {
  Study study{.name = "insight_5",
              .title = "Insight 5: a deeper inner model is harder to train",
              .lesson = "The inner model has one step to learn in, and the gradients of its early layers pass through small later ones. Three layers underfit; a gate, whose weights are "
                        "all one product away from the loss, does best.",
              .column = "inner model"};
  for (const auto& m : models) study.rows.push_back({.name = m.name, .mixer = mixer(m.model), .paper = m.paper});
  study.claims = {{"glu", "l2"}, {"glu", "fc"}, {"silu_fc", "fc"}, {"fc", "l3"}, {"l2", "l3"}, {"glu", "swiglu"}, {"silu_fc", "l2"}, {"W2 + I", "residual"}};
  study.mechanism = mechanism;
  study.remark = "A model that underfits has a higher training loss, not only a lower accuracy: compare the columns for l2 and l3.";
  return run_study(argc, argv, study);
}
