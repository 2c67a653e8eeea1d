// Insight 3: a rate of 1, and no need to learn it.
//
// The inner step is one move of the weights by η times the gradient. With a small η the model that answers is hardly
// another one than W0, the same for every image; with a large one the step overshoots and training on top of it breaks.
// With the factor 1/(n√d) in the loss, η = 1 is a good size whatever the number of tokens, and a rate per token and head
// that the network learns ("dynamic") brings nothing. (ViT³ paper, section 3.)

#include "insights/example_tokens.hpp"
#include "tttlib/ttt/inner_train.hpp"

using namespace insights;

namespace {

/// How far the weights move, and what the inner loss is afterwards, against the rate.
void mechanism(StudyPage& page) {
  constexpr std::int64_t B = 4, H = 2, d = 32, side = 8;
  const InnerModel<double> model = inner::mlp<double>(d, d);
  const Tokens t = example_tokens(B, H, side, d);                                             // [B, H, N, d]
  const Tensors<double> w0 = expand_per_image(model.initial_weights(H, start_deviation), B);  // [B, H, d, d] each
  page.paragraph(
      "One layer before any outer training. Update: the norm of W* − W0 over the norm of W0. Inner loss: mean over images and heads; the dot loss "
      "has no floor, it may fall for ever, so the squared error tells when a step is too long.");

  ReportTable table{.caption = "One full-batch step",
                    .columns = {"rate", "update, dot", "dot loss before", "after", "update, mse", "mse loss before", "after"},
                    .rows = {}};
  ReportChart updates{
      .title = "Size of the inner update", .x_label = "rate η", .y_label = "norm of W* − W0 over norm of W0", .log_x = true, .log_y = true};
  ReportChart errors{.title = "Inner squared error after training",
                     .x_label = "rate η",
                     .y_label = "mse loss over its value before",
                     .log_x = true,
                     .log_y = true,
                     .caption = "Below 1 the inner model has learned something of this image. Where a line turns up, the step overshoots; "
                                "where it ends, the loss has grown more than a hundredfold."};
  const std::vector<double> rates{0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100};
  const auto start = [&](const InnerLoss<double>& loss) { return inner_loss(model, loss, w0, t); };
  const auto trained = [&](const InnerLoss<double>& loss, double rate, std::int64_t epochs) {
    return inner_update<double>(model, {w0, {}, w0}, {t.k, t.v, {}}, {.loss = loss, .rate = rate, .epochs = epochs}).w;
  };
  const auto update = [&](const Tensors<double>& w) {
    Tensors<double> difference;
    for (std::size_t i = 0; i < w.size(); ++i) difference.push_back(sub(w[i], w0[i]));  // [B, H, d, d]
    return norm_of(difference) / norm_of(w0);
  };
  ReportLine dot_size{.name = "dot"}, mse_size{.name = "mse"};
  for (const double rate : rates) {
    const Tensors<double> by_dot = trained(losses::dot, rate, 1), by_mse = trained(losses::mse, rate, 1);  // [B, H, d, d] each
    dot_size.x.push_back(rate), dot_size.y.push_back(update(by_dot));
    mse_size.x.push_back(rate), mse_size.y.push_back(update(by_mse));
    if (rate <= 10)
      table.rows.push_back({fmt::format("{}", rate), short_number(update(by_dot)), short_number(start(losses::dot)),
                            short_number(inner_loss(model, losses::dot, by_dot, t)), short_number(update(by_mse)), short_number(start(losses::mse)),
                            short_number(inner_loss(model, losses::mse, by_mse, t))});
  }
  page.table(table);
  updates.lines = {dot_size, mse_size};
  for (const std::int64_t epochs : {1, 2, 4}) {
    ReportLine line{.name = fmt::format("{} {}", epochs, epochs == 1 ? "step" : "steps")};
    for (const double rate : rates) {
      const double after = inner_loss(model, losses::mse, trained(losses::mse, rate, epochs), t) / start(losses::mse);
      line.x.push_back(rate);
      line.y.push_back(after < 100 ? after : std::numeric_limits<double>::quiet_NaN());
    }
    errors.lines.push_back(line);
  }
  page.chart(updates);
  page.chart(errors);
}

}  // namespace

int main(int argc, char** argv) {
  Study study{.name = "insight_3",
              .title = "Insight 3: a rate of 1, and no need to learn it",
              .lesson =
                  "A small inner rate leaves every image with nearly the same weights, a large one overshoots and breaks the outer training. The "
                  "loss's factor makes 1 a good size; a learned rate per token brings nothing.",
              .column = "inner rate"};
  const auto rate = [](double value, bool dynamic = false) {
    InnerOptions<float> options;
    options.rate = value;
    InnerLayerOptions layer;
    layer.dynamic_rate = dynamic;
    return mixer("mlp_l2", options, layer);
  };
  const struct {
    double rate, paper;
    const char* note;
  } paper[] = {{0.1, 77.5, ""}, {0.2, 78.1, ""}, {0.5, 78.7, ""}, {1, 78.9, ""}, {2, 78.9, ""}, {5, 76.7, "diverged"}, {10, 76.9, "diverged"}};
  for (const auto& p : paper)
    study.rows.push_back({.name = fmt::format("{:.1f}", p.rate), .mixer = rate(p.rate), .paper = p.paper, .paper_note = p.note, .x = p.rate});
  study.rows.push_back({.name = "dynamic", .mixer = rate(1, true), .paper = 78.7});
  study.claims = {{"1.0", "0.1"}, {"1.0", "0.2"}, {"0.5", "0.1"}, {"1.0", "0.5"}, {"1.0", "5.0"}, {"1.0", "10.0"}, {"1.0", "dynamic"}};
  study.axis = "inner rate η";
  study.log_axis = true;
  study.mechanism = mechanism;
  return run_study(argc, argv, study);
}
