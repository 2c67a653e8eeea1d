// The choice of precision of matrix products: what it changes, what it never changes, and that gradients keep it.
#include <thread>

#include "op_case.hpp"
#include "tttlib/autograd/checkpoint.hpp"
#include "tttlib/backend/precision.hpp"
#include "tttlib/ttt/ttt_heads.hpp"

namespace {
using namespace ops_test;

constexpr MatmulPrecision bfloat16 = MatmulPrecision::bfloat16, float32 = MatmulPrecision::float32;

Tensor<float> random(const Shape& shape) { return cast<float>(normal(shape)); }
/// x as a product sees it under bfloat16.
template <class T>
Tensor<double> rounded(const Tensor<T>& x) { return cast<double>(cast<bf16>(x)); }
template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) { return a.shape() == b.shape() && a.to_vector() == b.to_vector(); }

TEST_CASE("products are float32 unless the program, or a guard of this thread, says otherwise") {
  CHECK(matmul_precision() == float32);
  const Tensor<float> a = random({9, 70}), b = random({70, 33}), before = matmul(a, b);
  {
    const MatmulPrecisionGuard outer(bfloat16);
    CHECK(matmul_precision() == bfloat16);
    CHECK_FALSE(same_bits(matmul(a, b), before));
    {
      const MatmulPrecisionGuard inner(float32);
      CHECK(same_bits(matmul(a, b), before));
    }
    CHECK(matmul_precision() == bfloat16);
    MatmulPrecision elsewhere = bfloat16;
    std::thread([&] { elsewhere = matmul_precision(); }).join();
    CHECK(elsewhere == float32);
  }
  set_matmul_precision(bfloat16);
  MatmulPrecision elsewhere = float32;
  std::thread([&] { elsewhere = matmul_precision(); }).join();
  CHECK(elsewhere == bfloat16);
  CHECK_FALSE(same_bits(matmul(a, b), before));
  set_matmul_precision(float32);
  CHECK(same_bits(matmul(a, b), before));
}

TEST_CASE("under bfloat16 a product of floats is that of its rounded operands") {
  const MatmulPrecisionGuard guard(bfloat16);
  const auto check = [](const Tensor<float>& a, const Tensor<float>& b) {
    INFO("a " << a.shape() << ", b " << b.shape());
    const Tensor<float> c = matmul(a, b);
    const Tensor<double> exact = matmul(rounded(a), rounded(b));
    REQUIRE(c.shape() == exact.shape());
    if (c.numel() > 0) CHECK(relative_error(c, exact) < 1e-6);  // float sums of up to 400 terms
  };
  check(random({5, 7}), random({7, 3}));
  check(random({1, 1}), random({1, 1}));
  check(random({17, 401}), random({401, 45}));
  check(random({2, 3, 5, 33}), random({2, 3, 33, 19}));                        // many products
  check(random({9, 4, 20}), random({20, 31}));                                 // one tall product
  check(transpose(random({33, 40})), transpose(random({21, 33})));
  check(slice(random({20, 80}), 1, 3, 44), slice(random({41, 90}), 1, 7, 60));  // rows with gaps
  check(expand(random({3, 1}), {3, 14}), random({14, 6}));
  check(random({0, 4}), random({4, 5}));
  check(random({37}), random({37}));
  const Tensor<float> zeros = matmul(random({3, 0}), random({0, 2}));
  for (float x : zeros.to_vector()) CHECK(x == 0.0f);

  const Tensor<float> x = random({2, 11, 35}), w = random({18, 35}), bias = random({18});
  CHECK(relative_error(linear(x, w, bias), add(linear(rounded(x), rounded(w)), cast<double>(bias))) < 1e-6);  // the bias is not rounded
  const Tensor<float> image = random({2, 9, 9, 6}), kernel = random({10, 3, 3, 3});
  const Conv2dOptions options{.stride = 2, .padding = 1, .groups = 2};
  CHECK(relative_error(conv2d(image, kernel, {}, options), conv2d(rounded(image), rounded(kernel), {}, options)) < 1e-6);
}

TEST_CASE("the precision of products changes nothing in double, to second order") {
  const Tensor<double> x = normal({4, 9}), w = normal({9, 5});
  const auto f = [&](const Tensor<double>& v) { return sum(pow(matmul(mul(v, v), w), 3)); };
  const auto second = [&] { return grad([&](const Tensor<double>& v) { return sum(pow(grad(f)(v), 2)); })(x); };
  const Tensor<double> value = f(x), first = grad(f)(x), twice = second();
  const MatmulPrecisionGuard guard(bfloat16);
  CHECK(same_bits(f(x), value));
  CHECK(same_bits(grad(f)(x), first));
  CHECK(same_bits(second(), twice));
}

