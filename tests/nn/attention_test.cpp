// Attention: against plain loops, as a layer, and as the special case of inner training that it is.
#include "tttlib/nn/attention.hpp"

#include <array>
#include <cmath>

#include "catch.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_layer.hpp"

using namespace ttt;

namespace {

/// The definition in loops: q [rows, N, d], k and v [rows, M, d] -> [rows, N, d].
Tensor<double> naive(const Tensor<double>& q, const Tensor<double>& k, const Tensor<double>& v, bool softmax) {
  const std::int64_t rows = q.size(0), N = q.size(1), M = k.size(1), d = q.size(2);
  Tensor<double> o = zeros<double>({rows, N, d});  // [rows, N, d]
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < N; ++i) {
      std::vector<double> weights;
      double total = 0;
      for (std::int64_t j = 0; j < M; ++j) {
        double score = 0;
        for (std::int64_t c = 0; c < d; ++c) score += q.data()[(r * N + i) * d + c] * k.data()[(r * M + j) * d + c];
        score /= std::sqrt(static_cast<double>(d));
        weights.push_back(softmax ? std::exp(score) : score);
        total += weights.back();
      }
      if (!softmax) total = static_cast<double>(M);
      for (std::int64_t j = 0; j < M; ++j)
        for (std::int64_t c = 0; c < d; ++c)
          o.data()[(r * N + i) * d + c] += weights[static_cast<std::size_t>(j)] / total * v.data()[(r * M + j) * d + c];
    }
  return o;
}

}  // namespace

TEST_CASE("softmax and linear attention equal plain loops, also for other numbers of keys than queries") {
  manual_seed(1);
  const std::int64_t N = GENERATE(1, 5), M = GENERATE(1, 7), d = 3;
  const Tensor<double> q = randn<double>({2, N, d}), k = randn<double>({2, M, d}), v = randn<double>({2, M, d});
  CHECK(relative_error(attention(q, k, v), naive(q, k, v, true)) < 1e-14);
  CHECK(relative_error(linear_attention(q, k, v), naive(q, k, v, false)) < 1e-14);
}

TEST_CASE("attention gradients, to order 2") {
  manual_seed(2);
  const bool softmax = GENERATE(true, false);
  const auto f = [&](const Tensors<double>& x) { return softmax ? attention(x[0], x[1], x[2]) : linear_attention(x[0], x[1], x[2]); };
  const Tensors<double> xs{randn<double>({2, 4, 3}), randn<double>({2, 5, 3}), randn<double>({2, 5, 3})};
  const auto check = check_grads(f, xs, 2);
  INFO(check);
  CHECK(check);
}

TEST_CASE("attention in blocks agrees with the whole matrix, forward and backward, on any number of threads") {
  manual_seed(6);
  for (const auto& [N, M, d] : {std::array<std::int64_t, 3>{65, 129, 5}, {1, 300, 16}, {200, 1, 32}, {128, 128, 64}}) {
    INFO("queries " << N << ", keys " << M << ", width " << d);
    const Tensors<double> x{randn<double>({2, 2, N, d}), randn<double>({2, 2, M, d}), randn<double>({2, 2, M, d})};
    const Tensor<double> u = randn<double>({2, 2, N, d});
    const auto in_blocks = [](const Tensors<double>& t) { return attention(t[0], t[1], t[2]); };
    const auto by_matrix = [](const Tensors<double>& t) { return attention_by_matrix(t[0], t[1], t[2]); };
    CHECK(relative_error(in_blocks(x), by_matrix(x)) < 1e-13);
    const Tensors<double> ours = vjp(in_blocks, x, u), expected = vjp(by_matrix, x, u);
    for (std::size_t i = 0; i < 3; ++i) CHECK(relative_error(ours[i], expected[i]) < 1e-12);
    const int before = num_threads();
    for (int threads : {1, 3}) {
      set_num_threads(threads);
      const Tensors<double> again = vjp(in_blocks, x, u);
      for (std::size_t i = 0; i < 3; ++i) {
        const bool same = again[i].to_vector() == ours[i].to_vector();
        CHECK(same);
      }
    }
    set_num_threads(before);
  }
}

TEST_CASE("large scores do not overflow, and a NaN is not lost") {
  const Tensor<float> q = full<float>({1, 1, 2, 4}, 300.0f), k = full<float>({1, 1, 150, 4}, 10.0f), v = full<float>({1, 1, 150, 4}, 2.0f);
  CHECK(amax(abs(add(attention(q, k, v), -2.0f))).item() < 1e-5f);
  Tensor<float> bad = clone(k);
  bad.data()[4] = std::nanf("");
  CHECK(std::isnan(sum(attention(q, bad, v)).item()));
}

TEST_CASE("the layer: heads do not mix before the projection, tokens keep their places, bad sizes throw") {
  manual_seed(3);
  Attention<double> layer(8, 2);
  CHECK(layer.num_parameters() == 8 * 24 + 24 + 8 * 8 + 8);
  const Tensor<double> x = randn<double>({2, 2, 3, 8});  // [B, h, w, C]
  const Tensor<double> o = layer(x);
  CHECK(o.shape() == x.shape());
  const Tensors<double> parts = split((*layer.qkv)(reshape(x, {2, 6, 8})), {8, 8, 8}, -1);  // 3 × [B, N, C]
  Tensors<double> heads;
  for (std::int64_t h = 0; h < 2; ++h) {
    const auto of = [&](int i) { return slice(parts[static_cast<std::size_t>(i)], 2, 4 * h, 4 * h + 4); };  // [B, N, d]
    heads.push_back(naive(contiguous(of(0)), contiguous(of(1)), contiguous(of(2)), true));
  }
  CHECK(relative_error(o, reshape((*layer.proj)(cat(heads, -1)), x.shape())) < 1e-13);
  CHECK(relative_error(layer(flip(x, 1)), flip(o, 1)) < 1e-13);
  CHECK_THROWS_WITH((Attention<double>(8, 3)), "ttt::Attention: heads must divide channels: channels 8, heads 3");
  CHECK_THROWS_AS(layer(randn<double>({2, 6, 7})), ShapeError);
}

TEST_CASE("linear attention is inner training of fc from zero with the dot loss, through the layers too") {
  manual_seed(4);
  Attention<double> linear(8, 2, Attention<double>::Kind::linear);
  InnerTrainingLayer<double> trained(8, 2, "fc");
  StateDict<double> state = linear.state_dict();
  state.emplace_back("w1", zeros<double>({2, 4, 4}));
  trained.load_state_dict(state);
  const Tensor<double> x = randn<double>({3, 2, 4, 8});
  CHECK(relative_error(trained(x), linear(x)) < 1e-13);
}
