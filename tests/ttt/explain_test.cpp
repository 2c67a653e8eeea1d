// What a layer does with an image: each token's share of the inner gradient, and whose values reach an answer.
#include "catch.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/explain.hpp"
#include "tttlib/ttt/inner_models.hpp"

using namespace ttt;

namespace {

InnerTask<double> example(const InnerModel<double>& model, InnerOptions<double> options, std::int64_t images = 2, std::int64_t tokens = 6) {
  const Shape shape{images, 3, tokens, 4};
  return {model, model.initial_weights(3, 0.5), randn<double>(shape), randn<double>(shape), randn<double>(shape), std::move(options)};
}

}  // namespace

TEST_CASE("a linear model's share of a token is the size of its key times the size of its error") {
  manual_seed(1);
  const InnerTask<double> task = example(inner::fc<double>(4), {.loss = losses::mse});
  const Tensor<double> error = sub(task.model(task.k, expand_per_image(task.w0, 2)), task.v);
  const Tensor<double> expected = mul(mul(norm(task.k, {-1}), norm(error, {-1})), 1.0 / (6 * std::sqrt(4.0)));
  CHECK(relative_error(gradient_magnitude(task), expected) < 1e-14);
}

TEST_CASE("a token's share is the inner gradient of an image that has only this token") {
  manual_seed(2);
  for (const auto& entry : inner::all<double>()) {
    if (entry.first.find("conv") != std::string::npos) continue;
    INFO(entry.first);
    const InnerTask<double> task = example(inner::make<double>(entry.first, {.width = 4, .ratio = inner::has_hidden_width(entry.first) ? 2.0 : 0.0}), {.loss = losses::l2_sum}, 2, 19);
    const Tensor<double> found = gradient_magnitude(task);
    CHECK(found.shape() == Shape{2, 3, 19});
    for (std::int64_t token : {0, 7, 18}) {
      const InnerData<double> one{slice(task.k, 2, token, token + 1), slice(task.v, 2, token, token + 1), {}};
      const Tensors<double> g = inner_gradient(task.model, task.options.loss, expand_per_image(task.w0, 2), one);
      Tensor<double> squares = zeros<double>({2, 3});
      for (std::size_t i = 0; i < g.size(); ++i)
        if (task.model.parameters[i].trained) squares = add(squares, sum(reshape(square(g[i]), {2, 3, -1}), {-1}));
      CHECK(relative_error(select(found, 2, token), sqrt(squares)) < 1e-13);
    }
  }
}

TEST_CASE("a token's rate multiplies its share") {
  manual_seed(7);
  InnerTask<double> task = example(inner::glu<double>(4), {.loss = losses::mse});
  const Tensor<double> plain = gradient_magnitude(task), rates = rand<double>({2, 3, 6});
  task.options.token_rates = {rates};
  CHECK(relative_error(gradient_magnitude(task), mul(plain, rates)) < 1e-14);
}

TEST_CASE("a convolution's share of a token counts the keys around it") {
  manual_seed(3);
  const InnerTask<double> task = example(inner::dwconv3x3<double>(4, 2, 3), {.loss = losses::dot_sum}, 1);
  const Tensor<double> found = gradient_magnitude(task);
  const Tensor<double> k = contiguous(task.k), v = contiguous(task.v);
  for (std::int64_t head = 0; head < 3; ++head)
    for (std::int64_t i = 0; i < 6; ++i) {
      double squares = 0;
      for (std::int64_t y = std::max<std::int64_t>(0, i / 3 - 1); y <= std::min<std::int64_t>(1, i / 3 + 1); ++y)
        for (std::int64_t x = std::max<std::int64_t>(0, i % 3 - 1); x <= std::min<std::int64_t>(2, i % 3 + 1); ++x)
          for (std::int64_t c = 0; c < 4; ++c) squares += std::pow(k.data()[(head * 6 + y * 3 + x) * 4 + c] * v.data()[(head * 6 + i) * 4 + c], 2);
      CHECK(found.to_vector()[static_cast<std::size_t>(head * 6 + i)] == Approx(std::sqrt(squares)).epsilon(1e-13));
    }
}

TEST_CASE("linear attention: the answer depends on a value by the product of query and key") {
  manual_seed(4);
  InnerTask<double> task = example(inner::fc<double>(4), {.loss = losses::dot, .rate = 3});
  task.w0 = {zeros<double>({3, 4, 4})};
  const Tensor<double> products = matmul(slice(task.q, 2, 5, 6), transpose(task.k));                                 // [B, H, 1, N]
  const Tensor<double> expected = mul(mul(reshape(products, {2, 3, 6, 1, 1}), eye<double>(4)), 3 / (6 * std::sqrt(4.0)));  // [B, H, N, d, d]
  CHECK(relative_error(value_jacobian(task, 5), expected) < 1e-14);
}

TEST_CASE("the dependence on values is a derivative through every step of the training") {
  manual_seed(5);
  Schedule backwards;
  backwards.reversed = true;
  const std::pair<InnerModel<double>, InnerOptions<double>> cases[] = {
      {inner::glu<double>(4), {.loss = losses::block_dot, .clip = true}},
      {inner::mlp<double>(4, 8), {.loss = losses::mse, .rate = 0.7, .epochs = 2, .batches = 2, .schedule = backwards}},
      {inner::ttt_linear<double>(4), {.loss = losses::l2_sum, .rate = 0.3, .schedule = {.chunk = 4, .read = Schedule::Read::causal}}},
      {inner::dwconv3x3<double>(4, 2, 3), {.loss = losses::smooth_l1, .clip = true}}};
  for (const auto& [model, options] : cases) {
    INFO(model.name);
    InnerTask<double> task = example(model, options);
    task.options.token_rates = {add(rand<double>({2, 3, 6}), 0.5)};
    const Tensor<double> found = value_jacobian(task, 2);
    CHECK(found.shape() == Shape{2, 3, 6, 4, 4});
    const Tensor<double> v = clone(task.v);
    for (std::int64_t image : {0, 1})
      for (std::int64_t j : {0, 2, 5})
        for (std::int64_t c : {0, 3}) {
          const double step = 1e-5;
          const auto answer = [&](double by) {
            task.v = clone(v);
            for (std::int64_t head = 0; head < 3; ++head) task.v.data()[((image * 3 + head) * 6 + j) * 4 + c] += by;
            return select(select(inner_scan(task).output, 2, 2), 0, image);  // [H, d]
          };
          const Tensor<double> slope = mul(sub(answer(step), answer(-step)), 1 / (2 * step));
          const Tensor<double> ours = select(select(select(found, 0, image), 1, j), 2, c);  // [H, d']
          CHECK(amax(abs(sub(slope, ours))).item() < 1e-8);
        }
  }
}

TEST_CASE("what cannot be explained is said") {
  manual_seed(6);
  const InnerTask<double> task = example(inner::fc<double>(4), {.loss = losses::rmse});
  CHECK_THROWS_WITH(gradient_magnitude(task), ContainsSubstring("not a sum over tokens") && ContainsSubstring("loss rmse"));
  CHECK_THROWS_WITH(value_jacobian(task, 6), ContainsSubstring("no such token: token 6, q [2, 3, 6, 4]"));
  CHECK_THROWS_WITH(value_jacobian(task, -1), ContainsSubstring("token -1"));
}
