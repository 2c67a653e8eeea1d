// TTT-Linear and TTT-MLP (arXiv 2407.04620), LaCT (arXiv 2505.23884): numbers of a reference in plain Python loops, which is not part
// of this repository; its inputs are sin(a·i + b·j + p)·s with the constants below. Values were printed to nine digits and outer
// gradients are central differences with eleven decimals, so 1e-8 and 1e-5 relative are what they can show.
#include <cmath>

#include "catch.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_scan.hpp"

using namespace ttt;

namespace {

/// [rows, columns] of s·sin(a·i + b·j + p).
Tensor<double> wave(std::int64_t rows, std::int64_t columns, double a, double b, double p, double s = 1) {
  Tensor<double> y(Shape{rows, columns});
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j)
      y.data()[i * columns + j] = s * std::sin(a * static_cast<double>(i) + b * static_cast<double>(j) + p);
  return y;
}
/// [1, n] of f(i).
template <class F>
Tensor<double> row(std::int64_t n, const F& f) {
  Tensor<double> y(Shape{1, n});
  for (std::int64_t i = 0; i < n; ++i) y.data()[i] = f(static_cast<double>(i));
  return y;
}
/// One image, one head: [n, d] -> [1, 1, n, d].
Tensor<double> tokens(const Tensor<double>& x) { return reshape(x, {1, 1, x.size(0), x.size(1)}); }
/// One head: [m, n] -> [1, m, n].
Tensor<double> head(const Tensor<double>& w) { return unsqueeze(w, 0); }

/// Σ sin(n + 2i)·out[n, i]
Tensor<double> outer_loss(const Tensor<double>& out) {
  const std::int64_t n = out.size(-2), d = out.size(-1);
  Tensor<double> weights(Shape{n, d});
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < d; ++j) weights.data()[i * d + j] = std::sin(static_cast<double>(i + 2 * j));
  return sum(mul(out, weights));
}

/// The first numbers of a row of the last two axes.
void check_values(const Tensor<double>& x, std::int64_t at_row, const std::vector<double>& expected) {
  const std::vector<double> all = x.to_vector();
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(std::abs(all[static_cast<std::size_t>(at_row * x.size(-1)) + i] - expected[i]) < 1e-8);
}
void check_gradient(const Tensor<double>& x, const std::vector<double>& expected) {
  const std::vector<double> all = x.to_vector();
  double size = 0, difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    size += expected[i] * expected[i];
    difference += (all[i] - expected[i]) * (all[i] - expected[i]);
  }
  CHECK(std::sqrt(difference) < 1e-5 * std::sqrt(size));
}

const Tensor<double> token_step = tensor<double>({1, 1.0 / 2, 1.0 / 3, 1.0 / 4});
/// Gate of token i over the width 4: σ(sin 0.3i)
Tensor<double> gates() {
  return row(8, [](double i) { return 1 / (1 + std::exp(-std::sin(0.3 * i))); });
}
InnerOptions<double> ttt_lm(const Tensor<double>& gate, Schedule::Causal form) {
  InnerOptions<double> options{.loss = losses::l2_sum, .rate = 0.25};
  options.token_rates = {reshape(gate, {1, 1, 8})};
  options.position_rate = token_step;
  options.schedule = {.chunk = 4, .read = Schedule::Read::causal, .causal = form};
  return options;
}
const Tensor<double> gamma_row = row(4, [](double i) { return 1 + 0.1 * std::cos(i); });
const Tensor<double> beta_row = row(4, [](double i) { return 0.05 * std::sin(2 * i); });

}  // namespace

TEST_CASE("family: TTT-Linear, two causal chunks, values and outer gradients") {
  const auto form = GENERATE(Schedule::Causal::dual, Schedule::Causal::sequential);
  const InnerModel<double> model = inner::ttt_linear<double>(4);
  const Tensor<double> q = wave(8, 4, .7, 1.3, .1), k = wave(8, 4, .5, 1.1, .4), v = wave(8, 4, .9, .6, .8);
  const Tensor<double> w1 = wave(4, 4, 1.7, .9, .2, .5), b1 = row(4, [](double i) { return 0.1 * std::sin(i + 0.5); });
  const auto run = [&](const Tensors<double>& x) {  // w1, k, v, gate, gamma
    return inner_scan<double>(model, Tensors<double>{head(x[0]), head(b1), head(x[4]), head(beta_row)}, tokens(q), tokens(x[1]), tokens(x[2]),
                              ttt_lm(x[3], form));
  };
  const Tensors<double> xs{w1, k, v, gates(), gamma_row};
  const InnerResult<double> result = run(xs);
  check_values(result.output, 0, {1.797988031, 1.253724345, -0.330759014, -1.675008580});
  check_values(result.output, 3, {-0.180306899, 0.534434696, 0.097558353, -1.167855510});
  check_values(result.output, 4, {-1.433676150, -1.086627678, 0.273972130, 1.116678120});
  check_values(result.output, 7, {-0.575599666, -0.902005016, 0.051190145, 1.823621028});
  check_values(result.state.w[0], 0, {-0.005629773, 0.351489669, 0.568825416, 0.204526411});
  const auto [loss, g] = value_and_grad([&](const Tensors<double>& x) { return outer_loss(run(x).output); })(xs);
  CHECK(std::abs(loss.item() - -1.817184746) < 1e-8);
  check_gradient(g[0], {2.73904927488, -8.19398923498, 3.20250868716, 2.2524312738});
  check_gradient(g[1], {0.13718755244, -0.51100448126, 0.93208105596, -0.67558117995});
  check_gradient(g[2], {-0.09903580153, 0.49888496468, -0.96387989278, 0.56083142069});
  check_gradient(g[3], {0.0474008232, 0.33809951762, 0.25621535682, 0.28694739302});
  check_gradient(g[4], {-1.434563123, 5.59973877917, 1.02207207094, -2.84819189278});
}

