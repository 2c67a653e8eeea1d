// Ops made of other ops: softmax, normalisation, losses, dropout.
#include <cmath>
#include <numeric>

#include "op_case.hpp"

namespace {
using namespace ops_test;
using Values = std::vector<double>;

Values softmax_of(Values v) {
  double s = 0;
  for (double& x : v) s += x = std::exp(x);
  for (double& x : v) x /= s;
  return v;
}
Values log_softmax_of(Values v) {
  const double top = *std::max_element(v.begin(), v.end());
  double s = 0;
  for (double x : v) s += std::exp(x - top);
  for (double& x : v) x = x - top - std::log(s);
  return v;
}
Values normalised(Values v) {
  const double n = static_cast<double>(v.size()), mean = std::accumulate(v.begin(), v.end(), 0.0) / n;
  double variance = 0;
  for (double x : v) variance += (x - mean) * (x - mean) / n;
  for (double& x : v) x = (x - mean) / std::sqrt(variance + 1e-5);
  return v;
}
/// y·w + b over the last axis, where w and b are x[1] and x[2] if there are any.
Array scaled(Array y, const Arrays& x) {
  if (x.size() == 3)
    for_each_index(y.shape,
                   [&](const Index& i) { y.at(i) = y.at(i) * x[1].at({i.back()}) + x[2].at({i.back()}); });
  return y;
}
Array channels_normalised(const Arrays& x) {  // batch norm: each channel over everything else
  const std::int64_t channels = x[0].shape.back();
  Array y = x[0];
  for (std::int64_t c = 0; c < channels; ++c) {
    Values v;
    for_each_index(y.shape, [&](const Index& i) {
      if (i.back() == c) v.push_back(x[0].at(i));
    });
    v = normalised(v);
    std::size_t next = 0;
    for_each_index(y.shape, [&](const Index& i) {
      if (i.back() == c) y.at(i) = v[next++];
    });
  }
  return scaled(y, x);
}
Array groups_normalised(const Arrays& x) {  // 2 groups
  const std::int64_t width = x[0].shape.back() / 2;
  Array y = x[0];
  for (std::int64_t image = 0; image < x[0].shape[0]; ++image)
    for (std::int64_t group = 0; group < 2; ++group) {
      const auto mine = [&](const Index& i) { return i[0] == image && i.back() / width == group; };
      Values v;
      for_each_index(y.shape, [&](const Index& i) {
        if (mine(i)) v.push_back(x[0].at(i));
      });
      v = normalised(v);
      std::size_t next = 0;
      for_each_index(y.shape, [&](const Index& i) {
        if (mine(i)) y.at(i) = v[next++];
      });
    }
  return scaled(y, x);
}

std::vector<OpCase> softmaxes() {
  const std::vector<Tensors<double>> inputs{{normal({2, 3, 4})},
                                            {strided(normal({2, 3, 4}))},
                                            {normal({1, 1, 1})},
                                            {normal({0, 3, 2})},
                                            {normal({2, 3, 70})}};
  return {
      op_case(
          "softmax", [](const auto& x) { return softmax(x[0]); }, along(-1, softmax_of), inputs, 3),
      op_case(
          "softmax_1", [](const auto& x) { return softmax(x[0], 1); }, along(1, softmax_of), inputs, 3),
      op_case(
          "log_softmax", [](const auto& x) { return log_softmax(x[0]); }, along(-1, log_softmax_of), inputs,
          3),
      op_case(
          "log_softmax_0", [](const auto& x) { return log_softmax(x[0], 0); }, along(0, log_softmax_of),
          {{normal({3, 2})}, {strided(normal({3, 2}))}}, 3),
  };
}
TTT_OP_TABLE("softmax", softmaxes)

/// q [rows, N, d], k and v [rows, M, d], whatever the leading axes are.
Array attention_of(const Arrays& x) {
  const std::int64_t N = x[0].shape[x[0].shape.size() - 2], d = x[0].shape.back(), M = x[1].shape[x[1].shape.size() - 2];
  Array o = x[0];
  const std::int64_t rows = d * N == 0 ? 0 : static_cast<std::int64_t>(o.values.size()) / (N * d);
  const auto at = [](const Array& a, std::int64_t i) { return a.values[static_cast<std::size_t>(i)]; };
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < N; ++i) {
      Values scores(static_cast<std::size_t>(M));
      for (std::int64_t j = 0; j < M; ++j)
        for (std::int64_t c = 0; c < d; ++c)
          scores[static_cast<std::size_t>(j)] += at(x[0], (r * N + i) * d + c) * at(x[1], (r * M + j) * d + c) / std::sqrt(double(d));
      const Values weights = softmax_of(scores);
      for (std::int64_t c = 0; c < d; ++c) {
        double sum = 0;
        for (std::int64_t j = 0; j < M; ++j) sum += weights[static_cast<std::size_t>(j)] * at(x[2], (r * M + j) * d + c);
        o.values[static_cast<std::size_t>((r * N + i) * d + c)] = sum;
      }
    }
  return o;
}
std::vector<OpCase> attentions() {
  const auto qkv = [](std::int64_t N, std::int64_t M, std::int64_t d) {
    return Tensors<double>{normal({2, 1, N, d}), normal({2, 1, M, d}), normal({2, 1, M, d})};
  };
  const auto op = [](const auto& x) { return attention(x[0], x[1], x[2]); };
  return {op_case("attention", op, attention_of,
                  {qkv(3, 3, 2), qkv(2, 5, 3), qkv(1, 1, 1), {strided(normal({1, 2, 3, 4})), strided(normal({1, 2, 2, 4})), normal({1, 2, 2, 4})}}),
          op_case("attention_of_rows", op, attention_of, {{normal({3, 2}), normal({4, 2}), normal({4, 2})}, {normal({2, 3, 2}), normal({2, 1, 2}), normal({2, 1, 2})}})};
}
TTT_OP_TABLE("attention", attentions)