TEST_CASE("gradients have the precision of their product, wherever the sweep runs") {
  const Tensor<float> x = random({21, 40}), w = random({13, 40}), g = random({21, 13});
  const auto gradients = [&](MatmulPrecision forward, MatmulPrecision backward) {
    Tensor<float> a = x.detach(), b = w.detach();
    a.requires_grad(), b.requires_grad();
    Tensor<float> y;
    {
      const MatmulPrecisionGuard guard(forward);
      y = linear(a, b);
    }
    const MatmulPrecisionGuard guard(backward);
    sum(mul(y, g)).backward();
    return Tensors<float>{a.grad(), b.grad()};
  };
  const Tensors<float> half = gradients(bfloat16, float32), whole = gradients(float32, bfloat16);
  CHECK(relative_error(half[0], matmul(rounded(g), rounded(w))) < 1e-6);
  CHECK(relative_error(half[1], matmul(transpose(rounded(g)), rounded(x))) < 1e-6);
  CHECK(relative_error(whole[0], matmul(cast<double>(g), cast<double>(w))) < 1e-6);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(same_bits(half[i], gradients(bfloat16, bfloat16)[i]));
    CHECK(same_bits(whole[i], gradients(float32, float32)[i]));
  }
}

TEST_CASE("a checkpoint runs again with the precision it ran with") {
  const Tensor<float> x = random({8, 30}), w = random({30, 30});
  const auto f = [&](const Tensor<float>& v) { return matmul(tanh(matmul(v, w)), w); };
  const auto gradient = [&](bool checkpointed) {
    Tensor<float> v = x.detach();
    v.requires_grad();
    Tensor<float> y;
    {
      const MatmulPrecisionGuard guard(bfloat16);
      y = checkpointed ? checkpoint(f, v) : f(v);
    }
    sum(y).backward();
    return v.grad();
  };
  CHECK(same_bits(gradient(true), gradient(false)));
}

TEST_CASE("the inner step is computed in float in each of its forms, forward and backward") {
  const std::int64_t H = 2, d = 8, C = H * d;
  const Tensor<float> qkv = random({2, 3, 4, 3 * C + 3 * d});
  const TttWeights<float> w0{random({1, H, d, d}), random({1, H, d, d}), random({d, 1, 3, 3})};
  for (const TttPath path : {TttPath::fused, TttPath::closed, TttPath::nested}) {
    INFO("path " << int(path));
    const auto run = [&](MatmulPrecision precision) {
      const MatmulPrecisionGuard guard(precision);
      Tensor<float> x = qkv.detach();
      x.requires_grad();
      const Tensor<float> o = ttt_heads(x, w0, path);
      sum(mul(o, o)).backward();
      const auto norm_of_gradient = [&](const Tensor<float>& v) {
        return sum(pow(grad([&](const Tensor<float>& u) { return sum(ttt_heads(u, w0, path)); })(v), 2));
      };
      return Tensors<float>{o.detach(), x.grad(), grad(norm_of_gradient)(qkv)};
    };
    const Tensors<float> usual = run(float32), under_bf16 = run(bfloat16);
    for (std::size_t i = 0; i < usual.size(); ++i) CHECK(same_bits(usual[i], under_bf16[i]));
  }
}

TEST_CASE("an inner model is computed in float, in training and in answering, by inner_train as by inner_scan") {
  const InnerModel<float> model = inner::swiglu<float>(8, 12);
  const Tensors<float> w0 = model.initial_weights(2, 0.5);
  const Tensor<float> q = random({2, 2, 6, 8}), k = random({2, 2, 6, 8}), v = random({2, 2, 6, 8});
  using Causal = Schedule::Causal;
  for (const InnerOptions<float>& o : std::vector<InnerOptions<float>>{
           {}, {.loss = losses::mse, .epochs = 2, .batches = 2, .newton_schulz = NewtonSchulz::constant},
           {.schedule = {.chunk = 3, .read = Schedule::Read::causal, .causal = Causal::dual}},
           {.schedule = {.chunk = 3, .read = Schedule::Read::causal, .causal = Causal::sequential}}}) {
    INFO(o);
    const Tensor<float> usual = inner_scan(model, w0, q, k, v, o).output;
    const MatmulPrecisionGuard guard(bfloat16);
    CHECK(same_bits(inner_scan(model, w0, q, k, v, o).output, usual));
    if (o.schedule.is_plain()) CHECK(same_bits(model(q, inner_train(model, w0, k, v, o)), usual));
  }
}

TEST_CASE("attention is computed in float, also where its definition is differentiated") {
  const Tensor<float> q = random({2, 2, 5, 8}), k = random({2, 2, 6, 8}), v = random({2, 2, 6, 8});
  const auto second = [&] {
    const auto norm_of_gradient = [&](const Tensor<float>& u) {
      return sum(pow(grad([&](const Tensor<float>& t) { return sum(pow(attention(t, k, v), 2)); })(u), 2));
    };
    return grad(norm_of_gradient)(q);
  };
  const Tensor<float> usual = second();
  const MatmulPrecisionGuard guard(bfloat16);
  CHECK(same_bits(second(), usual));
}

}  // namespace