TEST_CASE("family: TTT-MLP, two causal chunks, values and outer gradients") {
  const auto form = GENERATE(Schedule::Causal::dual, Schedule::Causal::sequential);
  const InnerModel<double> model = inner::ttt_mlp<double>(4, 8);
  const Tensor<double> q = wave(8, 4, .7, 1.3, .1), k = wave(8, 4, .5, 1.1, .4), v = wave(8, 4, .9, .6, .8);
  const Tensor<double> w1 = wave(4, 8, 1.7, .9, .2, .5), b1 = row(8, [](double i) { return 0.1 * std::sin(i + 0.5); });
  const Tensor<double> w2 = wave(8, 4, .8, 1.9, .3, .5), b2 = row(4, [](double i) { return 0.1 * std::cos(i); });
  const auto run = [&](const Tensors<double>& x) {  // w1, w2, k
    return inner_scan<double>(model, Tensors<double>{head(x[0]), head(b1), head(x[1]), head(b2), head(gamma_row), head(beta_row)}, tokens(q),
                              tokens(x[2]), tokens(v), ttt_lm(gates(), form));
  };
  const Tensors<double> xs{w1, w2, k};
  const Tensor<double> out = run(xs).output;
  check_values(out, 0, {-0.274284957, 2.709401226, 0.298482105, -1.813525984});
  check_values(out, 3, {2.016722475, -0.478817573, -2.516004793, 0.355792002});
  check_values(out, 4, {0.644997112, -1.867276827, -1.559645684, 1.805192423});
  check_values(out, 7, {-2.025649885, -0.337946533, 2.536281642, 0.192885957});
  const auto [loss, g] = value_and_grad([&](const Tensors<double>& x) { return outer_loss(run(x).output); })(xs);
  CHECK(std::abs(loss.item() - -9.160168526) < 1e-8);
  check_gradient(g[0], {-0.90960666617, 2.27085823337, 3.69627537307, 1.7179389002});
  check_gradient(g[1], {1.90525591561, -1.94581646351, -2.89249375793, 2.93305430592});
  check_gradient(g[2], {-0.04491550696, -0.18946482863, 0.61922471231, -0.29278803053});
}

TEST_CASE("family: one full-batch step of the ViT3 head and of the T5 SwiGLU") {
  const Tensor<double> q = tokens(wave(6, 4, .7, 1.3, .1));
  const Tensor<double> k = wave(6, 4, .5, 1.1, .4), v = wave(6, 4, .9, .6, .8);
  const Tensor<double> w1 = wave(4, 4, 1.7, .9, .2, .3), w2 = wave(4, 4, .8, 1.9, .3, .3), w3 = wave(4, 4, 1.1, .5, .7, .3);
  SECTION("ViT3: scale 1/3, column clip") {
    const InnerModel<double> model = inner::glu<double>(4);
    const auto run = [&](const Tensors<double>& x) {
      return inner_scan<double>(model, Tensors<double>{head(x[0]), head(x[1])}, q, tokens(x[2]), tokens(x[3]), {.loss = losses::block_dot, .clip = true}).output;
    };
    const Tensors<double> xs{w1, w2, k, v};
    check_values(run(xs), 0, {0.088165838, 0.005480743, 0.070696132, -0.017568275});
    const auto [loss, g] = value_and_grad([&](const Tensors<double>& x) { return outer_loss(run(x)); })(xs);
    CHECK(std::abs(loss.item() - -0.115340910) < 1e-8);
    check_gradient(g[0], {-0.02383142345, -0.29506981828, 0.16272883813, -0.24993432283});
    check_gradient(g[1], {0.33870388477, -0.40818173872, 0.16234390807, -0.00596843948});
    check_gradient(g[2], {-0.00107446389, -0.00300694079, -0.00340997174, -0.00396960318});
    check_gradient(g[3], {-0.00114624455, 0.00201898327, 0.00193159779, -0.00695950077});
  }
  SECTION("T5: (silu(xW1) * xW2) W3, scale d^-1/2, no clip: our swiglu with its first two weights exchanged") {
    const InnerModel<double> model = inner::swiglu<double>(4, 4);
    const auto run = [&](const Tensors<double>& x) {
      return inner_scan<double>(model, Tensors<double>{head(x[1]), head(x[0]), head(x[2])}, q, tokens(x[3]), tokens(x[4]), {}).output;
    };
    const Tensors<double> xs{w1, w2, w3, k, v};
    check_values(run(xs), 0, {0.029080885, 0.028203768, 0.020221716, 0.007091202});
    const auto [loss, g] = value_and_grad([&](const Tensors<double>& x) { return outer_loss(run(x)); })(xs);
    CHECK(std::abs(loss.item() - -0.014031081) < 1e-8);
    check_gradient(g[0], {-0.03458639088, 0.01668776368, -0.02268901534, 0.02414175077});
    check_gradient(g[1], {0.06650790879, -0.00344207275, -0.06476942, 0.01402142096});
    check_gradient(g[2], {-0.11397472786, 0.17833228929, -0.04630160979, -0.15744966557});
    check_gradient(g[3], {0.00163040981, -0.00164822732, -0.00294935413, -0.0004957058});
    check_gradient(g[4], {-0.00145606896, 0.00139030046, -0.00031671248, -0.00253602998});
  }
}