/// x·wᵀ + b of rows
Array linear_of(const Array& x, const Array& w, const Array& b) {
  Shape shape = x.shape;
  shape[shape.size() - 1] = w.shape[0];
  return build(shape, [&](const Index& i) {
    double sum = b.at({i.back()});
    Index from = i;
    for (std::int64_t c = 0; c < w.shape[1]; ++c) {
      from.back() = c;
      sum += x.at(from) * w.at({i.back(), c});
    }
    return sum;
  });
}
std::vector<OpCase> mlps() {
  const auto layers = [](const Tensor<double>& x, std::int64_t hidden, std::int64_t out) {
    return Tensors<double>{x, normal({hidden, x.size(-1)}), normal({hidden}), normal({out, hidden}), normal({out})};
  };
  const auto reference = [](const Arrays& x) {
    Array h = linear_of(x[0], x[1], x[2]);
    for (double& value : h.values) value *= 0.5 * std::erfc(-value / std::sqrt(2.0));
    return linear_of(h, x[3], x[4]);
  };
  Tensors<double> turned = layers(strided(normal({2, 3, 4})), 5, 3);
  turned[1] = strided(turned[1]), turned[3] = strided(turned[3]);
  return {op_case("mlp", [](const auto& x) { return mlp(x[0], x[1], x[2], x[3], x[4]); }, reference,
                  {layers(normal({2, 3, 4}), 5, 4), layers(normal({19, 2}), 3, 1), layers(normal({4}), 3, 2), layers(normal({0, 4}), 3, 2), turned}, 3)};
}
TTT_OP_TABLE("mlp", mlps)

TEST_CASE("A fused MLP is its layers one by one, and its bits do not depend on threads") {
  const std::int64_t rows = GENERATE(197, 601);  // few rows are multiplied in another way than many
  const auto values_of = [rows](bool together, int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    manual_seed(3);
    Tensors<float> xs{randn<float>({rows, 48}), randn<float>({301, 48}), randn<float>({301}), randn<float>({30, 301}), randn<float>({30})};
    for (Tensor<float>& x : xs) x.requires_grad();
    const Tensor<float> y = together ? mlp(xs[0], xs[1], xs[2], xs[3], xs[4]) : linear(gelu(linear(xs[0], xs[1], xs[2])), xs[3], xs[4]);  // [rows, 30]
    y.backward(randn<float>({rows, 30}));
    std::vector<std::vector<float>> values{y.to_vector()};
    for (const Tensor<float>& x : xs) values.push_back(x.grad().to_vector());
    set_num_threads(before);
    return values;
  };
  const auto composed = values_of(false, 1), fused = values_of(true, 1);
  CHECK((fused[0] == composed[0]));
  for (std::size_t i = 1; i < fused.size(); ++i) {
    double worst = 0, size = 0;
    for (std::size_t j = 0; j < fused[i].size(); ++j) {
      worst = std::max(worst, std::abs(double(fused[i][j]) - double(composed[i][j])));
      size = std::max(size, std::abs(double(composed[i][j])));
    }
    INFO("cotangent of input " << i - 1);
    CHECK(worst <= 1e-6 * size);
  }
  for (const int threads : {2, 3}) CHECK((values_of(true, threads) == fused));
}

