// Arithmetic on bf16 tensors beyond the tables of ops: sums in float, numbers beside tensors, gradients of mixed graphs, inner steps.
#include "catch.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/tttlib.hpp"

namespace {
using namespace ttt;

constexpr double rounding = 0x1p-8;  // of a bf16 number, at most

template <class A, class B>
concept multiply_together = requires(A a, B b) { a* b; };
static_assert(multiply_together<Tensor<bf16>, Tensor<bf16>> && multiply_together<Tensor<bf16>, double>);
static_assert(!multiply_together<Tensor<bf16>, Tensor<float>> && !multiply_together<Tensor<float>, Tensor<bf16>>);

std::vector<float> floats(const Tensor<bf16>& x) { return cast<float>(x).to_vector(); }
}  // namespace

TEST_CASE("bf16: sums are made in float and rounded once") {
  const auto ones_of = [](std::int64_t n) { return ones<bf16>({n}); };
  CHECK(sum(ones_of(4096)).item() == 4096.0f);  // in bf16 the sum would stop at 256
  CHECK(sum(ones_of(10000)).item() == bf16(10000.0f));
  CHECK(mean(ones_of(10007)).item() == 1.0f);
  CHECK(floats(slice(cumsum(ones_of(1024), 0), 0, 1022, 1024)) == std::vector<float>{1024, 1024});  // 1023 is not a bf16
  CHECK(norm(ones_of(4096)).item() == 64.0f);
  CHECK(sum(ones<bf16>({4096, 3}), {0}).to_vector() == std::vector<bf16>(3, bf16(4096.0f)));
  const auto index = zeros<std::int64_t>({4096});
  CHECK(scatter_add(ones_of(4096), index, 0, 1).item() == 4096.0f);
  auto table = ones<bf16>({2, 1}).requires_grad();
  sum(embedding(table, index)).backward();
  CHECK(floats(table.grad()) == std::vector<float>{4096, 0});
  auto shift = zeros<bf16>({3}).requires_grad();
  sum(ones<bf16>({4096, 3}) + shift).backward();  // what a broadcast repeats is summed
  CHECK(floats(shift.grad()) == std::vector<float>{4096, 4096, 4096});

  const auto a = randn<bf16>({7, 4096}), b = randn<bf16>({5, 4096});
  const auto product = matmul(cast<double>(a), transpose(cast<double>(b)));
  CHECK(relative_error(matmul(a, transpose(b)), product) <= rounding);
  CHECK(relative_error(linear(a, b), product) <= rounding);
}

TEST_CASE("bf16: a number beside a tensor is not rounded to bf16 first") {
  const auto x = tensor<bf16>({3});
  const float number = 1 + 0x1p-8f;  // halfway between two bf16
  CHECK(floats(x * number) == std::vector<float>{3.015625f});
  CHECK(floats(x * bf16(number)) == std::vector<float>{3});
  CHECK(floats(x * 2 + 1 - 0.5) == std::vector<float>{6.5f});
  CHECK(floats(1.0 / x) == std::vector<float>{bf16(1 / 3.0f)});
  CHECK(floats(clamp_min(x, 5.0f)) == std::vector<float>{5});
  CHECK(floats(clamp_max(x, 2.0f)) == std::vector<float>{2});
  CHECK(floats(where(x > 2.0f, x, 0.0f)) == std::vector<float>{3});
  CHECK(floats(full<bf16>({2}, bf16(0.5f))) == std::vector<float>{0.5f, 0.5f});
  CHECK(floats(tensor<bf16>({{1, 2}, {3, 4}})) == std::vector<float>{1, 2, 3, 4});
  CHECK(floats(arange<bf16>(0, 3)) == std::vector<float>{0, 1, 2});
  CHECK(floats(linspace<bf16>(0, 1, 3)) == std::vector<float>{0, 0.5f, 1});
  CHECK(relative_error(softplus(tensor<bf16>({-6})), tensor<double>({std::log1p(std::exp(-6.0))})) <= rounding);  // 1 + e^-6 is 1 in bf16
}

TEST_CASE("bf16: sums and their quotients are rounded once") {
  const auto x = randn<bf16>({5, 1001}) + 3;
  CHECK(relative_error(mean(x, {1}), mean(cast<double>(x), {1})) <= rounding);
  CHECK(relative_error(var(x, {1}), var(cast<double>(x), {1})) <= rounding);
  CHECK(relative_error(norm(x, {1}), norm(cast<double>(x), {1})) <= rounding);
}

TEST_CASE("bf16: the second derivative of a layer norm") {
  const auto x = randn<bf16>({6, 64}), w = randn<bf16>({64}), b = randn<bf16>({64}), u = randn<bf16>({6, 64}), v = randn<bf16>({6, 64});
  const auto slope = [](const auto& x, const auto& w, const auto& b, const auto& u, const auto& v) {
    return grad([&](const auto& at) { return sum(mul(grad([&](const auto& z) { return sum(mul(layer_norm(z, w, b), u)); })(at), v)); })(x);
  };
  const auto wide = [](const Tensor<bf16>& x) { return cast<double>(x); };
  CHECK(relative_error(slope(x, w, b, u, v), slope(wide(x), wide(w), wide(b), wide(u), wide(v))) <= 8 * rounding);
}