TEST_CASE("family: LaCT, plain and with Newton-Schulz, row norm, rates of their own for each matrix") {
  // y = W1[silu(W0 x) * (W2 x)] with [out, in] matrices is our swiglu with w1 = W2', w2 = W0', w3 = W1'.
  const InnerModel<double> model = inner::swiglu<double>(4, 4);
  const Tensor<double> q = tokens(wave(6, 4, .7, 1.3, .1)), v = tokens(wave(6, 4, .9, .6, .8)), k = wave(6, 4, .5, 1.1, .4);
  const Tensor<double> lw0 = wave(4, 4, .7, 1.1, .1, .6), lw1 = wave(4, 4, .9, .8, .2, .6), lw2 = wave(4, 4, 1.3, .4, .5, .6);
  InnerOptions<double> options{.loss = losses::dot_sum, .row_norm = true};
  for (const double rate : {0.3, 0.5, 0.4}) options.token_rates.push_back(full<double>({1, 1, 6}, rate));
  const auto run = [&](const Tensors<double>& x) {
    return inner_scan<double>(model, Tensors<double>{head(transpose(lw2)), head(transpose(x[0])), head(transpose(lw1))}, q, tokens(x[1]), v, options).output;
  };
  const Tensors<double> xs{lw0, k};
  const auto outer = value_and_grad([&](const Tensors<double>& x) { return outer_loss(run(x)); });
  SECTION("plain") {
    check_values(run(xs), 0, {0.628385378, 0.512080232, 0.076229991, -0.416946721});
    const auto [loss, g] = outer(xs);
    CHECK(std::abs(loss.item() - 1.072352153) < 1e-8);
    check_gradient(g[0], {-0.11144630586, -0.18826620817, -0.05220708881, 0.13820356881});
    check_gradient(g[1], {-0.54249000925, -0.43430307449, -0.14671533202, 0.10437953994});
  }
  SECTION("Muon, stepwise coefficients") {
    options.newton_schulz = NewtonSchulz::stepwise;
    check_values(run(xs), 0, {0.659466444, 0.614556426, 0.164058979, -0.385318798});
    const auto [loss, g] = outer(xs);
    CHECK(std::abs(loss.item() - 1.131975606) < 1e-8);
    check_gradient(g[0], {0.06413689779, -0.18800230375, -0.23876654225, -0.02112204138});
    check_gradient(g[1], {6.22893987662, -0.70834567417, 1.27704010541, 4.62718778315});
  }
}

TEST_CASE("family: Newton-Schulz with both sets of coefficients") {
  const Tensor<double> g = add(wave(4, 4, .7, 1.1, .1), eye<double>(4));
  const Tensor<double> constant = newton_schulz(g, NewtonSchulz::constant), stepwise = newton_schulz(g, NewtonSchulz::stepwise);
  check_values(constant, 0, {0.594122278, 0.263339638, 0.591642620, 0.406636482});
  check_values(stepwise, 0, {0.613961581, 0.281493908, 0.607427531, 0.403412606});
  const auto distance = [](const Tensor<double>& x) { return amax(abs(sub(matmul(x, transpose(x)), eye<double>(4)))).item(); };
  CHECK(distance(constant) == Approx(0.10806581407049398).epsilon(1e-9));
  CHECK(distance(stepwise) == Approx(0.0364271923189744).epsilon(1e-9));
  CHECK(amax(abs(sub(newton_schulz(g * 1e-3, NewtonSchulz::stepwise), stepwise))).item() < 3e-5);  // scale free
}