TEST_CASE("A fused MLP of operands rounded to bf16 is its layers one by one, with and without gradients to come") {
  const std::int64_t rows = GENERATE(3, 197, 513, 601);
  const MatmulPrecisionGuard guard(MatmulPrecision::bfloat16);
  const int before = num_threads();
  manual_seed(3);
  Tensors<float> xs{randn<float>({rows, 48}), randn<float>({301, 48}), randn<float>({301}), randn<float>({30, 301}), randn<float>({30})};
  const std::vector<float> composed = linear(gelu(linear(xs[0], xs[1], xs[2])), xs[3], xs[4]).to_vector();
  for (const int threads : {1, 2, 3})
    for (const bool tracked : {false, true}) {
      INFO(rows << " rows, " << threads << " threads, tracked " << tracked);
      set_num_threads(threads);
      xs[1].requires_grad(tracked);
      CHECK((mlp(xs[0], xs[1], xs[2], xs[3], xs[4]).to_vector() == composed));
    }
  set_num_threads(before);
}

TEST_CASE("An MLP whose widths differ names the layer's op") {
  const auto z = [](const Shape& s) { return zeros<float>(s); };
  CHECK_THROWS_AS(mlp(z({2, 3}), z({4, 5}), z({4}), z({3, 4}), z({3})), ShapeError);
  CHECK_THROWS_AS(mlp(z({2, 3}), z({4, 3}), z({4}), z({3, 5}), z({3})), ShapeError);
  CHECK_THROWS_AS(mlp(z({2, 3}), z({4, 3}), z({5}), z({3, 4}), z({3})), ShapeError);
}

std::vector<OpCase> norms() {
  const auto affine = [](const Shape& s) {
    return Tensors<double>{normal(s), normal({s.back()}), normal({s.back()})};
  };
  const auto strided_affine = [](const Shape& s) {
    return Tensors<double>{strided(normal(s)), strided(normal({s.back()})), normal({s.back()})};
  };
  const auto layer = [](const Arrays& x) { return scaled(along(-1, normalised)(x), x); };
  return {
      op_case(
          "layer_norm", [](const auto& x) { return layer_norm(x[0], x[1], x[2]); }, layer,
          {affine({2, 3, 8}), strided_affine({3, 5}), affine({0, 4}), affine({70, 3})}, 3, 1e-5, 2, 1),
      op_case(
          "layer_norm_plain", [](const auto& x) { return layer_norm(x[0]); }, layer,
          {{normal({3, 6})}, {strided(normal({2, 3, 5}))}}, 3, 1e-5, 2, 1),
      op_case(
          "layer_norm_weight", [](const auto& x) { return layer_norm(x[0], x[1]); },
          [](const Arrays& x) {
            Array y = along(-1, normalised)({x[0]});
            for_each_index(y.shape, [&](const Index& i) { y.at(i) *= x[1].at({i.back()}); });
            return y;
          },
          {{normal({3, 6}), normal({6})}}),
      op_case(
          "batch_norm",
          [](const auto& x) {
            auto none = std::decay_t<decltype(x[0])>();
            return batch_norm(x[0], none, none, x[1], x[2]);
          },
          channels_normalised, {affine({2, 3, 2, 4}), strided_affine({5, 3}), affine({4, 1})}, 3, 1e-5, 4),
      op_case(
          "batch_norm_eval",
          [](const auto& x) {
            auto mean = x[1], variance = square(x[2]);
            return batch_norm(x[0], mean, variance, {}, {}, {.training = false});
          },
          [](const Arrays& x) {
            return build(x[0].shape, [&](const Index& i) {
              return (x[0].at(i) - x[1].at({i.back()})) /
                     std::sqrt(x[2].at({i.back()}) * x[2].at({i.back()}) + 1e-5);
            });
          },
          {{normal({2, 3, 4}), normal({4}), off_zero({4})}, {normal({0, 4}), normal({4}), off_zero({4})}}, 2, 1e-5, 4),
      op_case(
          "group_norm", [](const auto& x) { return group_norm(x[0], 2, x[1], x[2]); }, groups_normalised,
          {affine({2, 3, 2, 4}), strided_affine({2, 3, 6}), affine({3, 4}), affine({0, 3, 4})}, 2, 1e-5, 2, 1),
  };
}
TTT_OP_TABLE("norms", norms)

