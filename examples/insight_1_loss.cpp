// Insight 1: the inner loss must let the values speak.
//
// A TTT layer trains its inner model to map keys to values, and the outer network learns by differentiating through that
// training. The values v = x·W_V enter the inner gradient ∂L/∂W only through the loss, so whatever W_V can learn comes
// through the mixed second derivative ∂²L/∂V̂∂V. The absolute error has the same slope ±1 wherever the target stands: its
// mixed derivative is zero, W_V gets no gradient at all, and it stays what it was at random. smooth_l1 shares that fate
// for every entry whose error is above 1. (ViT³ paper, section 3.2 and Table 1.)
//
//   insight_1_loss --quick              a look at it
//   insight_1_loss --data cifar-10-batches-bin

#include "insights/example_tokens.hpp"
#include "tttlib/ttt/inner_train.hpp"
#include "tttlib/ttt/mixed_derivative.hpp"

using namespace insights;

namespace {

const std::vector<std::string> loss_names{"dot", "mse", "rmse", "mae", "smooth_l1"};

/// The outer gradient with respect to the three projections, and the share of values without a signal, for each loss.
void mechanism(StudyPage& page) {
  constexpr std::int64_t B = 4, H = 2, d = 16, C = H * d, side = 8;
  const InnerModel<double> model = inner::mlp<double>(d, d);
  const Tensor<double> x = example_features(B, side, C);                                                   // [B, N, C]
  const Tensors<double> projections{example_projection(C), example_projection(C), example_projection(C)};  // W_Q, W_K, W_V: [C, C]
  const Tensors<double> w0 = model.initial_weights(H, start_deviation);                                    // [H, d, d] each
  const Tensor<double> target = randn<double>({B, H, side * side, d});                                     // [B, H, N, d]

  page.paragraph(
      "One layer, one inner step, one outer loss (the squared distance of the layer's output from random targets), differentiated with respect to "
      "the projections that make queries, keys and values. All in double precision.");
  ReportTable table{.caption = "Outer gradient through one inner step",
                    .columns = {"inner loss", "size of d/dW_Q", "size of d/dW_K", "size of d/dW_V", "W_V learns", "values without a signal, %"},
                    .rows = {}};
  for (const std::string& name : loss_names) {
    const InnerLoss<double> loss = losses::find<double>(name);
    const auto outer = [&](const Tensors<double>& w) {
      const Tensor<double> q = project(x, w[0], H), k = project(x, w[1], H), v = project(x, w[2], H);  // [B, H, N, d]
      return mean(square(sub(model(q, inner_train(model, w0, k, v, {.loss = loss})), target)));        // []
    };
    const Tensors<double> g = grad(outer)(projections);                                         // 3 × [C, C]
    const Tensor<double> k = project(x, projections[1], H), v = project(x, projections[2], H);  // [B, H, N, d]
    const MixedDerivative mixed = mixed_second_derivative<double>(loss, model(k, expand_per_image(w0, B)), v);
    const double values = norm(g[2]).item();
    table.rows.push_back({name, short_number(norm(g[0]).item()), short_number(norm(g[1]).item()), short_number(values),
                          values == 0 ? "no: exactly 0" : "yes", fmt::format("{:.1f}", 100 * mixed.dead_share)});
  }
  page.table(table);

  ReportChart chart{.title = "Values without a signal",
                    .x_label = "deviation of the values",
                    .y_label = "share with a zero mixed derivative, %",
                    .log_x = true,
                    .caption = "The larger the values, the more of them lie beyond 1 from the prediction, where smooth_l1 is the absolute error."};
  const Tensor<double> k = project(x, projections[1], H), v = project(x, projections[2], H);  // [B, H, N, d]
  const Tensor<double> prediction = model(k, expand_per_image(w0, B));                        // [B, H, N, d]
  const double deviation = std::sqrt(mean(square(v)).item());
  for (const std::string name : {"mse", "smooth_l1", "mae"}) {
    ReportLine line{.name = name};
    for (const double size : {0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0}) {
      line.x.push_back(size);
      line.y.push_back(100 * mixed_second_derivative<double>(losses::find<double>(name), prediction, mul(v, size / deviation)).dead_share);
    }
    chart.lines.push_back(line);
  }
  page.chart(chart);
}

}  // namespace

int main(int argc, char** argv) {
  Study study{.name = "insight_1",
              .title = "Insight 1: the inner loss must let the values speak",
              .lesson =
                  "The value projection learns only through the mixed second derivative of the inner loss. The absolute error has none, so its "
                  "value projection stays random; smooth_l1 loses every entry whose error is above 1.",
              .column = "inner loss"};
  const double paper[] = {78.9, 79.2, 78.8, 76.5, 78.1};
  for (std::size_t i = 0; i < loss_names.size(); ++i)
    study.rows.push_back({.name = loss_names[i], .mixer = mixer("mlp_l2", {.loss = losses::find<float>(loss_names[i])}), .paper = paper[i]});
  study.claims = {{"dot", "mae"}, {"mse", "mae"}, {"rmse", "mae"}, {"smooth_l1", "mae"}, {"mse", "smooth_l1"}, {"dot", "smooth_l1"}, {"mse", "dot"}};
  study.mechanism = mechanism;
  return run_study(argc, argv, study);
}
