// Insight 2: train on the whole image at once.
//
// Text has an order, and inner training goes through it in small batches. An image has none that matters: with one batch of
// all tokens the layer does not care how they are listed (it is permutation-equivariant), with two or more it does, and
// every batch is another step that waits for the one before. More epochs over the full batch keep the symmetry; they cost
// steps too, and too many of them at rate 1 diverge. (ViT³ paper, section 3.)

#include <chrono>

#include "insights/example_tokens.hpp"
#include "tttlib/ttt/inner_train.hpp"

using namespace insights;

namespace {

/// Seconds of the fastest of a few calls.
template <class F>
double seconds_of(const F& f) {
  double best = 1e9;
  for (int i = 0; i < 4; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

/// The output's change when tokens are listed in another order, and the cost, for batches and epochs.
void mechanism(StudyPage& page) {
  constexpr std::int64_t B = 4, H = 2, d = 32, side = 8, N = side * side;
  const InnerModel<double> model = inner::mlp<double>(d, d);
  const Tokens t = example_tokens(B, H, side, d);                        // [B, H, N, d]
  const Tensors<double> w0 = model.initial_weights(H, start_deviation);  // [H, d, d] each
  Tensor<std::int64_t> order(Shape{N});                                  // [N]: every 5th token, a permutation of 64
  for (std::int64_t n = 0; n < N; ++n) order.data()[n] = n * 5 % N;
  const auto shuffle = [&](const Tensor<double>& x) { return index_select(x, order, 2); };  // [B, H, N, d]

  page.paragraph(
      "The same tokens in two orders. If the order does not matter, the layer's outputs are the same ones in the other order. Changes below 1e-12 "
      "are rounding. Time: forward and backward of the layer's inner part, 4 images.");
  ReportTable table{
      .caption = "What the order of the tokens changes, and what a step costs",
      .columns = {"batches", "epochs", "steps", "largest change of the output, % of its largest value", "multiply-accumulates, M", "ms"},
      .rows = {}};
  ReportLine by_batches{.name = "more batches"}, by_epochs{.name = "more epochs of the full batch"};
  for (const auto& [batches, epochs] : std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {2, 1}, {3, 1}, {4, 1}, {1, 2}, {1, 3}, {1, 4}}) {
    InnerOptions<double> options{.rate = 1, .epochs = epochs, .batches = batches};
    const auto layer = [&](const Tensor<double>& q, const Tensor<double>& k, const Tensor<double>& v) {
      return model(q, inner_train(model, w0, k, v, options));  // [B, H, N, d]
    };
    const Tensor<double> plain = layer(t.q, t.k, t.v), listed = layer(shuffle(t.q), shuffle(t.k), shuffle(t.v));  // [B, H, N, d]
    const double change = amax(abs(sub(listed, shuffle(plain)))).item() / amax(abs(plain)).item();
    std::int64_t macs = 0;
    mac_counter() = &macs;
    layer(t.q, t.k, t.v);
    mac_counter() = nullptr;
    const double ms = 1000 * seconds_of([&] {
                        grad([&](const Tensors<double>& x) { return sum(square(layer(x[0], x[1], x[2]))); })(Tensors<double>{t.q, t.k, t.v});
                      });
    const double steps = static_cast<double>(batches * epochs);
    table.rows.push_back({fmt::format("{}", batches), fmt::format("{}", epochs), fmt::format("{}", batches * epochs),
                          change < 1e-12 ? fmt::format("{:.0e}", 100 * change) : fmt::format("{:.2f}", 100 * change),
                          fmt::format("{:.1f}", static_cast<double>(macs) / 1e6), fmt::format("{:.1f}", ms)});
    if (epochs == 1) by_batches.x.push_back(steps), by_batches.y.push_back(ms);
    if (batches == 1) by_epochs.x.push_back(steps), by_epochs.y.push_back(ms);
  }
  page.table(table);
  page.chart({.title = "Cost of a step",
              .x_label = "inner steps",
              .y_label = "ms, forward and backward",
              .lines = {by_batches, by_epochs},
              .caption = "Batches share the tokens, so their arithmetic adds up to one pass, but each step has its own small products and its own "
                         "update of the weights."});
}

}  // namespace

int main(int argc, char** argv) {
  Study study{.name = "insight_2",
              .title = "Insight 2: train on the whole image at once",
              .lesson =
                  "One batch of all tokens makes the layer blind to their order, as an image wants it, and is one step instead of several that "
                  "wait for each other. More epochs help a little, until they diverge.",
              .column = "inner batches and epochs"};
  const auto steps = [](std::int64_t batches, std::int64_t epochs) {
    InnerOptions<float> options;
    options.batches = batches;
    options.epochs = epochs;
    return mixer("mlp_l2", options);
  };
  study.rows = {{.name = "N", .mixer = steps(1, 1), .paper = 78.9, .paper_note = "1315 images/s"},
                {.name = "N/2", .mixer = steps(2, 1), .paper = 78.6},
                {.name = "N/3", .mixer = steps(3, 1), .paper = 78.3},
                {.name = "N/4", .mixer = steps(4, 1), .paper = 78.1, .paper_note = "1101 images/s"},
                {.name = "2 epochs", .mixer = steps(1, 2), .paper = 79.1, .paper_note = "971 images/s"},
                {.name = "3 epochs", .mixer = steps(1, 3), .paper = 79.2, .paper_note = "787 images/s"},
                {.name = "4 epochs", .mixer = steps(1, 4), .paper = 57.0, .paper_note = "diverged"}};
  study.claims = {{"N", "N/2"}, {"N", "N/3"}, {"N", "N/4"}, {"N/2", "N/4"}, {"2 epochs", "N"}, {"3 epochs", "N"}, {"N", "4 epochs"}};
  study.mechanism = mechanism;
  study.remark =
      "The paper's images/s are those of a GPU, for inference; ours are of training on one core. What they share is the direction: more inner "
      "steps, fewer images.";
  return run_study(argc, argv, study);
}