TEST_CASE("ops: batch_norm keeps running statistics, the variance unbiased") {
  auto mean = zeros<double>({1}), variance = ones<double>({1});
  const auto x = from_data<double>({1, 2, 3, 6}, {4, 1});
  batch_norm(x, mean, variance, {}, {}, {.momentum = 0.25});
  CHECK(mean.item() == Approx(0.25 * 3));
  CHECK(variance.item() == Approx(0.75 + 0.25 * 14 / 3));  // Σ(x − 3)² = 14 over n − 1
  auto leaf = from_data<double>({1, 2, 3, 6}, {4, 1});
  leaf.requires_grad();
  batch_norm(leaf, mean, variance);
  CHECK_FALSE(mean.is_tracked());
}

const std::vector<std::int64_t> label_values{2, 0, 1, 1, 2, 2};
template <class T>
Tensor<std::int64_t> labels_for(const Tensor<T>& logits) {
  const Shape rows(logits.shape().begin(), logits.shape().end() - 1);
  return from_data(std::vector<std::int64_t>(label_values.begin(), label_values.begin() + numel(rows)), rows,
                   logits.device());
}
/// −Σ t' log p with t' = (1 − smoothing)·t + smoothing/C, per row.
double naive_cross_entropy(const Values& logits, const Values& target, double smoothing) {
  const Values log_p = log_softmax_of(logits);
  double s = 0;
  for (std::size_t c = 0; c < log_p.size(); ++c)
    s -= (target[c] * (1 - smoothing) + smoothing / static_cast<double>(log_p.size())) * log_p[c];
  return s;
}
Array naive_rows(const Arrays& x, double smoothing, bool soft) {
  Shape rows = x[0].shape;
  const std::int64_t classes = rows.back();
  rows.erase(rows.size() - 1);
  std::size_t next = 0;
  return build(rows, [&](Index i) {
    Values logits, target;
    i.push_back(0);
    const std::int64_t label = soft ? 0 : label_values[next++];
    for (i.back() = 0; i.back() < classes; ++i.back()) {
      logits.push_back(x[0].at(i));
      target.push_back(soft ? x[1].at(i) : i.back() == label ? 1.0 : 0.0);
    }
    return naive_cross_entropy(logits, target, smoothing);
  });
}
Array averaged(const Array& rows) {
  Array y(Shape{});
  y.values[0] =
      std::accumulate(rows.values.begin(), rows.values.end(), 0.0) / static_cast<double>(rows.values.size());
  return y;
}