TEST_CASE("bf16: random numbers are those of float, rounded") {
  const auto same = [](const auto& draw_bf16, const auto& draw_float) {
    manual_seed(3);
    const Tensor<bf16> x = draw_bf16();
    manual_seed(3);
    return x.to_vector() == cast<bf16>(draw_float()).to_vector();
  };
  CHECK(same([] { return randn<bf16>({100}); }, [] { return randn<float>({100}); }));
  CHECK(same([] { return rand<bf16>({100}); }, [] { return rand<float>({100}); }));
  CHECK(same([] { return trunc_normal<bf16>({100}, 0.02); }, [] { return trunc_normal<float>({100}, 0.02); }));
  CHECK(same([] { return dropout(ones<bf16>({100}), 0.3); }, [] { return dropout(ones<float>({100}), 0.3); }));
}

TEST_CASE("bf16: gradients come in the type of their input, through casts too") {
  auto w = randn<float>({4, 3}).requires_grad();
  auto x = randn<bf16>({5, 4}).requires_grad();
  const auto forward = [](const auto& x, const auto& w) { return mean(square(silu(matmul(x, w)))); };
  const auto loss = cast<float>(forward(x, cast<bf16>(w)));
  loss.backward();
  const Tensor<double> x64 = cast<double>(x.detach()), w64 = cast<double>(cast<bf16>(w.detach()));
  const Tensors<double> expected = grad([&](const auto& x, const auto& w) { return forward(x, w); })(x64, w64);
  CHECK(relative_error(x.grad(), expected[0]) <= 4 * rounding);
  CHECK(relative_error(w.grad(), expected[1]) <= 4 * rounding);
  CHECK(x.grad().dtype() == DType::bfloat16);
  CHECK(w.grad().dtype() == DType::float32);
  const Tensors<bf16> g = grad(Tensors<bf16>{sum(x * x)}, {x}, {}, {.create_graph = true});
  CHECK(floats(grad(sum(g[0]), x)) == std::vector<float>(20, 2.0f));
  CHECK_THROWS_WITH(matmul(x, cast<bf16>(transpose(w))), ContainsSubstring("ttt::matmul: inner sizes differ"));
}

TEST_CASE("bf16: anomaly mode sees the op that broke") {
  const AnomalyGuard anomaly;
  CHECK_THROWS_WITH(log(zeros<bf16>({2})), ContainsSubstring("ttt::log: result [2] holds NaN or Inf"));
  auto x = zeros<bf16>({2}).requires_grad();
  CHECK_THROWS_WITH(sum(sqrt(x)).backward(), ContainsSubstring("ttt::sqrt: gradient [2] holds NaN or Inf"));
}

TEST_CASE("bf16: an inner step runs forward and backward") {
  const auto k = randn<double>({2, 2, 6, 4}), v = randn<double>({2, 2, 6, 4}), q = randn<double>({2, 2, 6, 4});
  const auto outer = [&]<class T>(const Tensors<T>& x) {
    const auto model = inner::make<T>("glu", {.width = 4});
    const InnerOptions<T> options{.loss = losses::mse, .rate = 0.5, .epochs = 2, .batches = 2, .clip = true, .momentum = 0.9};
    const Tensors<T> w = inner_train(model, {x[0], x[1]}, x[2], x[3], options);
    return model(x[4], w);
  };
  Tensors<double> inputs;
  for (const Tensor<double>& x : {randn<double>({2, 4, 4}), randn<double>({2, 4, 4}), k, v, q}) inputs.push_back(cast<double>(cast<bf16>(x)));
  Tensors<bf16> halves;
  for (const Tensor<double>& x : inputs) halves.push_back(cast<bf16>(x));
  // Four steps of about ten ops each; roundings of steps add up as random numbers do.
  CHECK(relative_error(outer(halves), outer(inputs)) <= 8 * rounding);
  const auto loss = [&](const auto& x) { return sum(square(outer(x))); };
  const Tensors<double> expected = grad(loss)(inputs);
  const Tensors<bf16> found = grad(loss)(halves);
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(relative_error(found[i], expected[i]) <= 16 * rounding);
}

TEST_CASE("bf16: the heads of a TTT block step in float, in each of their forms") {
  const std::int64_t H = 2, d = 4;
  const auto qkv = randn<bf16>({2, 3, 5, 3 * (H + 1) * d});
  const TttWeights<bf16> w{randn<bf16>({1, H, d, d}), randn<bf16>({1, H, d, d}), randn<bf16>({d, 1, 3, 3})};
  const TttWeights<double> w64{cast<double>(w.w1), cast<double>(w.w2), cast<double>(w.w3)};
  const auto expected = ttt_heads(cast<double>(qkv), w64, TttPath::nested);
  for (const TttPath path : {TttPath::fused, TttPath::closed, TttPath::nested}) {
    CHECK(relative_error(ttt_heads(qkv, w, path), expected) <= rounding);
    const auto of = [path](const auto& w) { return [&w, path](const auto& x) { return sum(square(ttt_heads(x, w, path))); }; };
    const auto twice = [&of](const auto& w) { return [f = of(w)](const auto& x) { return sum(square(grad(f)(x))); }; };
    CHECK(relative_error(grad(of(w))(qkv), grad(of(w64))(cast<double>(qkv))) <= 3 * rounding);
    CHECK(relative_error(grad(twice(w))(qkv), grad(twice(w64))(cast<double>(qkv))) <= 6 * rounding);
  }
}