std::vector<OpCase> losses() {
  const auto two = [](const Shape& s) { return Tensors<double>{normal(s), normal(s)}; };
  const std::vector<Tensors<double>> pairs{
      two({}), two({2, 3}), {strided(normal({2, 3})), normal({2, 3})}, two({1, 4})};
  const auto pairwise = [](double (*f)(double, double)) {
    return [f](const Arrays& x) { return averaged(each2(f)(x)); };
  };
  return {
      op_case(
          "cross_entropy",
          [](const auto& x) { return cross_entropy(x[0], labels_for(x[0])); },
          [](const Arrays& x) { return averaged(naive_rows(x, 0, false)); },
          {{normal({6, 3})}, {strided(normal({2, 3, 4}))}, {normal({3})}, {normal({1, 3})}}, 3),
      op_case(
          "cross_entropy_smooth",
          [](const auto& x) {
            return cross_entropy(x[0], labels_for(x[0]), {.label_smoothing = 0.1});
          },
          [](const Arrays& x) { return averaged(naive_rows(x, 0.1, false)); },
          {{normal({5, 3})}, {strided(normal({2, 3, 4}))}}, 3),
      op_case(
          "cross_entropy_none",
          [](const auto& x) {
            return cross_entropy(x[0], labels_for(x[0]), {.reduce = Reduce::none});
          },
          [](const Arrays& x) { return naive_rows(x, 0, false); }, {{normal({5, 3})}, {normal({0, 3})}}),
      op_case(
          "cross_entropy_soft",
          [](const auto& x) { return cross_entropy(x[0], softmax(x[1]), {.label_smoothing = 0.2}); },
          [](const Arrays& x) {
            return averaged(naive_rows({x[0], along(-1, softmax_of)({x[1]})}, 0.2, true));
          },
          {two({4, 3}), {strided(normal({2, 3})), normal({2, 3})}}, 3),
      op_case(
          "mse_loss", [](const auto& x) { return mse_loss(x[0], x[1]); },
          pairwise([](double a, double b) { return (a - b) * (a - b); }), pairs, 3, 1e-5, 4),
      op_case(
          "mse_loss_none", [](const auto& x) { return mse_loss(x[0], x[1], Reduce::none); },
          each2([](double a, double b) { return (a - b) * (a - b); }), {two({2, 3}), two({0, 3})}, 3, 1e-5, 4),
      op_case(
          "l1_loss", [](const auto& x) { return l1_loss(x[0], x[1]); },
          pairwise([](double a, double b) { return std::abs(a - b); }), pairs),
      op_case(
          "smooth_l1_loss", [](const auto& x) { return smooth_l1_loss(x[0], x[1], 0.5); },
          pairwise([](double a, double b) {
            const double d = std::abs(a - b);
            return d < 0.5 ? d * d : d - 0.25;
          }),
          pairs),
      op_case(
          "bce_with_logits", [](const auto& x) { return bce_with_logits(x[0], sigmoid(x[1])); },
          pairwise([](double a, double b) {
            const double t = 1 / (1 + std::exp(-b)), p = 1 / (1 + std::exp(-a));
            return -t * std::log(p) - (1 - t) * std::log(1 - p);
          }),
          pairs, 3, 1e-5, 4),
      op_case(
          "mse_loss_sum", [](const auto& x) { return mse_loss(x[0], x[1], Reduce::sum); },
          [](const Arrays& x) {
            Array y(Shape{});
            for (double v : each2([](double a, double b) { return (a - b) * (a - b); })(x).values)
              y.values[0] += v;
            return y;
          },
          pairs, 2, 1e-5, 4),
  };
}
TTT_OP_TABLE("losses", losses)

TEST_CASE("ops: dropout and drop_path") {
  manual_seed(5);
  const auto x = ones<double>({200, 50});
  const auto y = dropout(x, 0.2);
  double kept = 0;
  for (double v : y.to_vector()) {
    CHECK((v == 0 || v == Approx(1.25)));
    kept += v > 0;
  }
  CHECK(kept / 10000 == Approx(0.8).margin(0.02));  // 5 standard deviations
  manual_seed(5);
  CHECK(dropout(x, 0.2).to_vector() == y.to_vector());
  CHECK(dropout(x, 0.2, false).storage() == x.storage());
  CHECK(dropout(x, 0).storage() == x.storage());
  CHECK(sum(dropout(x, 1)).item() == 0);
  const auto paths = drop_path(x, 0.5).to_vector();
  for (std::size_t image = 0; image < 200; ++image)
    for (std::size_t i = 1; i < 50; ++i) CHECK(paths[image * 50 + i] == paths[image * 50]);
  const auto leaf = normal({4, 3});
  CHECK(check_grads([](const Tensor<double>& v) { return drop_path(square(v), 0.4); }, {leaf}, 3));
  const Tensor<double> z = normal(x.shape());
  for (const double p : {0.0, 0.5, 1.0}) {
    manual_seed(5);
    const Tensor<double> apart = add(z, drop_path(x, p));
    manual_seed(5);
    CHECK(relative_error(add_drop_path(z, x, p), apart) < 1e-15);
  }
  CHECK(relative_error(add_drop_path(z, x, 0.5, false), add(z, x)) == 0);
}

TEST_CASE("ops: cross_entropy and softmax survive large logits") {
  const auto logits = from_data<double>({1000, -1000, 0, 0}, {2, 2});
  CHECK(cross_entropy(logits, tensor<std::int64_t>({1, 0}), {.reduce = Reduce::none}).to_vector() ==
        std::vector<double>{2000, std::log(2.0)});
  CHECK(logsumexp(logits, 1).to_vector()[0] == 1000);
  CHECK(std::isinf(logsumexp(full<double>({2}, -INFINITY), 0).item()));
}

}  // namespace
