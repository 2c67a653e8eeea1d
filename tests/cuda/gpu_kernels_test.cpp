// Kernels at sizes and layouts that the table of ops does not reach, beside the CPU's: several parts, tiles and blocks,
// operands that no BLAS takes, random numbers, the optimiser, memory, errors.
#include "catch.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/ops/composed/attention.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/ops/composed/mlp.hpp"
#include "tttlib/ops/composed/norm.hpp"
#include "tttlib/ops/composed/softmax.hpp"
#include "tttlib/ops/conv.hpp"
#include "tttlib/ops/index.hpp"
#include "tttlib/testing/compare.hpp"

using namespace ttt;

namespace {

/// The values of f and its gradients for all inputs, computed where the inputs are.
template <class T, class F>
Tensors<T> with_gradients(const F& f, const Tensors<T>& xs) {
  manual_seed(11);
  const Tensor<T> y = f(xs), u = randn<T>(y.shape()).to(y.device());
  Tensors<T> all{y};
  for (Tensor<T>& g : vjp<T>(f, xs, u)) all.push_back(g);
  return all;
}
/// Largest relative error of the GPU against the CPU.
template <class T, class F>
double difference(const F& f, const Tensors<T>& xs) {
  Tensors<T> there;
  for (const Tensor<T>& x : xs) there.push_back(x.to(cuda()));
  const Tensors<T> expected = with_gradients<T>(f, xs), got = with_gradients<T>(f, there);
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (got[i].device() != cuda()) return 1;
    worst = std::max(worst, relative_error(got[i], expected[i]));
  }
  return worst;
}
constexpr double rounding = 1e-12;  // sums of up to 10⁵ terms in another order, in double

}  // namespace

TEST_CASE("reductions of every kind of layout and length", "[small]") {
  manual_seed(1);
  const Tensor<double> x = randn<double>({37, 130, 51}), line = randn<double>({40000}), tall = randn<double>({9000, 3});
  for (const Axes& axes : {Axes{}, Axes{0}, Axes{1}, Axes{2}, Axes{0, 1}, Axes{0, 2}, Axes{1, 2}}) {
    INFO("axes " << axes);
    CHECK(difference<double>([&](const Tensors<double>& t) { return sum(t[0], axes); }, {x}) < rounding);
    CHECK(difference<double>([&](const Tensors<double>& t) { return sum(transpose(t[0], 0, 2), axes); }, {x}) < rounding);
    CHECK(difference<double>([&](const Tensors<double>& t) { return add(amax(t[0], axes), amin(t[0], axes)); }, {x}) == 0);
  }
  CHECK(difference<double>([](const Tensors<double>& t) { return sum(t[0]); }, {line}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return sum(t[0], 0); }, {tall}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return cumsum(t[0], 0); }, {tall}) < rounding);
  const Tensor<float> numbers = randn<float>({70, 300});
  CHECK(argmax(numbers.to(cuda()), 1).to_vector() == argmax(numbers, 1).to_vector());
  CHECK(argmin(numbers.to(cuda()), 0).to_vector() == argmin(numbers, 0).to_vector());
}

TEST_CASE("sums over rows: packs and single columns, several parts, parts of parts") {
  manual_seed(21);
  const auto rows = [](const Tensors<double>& t) { return sum(t[0], 0); };
  for (const Shape& shape :
       {Shape{2500, 384}, Shape{3000, 33}, Shape{700, 1538}, Shape{70, 5}, Shape{9, 8}, Shape{1, 64}, Shape{4100, 1}, Shape{0, 6}}) {
    INFO(shape);
    const Tensor<double> x = randn<double>(shape);
    CHECK(difference<double>(rows, {x}) < rounding);
    CHECK(relative_error(sum(cast<float>(x).to(cuda()), 0), rows({x})) < 1e-5);
  }
  for (const std::int64_t width : {30, 31})  // first columns and steps between rows that are whole packs, and that are not
    for (const std::int64_t first : {0, 1, 2})
      CHECK(difference<double>([&](const Tensors<double>& t) { return rows({slice(t[0], 1, first, first + 28)}); }, {randn<double>({900, width})}) <
            rounding);
  const Tensor<double> deep = randn<double>({40, 6, 30, 16});
  CHECK(difference<double>([](const Tensors<double>& t) { return sum(t[0], Axes{0, 2}); }, {deep}) < rounding);  // two axes, and two are left
  CHECK(difference<double>([](const Tensors<double>& t) { return sum(t[0], Axes{1}); }, {deep}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return amax(t[0], Axes{0, 1}); }, {deep}) == 0);
  CHECK(relative_error(sum(deep.to(cuda()), Axes{0, 1, 2}), sum(deep, Axes{0, 1, 2})) < rounding);
}

TEST_CASE("elementwise maps: packs, odd rests, rows and columns that repeat, addresses between packs") {
  manual_seed(22);
  const auto both = [](const auto& f, const Tensors<double>& xs) {
    CHECK(difference<double>(f, xs) < rounding);
    Tensors<float> floats;
    for (const Tensor<double>& x : xs) floats.push_back(cast<float>(x));
    CHECK(difference<float>(f, floats) < 1e-6);
  };
  const auto formula = [](const auto& t) { return add(mul(t[0], t[1]), gelu(t[0])); };
  for (const std::int64_t n : {1, 3, 4, 2047, 4100}) both(formula, {randn<double>({n}), randn<double>({n})});
  const Tensor<double> x = randn<double>({5, 6, 32});
  for (const Shape& other : {Shape{32}, Shape{6, 1}, Shape{1, 32}, Shape{5, 1, 1}, Shape{5, 1, 32}, Shape{}})
    both(formula, {x, randn<double>(other)});
  both(formula, {randn<double>({9, 7}), randn<double>({7})});
  both([&](const auto& t) { return formula(std::vector{slice(t[0], 0, 1, 30), slice(t[1], 0, 4, 33)}); }, {randn<double>({33}), randn<double>({33})});
  both([&](const auto& t) { return formula(std::vector{slice(t[0], 1, 4, 16), slice(t[0], 1, 8, 20)}); }, {randn<double>({7, 24})});
  both([&](const auto& t) { return formula(std::vector{slice(t[0], 1, 0, 8), slice(t[0], 1, 1, 9)}); }, {randn<double>({7, 10})});
  both([](const auto& t) { return permute(t[0], {1, 0, 2}).contiguous(); }, {x});
  both([](const auto& t) { return transpose(t[0]).contiguous(); }, {x});
  both([](const auto& t) { return flip(t[0], 2).contiguous(); }, {x});
  both([](const auto& t) { return where(t[0], t[1], t[0]); }, {x, randn<double>({32})});
  const Tensor<float> y = randn<float>({5, 131});
  for (const Tensor<float>& part : {y, slice(y, 1, 1, 100), slice(y, 1, 8, 40)}) {
    const Tensor<float> there = part.to(cuda());
    CHECK(cast<float>(cast<bf16>(there)).to_vector() == cast<float>(cast<bf16>(part)).to_vector());
    CHECK(cast<double>(there).to_vector() == cast<double>(part).to_vector());
    CHECK(cast<float>(cast<std::int64_t>(mul(there, 100.0))).to_vector() == cast<float>(cast<std::int64_t>(mul(part, 100.0))).to_vector());
  }
  Tensor<float> filled = zeros<float>({4, 21}, cuda());
  backend::fill(mutable_view(filled), 3);
  CHECK(filled.to_vector() == std::vector<float>(84, 3));
}

TEST_CASE("all_finite finds the one that is not", "[small]") {
  for (std::int64_t n : {1, 1000, 300000}) {
    Tensor<float> x = ones<float>({n});
    CHECK(backend::all_finite(view(x.to(cuda()))));
    x.data()[n / 2] = std::numeric_limits<float>::infinity();
    CHECK_FALSE(backend::all_finite(view(x.to(cuda()))));
    x.data()[n / 2] = std::numeric_limits<float>::quiet_NaN();
    CHECK_FALSE(backend::all_finite(view(x.to(cuda()))));
  }
}

TEST_CASE("rows: more of them than parts, wider than a block") {
  manual_seed(2);
  for (const Shape& shape : {Shape{1300, 5}, Shape{3, 700}, Shape{1, 1}, Shape{520, 64}, Shape{2200, 6}, Shape{20, 192}, Shape{9, 384},
                             Shape{17, 130}, Shape{7, 512}, Shape{5, 33}, Shape{4, 101}, Shape{3, 255}, Shape{2, 514}}) {
    INFO(shape);
    const std::int64_t n = shape[1];
    const Tensors<double> xs{randn<double>(shape), randn<double>({n}), randn<double>({n})};
    CHECK(difference<double>([](const Tensors<double>& t) { return layer_norm(t[0], t[1], t[2]); }, xs) < 1e-11);
    CHECK(difference<double>([](const Tensors<double>& t) { return layer_norm(t[0], {}, t[1]); }, {xs[0], xs[1]}) < 1e-11);
    CHECK(difference<double>([](const Tensors<double>& t) { return softmax(mul(t[0], 3.0)); }, {xs[0]}) < rounding);
    CHECK(difference<double>([](const Tensors<double>& t) { return log_softmax(t[0]); }, {xs[0]}) < rounding);
    Tensor<std::int64_t> labels(Shape{shape[0]});
    for (std::int64_t i = 0; i < shape[0]; ++i) labels.data()[i] = 7 * i % n;
    for (const double smoothing : {0.0, n > 1 ? 0.3 : 0.0})  // of one class, gradients are zero but for rounding
      CHECK(difference<double>(
                [&](const Tensors<double>& t) { return cross_entropy(t[0], labels.to(t[0].device()), {.label_smoothing = smoothing}); },
                {xs[0]}) < rounding);
  }
}

TEST_CASE("rows of floats, with and without weights, whole packs and odd ones") {
  manual_seed(23);
  for (const std::int64_t n : {3, 100, 256, 384, 500, 768, 1024, 250, 1100}) {
    INFO(n);
    const Tensor<double> x = randn<double>({29, n}), w = randn<double>({n}), b = randn<double>({n});
    const auto check = [](const auto& f, const Tensors<double>& xs) {
      Tensors<float> floats;
      for (const Tensor<double>& t : xs) floats.push_back(cast<float>(t));
      CHECK(difference<float>(f, floats) < 1e-5);
    };
    check([](const auto& t) { return layer_norm(t[0], t[1], t[2]); }, {x, w, b});
    check([](const auto& t) { return layer_norm(t[0], {}, {}); }, {x});
    check([](const auto& t) { return softmax(t[0]); }, {x});
    check([](const auto& t) { return log_softmax(t[0]); }, {x});
  }
}

TEST_CASE("products of operands in any layout", "[small]") {
  manual_seed(3);
  const Tensor<double> a = randn<double>({3, 4, 6, 5}), b = randn<double>({3, 4, 5, 7}), wide = randn<double>({3, 6, 4, 10}), w = randn<double>({5, 7});
  const auto product = [](const Tensors<double>& t) { return matmul(t[0], t[1]); };
  CHECK(difference<double>(product, {a, b}) < rounding);
  CHECK(difference<double>(product, {a, w}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return matmul(transpose(t[1]), transpose(t[0])); }, {a, b}) < rounding);
  // Heads split off a wider buffer [B, N, H, 2d]: batches with two strides, columns of a wider matrix.
  const auto heads = [](const Tensors<double>& t) {
    const Tensor<double> x = permute(slice(t[0], 3, 2, 7), {0, 2, 1, 3});  // [B, H, N, d]
    return matmul(x, transpose(x));
  };
  CHECK(difference<double>(heads, {wide}) < rounding);
  // Every second column, a flipped axis, one row repeated: copied first.
  CHECK(difference<double>([](const Tensors<double>& t) { return matmul(slice(t[0], 3, 0, 10, 2), t[1]); }, {wide, w}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return matmul(flip(t[0], -1), t[1]); }, {a, b}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return matmul(broadcast_to(slice(t[0], 2, 0, 1), {3, 4, 6, 5}), t[1]); }, {a, b}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return matmul(broadcast_to(t[0], {3, 4, 5, 7}), transpose(t[1])); }, {randn<double>({1, 4, 5, 7}), b}) < rounding);
  const auto affine = [](const Tensors<double>& t) { return linear(t[0], t[1], t[2]); };
  CHECK(difference<double>(affine, {randn<double>({4, 9, 5}), randn<double>({7, 5}), randn<double>({7})}) < rounding);
  CHECK(difference<double>([](const Tensors<double>& t) { return linear(transpose(t[0]), t[1]); }, {randn<double>({5, 9}), randn<double>({7, 5})}) < rounding);
  CHECK(difference<double>(affine, {randn<double>({0, 5}), randn<double>({7, 5}), randn<double>({7})}) == 0);
  CHECK(difference<double>(affine, {randn<double>({3, 0}), randn<double>({7, 0}), randn<double>({7})}) == 0);
  CHECK(difference<double>(product, {randn<double>({2, 3, 0}), randn<double>({2, 0, 4})}) == 0);
}

TEST_CASE("products under bfloat16 are those of rounded operands, as on the CPU") {
  manual_seed(31);
  const auto rounded = [](const Tensor<float>& x) { return cast<double>(cast<bf16>(x)); };
  const Tensor<float> a = randn<float>({3, 20, 401}), b = randn<float>({3, 401, 17}), w = randn<float>({45, 401}), bias = randn<float>({45});
  const Tensor<float> plain = matmul(a.to(cuda()), b.to(cuda()));
  const MatmulPrecisionGuard guard(MatmulPrecision::bfloat16);
  const Tensor<float> there = matmul(a.to(cuda()), b.to(cuda()));
  CHECK(relative_error(plain, matmul(cast<double>(a), cast<double>(b))) < 1e-6);
  CHECK(relative_error(there, plain) > 1e-4);
  CHECK(relative_error(there, matmul(rounded(a), rounded(b))) < 1e-6);  // float sums of 401 terms: the bound of the CPU's test
  CHECK(relative_error(there, matmul(a, b)) < 1e-6);
  const auto layer = [](const Tensors<float>& t) { return linear(t[0], t[1], t[2]); };
  CHECK(relative_error(linear(a.to(cuda()), w.to(cuda()), bias.to(cuda())), add(linear(rounded(a), rounded(w)), cast<double>(bias))) < 1e-6);
  CHECK(difference<float>(layer, {a, w, bias}) < 1e-6);
  CHECK(difference<double>([](const Tensors<double>& t) { return matmul(t[0], t[1]); }, {cast<double>(a), cast<double>(b)}) < rounding);
}

TEST_CASE("products under bfloat16 of operands in any layout", "[small]") {
  manual_seed(33);
  const MatmulPrecisionGuard guard(MatmulPrecision::bfloat16);
  const auto product = [](const Tensors<float>& t) { return matmul(t[0], t[1]); };
  const auto affine = [](const Tensors<float>& t) { return linear(t[0], t[1], t[2]); };
  const Tensor<float> a = randn<float>({3, 4, 6, 5}), b = randn<float>({3, 4, 5, 7}), wide = randn<float>({3, 6, 4, 24}), w = randn<float>({8, 7});
  constexpr double exact = 2e-6;  // the same numbers, summed in another order, by tensor cores with sums cut off, not rounded
  CHECK(difference<float>(product, {a, b}) < exact);
  CHECK(difference<float>([](const Tensors<float>& t) { return matmul(transpose(t[1]), transpose(t[0])); }, {a, b}) < exact);
  for (const std::int64_t first : {8, 3}) {  // aligned to 16 bytes, and not
    const auto heads = [first](const Tensors<float>& t) {
      const Tensor<float> x = permute(slice(t[0], 3, first, first + 8), {0, 2, 1, 3});  // [B, H, N, d]
      return matmul(x, transpose(x));
    };
    CHECK(difference<float>(heads, {wide}) < exact);
  }
  CHECK(difference<float>([](const Tensors<float>& t) { return matmul(slice(t[0], 3, 0, 16, 2), t[1]); }, {wide, w}) < exact);
  CHECK(difference<float>([](const Tensors<float>& t) { return matmul(flip(t[0], -1), t[1]); }, {a, b}) < exact);
  CHECK(difference<float>([](const Tensors<float>& t) { return matmul(broadcast_to(slice(t[0], 2, 0, 1), {3, 4, 6, 5}), t[1]); }, {a, b}) < exact);
  CHECK(difference<float>([](const Tensors<float>& t) { return matmul(broadcast_to(t[0], {3, 4, 5, 7}), transpose(t[1])); },
                          {randn<float>({1, 4, 5, 7}), b}) < exact);
  for (const Shape& s : {Shape{1, 5, 9}, Shape{9, 1, 5}, Shape{5, 9, 1}, Shape{1, 1, 1}, Shape{70, 40, 24}, Shape{300, 129, 33}}) {
    INFO("sizes " << s);
    CHECK(difference<float>(product, {randn<float>({s[0], s[1]}), randn<float>({s[1], s[2]})}) < exact);
    CHECK(difference<float>(affine, {randn<float>({s[0], s[1]}), randn<float>({s[2], s[1]}), randn<float>({s[2]})}) < exact);
  }
  CHECK(difference<float>(affine, {randn<float>({0, 5}), randn<float>({7, 5}), randn<float>({7})}) == 0);
  CHECK(difference<float>(affine, {randn<float>({3, 0}), randn<float>({7, 0}), randn<float>({7})}) == 0);
  CHECK(difference<float>(product, {randn<float>({2, 3, 0}), randn<float>({2, 0, 4})}) == 0);
}

TEST_CASE("the MLP under bfloat16 is the one whose hidden layer and cotangents are rounded") {
  const auto rounded = [](const auto& x) { return cast<double>(cast<bf16>(x)); };
  // x, w1, b1, w2, b2 and y's cotangent: y, then the cotangents of the five, in double between roundings.
  const auto reference = [&](const Tensors<float>& t) {
    const Tensor<double> x = rounded(t[0]), w1 = rounded(t[1]), w2 = rounded(t[3]), g = rounded(t[5]);
    const Tensor<double> h = rounded(linear(x, w1, rounded(t[2]))), activated = rounded(gelu(h));
    const Tensor<double> slope = vjp<double>([](const Tensor<double>& s) { return gelu(s); }, h, ones<double>(h.shape()));
    const Tensor<double> dh = mul(rounded(matmul(g, w2)), slope), dh_rounded = rounded(dh);
    return Tensors<double>{linear(activated, w2, cast<double>(t[4])), matmul(dh_rounded, w1), matmul(transpose(dh_rounded), x), sum(dh, 0),
                           matmul(transpose(g), activated), sum(cast<double>(t[5]), 0)};
  };
  const auto f = [](const Tensors<float>& t) { return mlp(t[0], t[1], t[2], t[3], t[4]); };
  struct Sizes {
    std::int64_t R, C, M, out;
  };
  for (const Sizes& s : {Sizes{210, 12, 50, 7}, {70, 16, 136, 24}, {3, 8, 8, 8}, {1, 5, 3, 1}, {700, 24, 264, 136}}) {
    INFO("rows " << s.R << ", widths " << s.C << ", " << s.M << ", " << s.out);
    manual_seed(34);
    const Tensors<float> all{randn<float>({s.R, s.C}),   randn<float>({s.M, s.C}), randn<float>({s.M}),
                             randn<float>({s.out, s.M}), randn<float>({s.out}),    randn<float>({s.R, s.out})};
    Tensors<float> there;
    for (const Tensor<float>& x : all) there.push_back(x.to(cuda()));
    const Tensors<float> xs(there.begin(), there.end() - 1);
    const Tensors<double> expected = reference(all);
    const MatmulPrecisionGuard guard(MatmulPrecision::bfloat16);
    // Float sums that end beside a tie are rounded to the other side than double ones: rarely, and by 2⁻⁸ of themselves.
    constexpr double bound = 2e-4;
    CHECK(relative_error(no_grad([&] { return f(xs); }), expected[0]) < bound);
    const Tensors<float> pulled = vjp<float>(f, xs, there[5]);
    for (std::size_t i = 0; i < 5; ++i) {
      INFO("cotangent of input " << i);
      CHECK(relative_error(pulled[i], expected[i + 1]) < bound);
      const auto of_one = [&](const Tensors<float>& t) {
        Tensors<float> inputs = xs;
        inputs[i] = t[0];
        return f(inputs);
      };
      CHECK(vjp<float>(of_one, Tensors<float>{xs[i]}, there[5])[0].to_vector() == pulled[i].to_vector());
    }
  }
}

TEST_CASE("the MLP of many rows, with and without a hidden layer to keep") {
  manual_seed(32);
  const Tensors<double> xs{randn<double>({3, 70, 12}), randn<double>({50, 12}), randn<double>({50}), randn<double>({7, 50}), randn<double>({7})};
  const auto f = [](const Tensors<double>& t) { return mlp(t[0], t[1], t[2], t[3], t[4]); };
  CHECK(difference<double>(f, xs) < rounding);
  CHECK(difference<double>([&](const Tensors<double>& t) { return f({transpose(t[0]), transpose(t[1]), t[2], transpose(t[3]), t[4]}); },
                           {transpose(xs[0]).contiguous(), transpose(xs[1]).contiguous(), xs[2], transpose(xs[3]).contiguous(), xs[4]}) < rounding);
  Tensors<double> there;
  for (const Tensor<double>& x : xs) there.push_back(x.to(cuda()));
  CHECK(relative_error(no_grad([&] { return f(there); }), f(xs)) < rounding);
  Tensors<float> floats, floats_there;  // their products add the bias
  for (const Tensor<double>& x : xs) floats.push_back(cast<float>(x)), floats_there.push_back(floats.back().to(cuda()));
  const Tensor<float> y = mlp(floats_there[0], floats_there[1], floats_there[2], floats_there[3], floats_there[4]);
  CHECK(relative_error(y, f(xs)) < 1e-6);
}

TEST_CASE("convolutions whose weights' gradients need several parts", "[small]") {
  manual_seed(4);
  const auto conv = [](const Conv2dOptions& o) { return [o](const Tensors<double>& t) { return conv2d(t[0], t[1], {}, o); }; };
  const auto depthwise = [](const Conv2dOptions& o) { return [o](const Tensors<double>& t) { return depthwise_conv2d(t[0], t[1], o); }; };
  const Tensor<double> x = randn<double>({5, 17, 13, 6});
  CHECK(difference<double>(conv({.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}}), {x, randn<double>({4, 6, 3, 3})}) < rounding);
  CHECK(difference<double>(conv({.stride = 4}), {x, randn<double>({8, 6, 4, 4})}) < rounding);
  CHECK(difference<double>(conv({.padding = 1, .groups = 3}), {x, randn<double>({9, 2, 3, 3})}) < rounding);
  CHECK(difference<double>(depthwise({.padding = 1}), {x, randn<double>({6, 1, 3, 3})}) < rounding);
  CHECK(difference<double>(depthwise({.stride = 2, .padding = 2}), {x, randn<double>({5, 6, 5, 3})}) < rounding);
  CHECK(difference<double>(depthwise({.padding = 1}), {randn<double>({0, 4, 4, 6}), randn<double>({6, 1, 3, 3})}) == 0);
}

TEST_CASE("convolutions as products of patches: disjoint, overlapping, dilated, of one tap, of slices", "[small]") {
  manual_seed(41);
  const auto conv = [](const Conv2dOptions& o) { return [o](const Tensors<double>& t) { return conv2d(t[0], t[1], {}, o); }; };
  const Tensor<double> x = randn<double>({3, 19, 23, 4});
  CHECK(difference<double>(conv({.stride = 16}), {randn<double>({2, 35, 48, 3}), randn<double>({5, 3, 16, 16})}) < rounding);
  CHECK(difference<double>(conv({.stride = {3, 2}}), {x, randn<double>({5, 4, 3, 2})}) < rounding);
  CHECK(difference<double>(conv({.padding = {1, 2}}), {x, randn<double>({5, 4, 3, 3})}) < rounding);
  CHECK(difference<double>(conv({.stride = 2, .padding = 1}), {randn<double>({3, 9, 8, 3}), randn<double>({6, 3, 3, 3})}) < rounding);
  CHECK(difference<double>(conv({.stride = {3, 2}, .padding = 3, .dilation = {2, 3}}), {x, randn<double>({5, 4, 3, 3})}) < rounding);
  CHECK(difference<double>(conv({}), {x, randn<double>({7, 4, 1, 1})}) < rounding);
  CHECK(difference<double>(conv({.stride = 2}), {x, randn<double>({7, 4, 1, 1})}) < rounding);
  for (const std::int64_t first : {0, 1, 2})  // at every alignment; pixels are no rows of a matrix
    CHECK(difference<double>(
              [&](const Tensors<double>& t) {
                const Tensor<double> y = conv2d(slice(slice(t[0], 3, first, first + 2), 1, 2, 11), t[1], {}, {.padding = 1});
                return add(slice(y, 3, 0, 2), conv2d(slice(t[0], 3, first, first + 2), t[2], {}, {.stride = {2, 1}}));
              },
              {randn<double>({3, 17, 17, 4}), randn<double>({5, 2, 3, 3}), randn<double>({2, 2, 1, 1})}) < rounding);
}

TEST_CASE("a convolution whose patches come in two pieces") {
  manual_seed(46);
  const auto conv = [](const Tensors<double>& t) { return conv2d(t[0], t[1], {}, {.padding = 8}); };  // 1.3 · 2^24 numbers
  CHECK(difference<double>(conv, {randn<double>({20, 64, 64, 1}), randn<double>({2, 1, 16, 16})}) < rounding);
}

TEST_CASE("convolutions under bfloat16 are those of rounded operands, as on the CPU", "[small]") {
  manual_seed(42);
  const Tensors<float> xs{randn<float>({2, 9, 9, 6}), randn<float>({8, 6, 3, 3})};
  const auto f = [](const Tensors<float>& t) { return conv2d(t[0], t[1], {}, {.padding = 1}); };
  const Tensor<float> plain = f({xs[0].to(cuda()), xs[1].to(cuda())});
  CHECK(difference<float>(f, xs) < 1e-6);
  const MatmulPrecisionGuard guard(MatmulPrecision::bfloat16);
  CHECK(difference<float>(f, xs) < 1e-6);
  CHECK(relative_error(f({xs[0].to(cuda()), xs[1].to(cuda())}), plain) > 1e-4);
}

TEST_CASE("depthwise 3 × 3 of every width, height and alignment, with one kernel or one per image", "[small]") {
  manual_seed(43);
  const auto f = [](const auto& t) { return depthwise_conv2d(t[0], t[1], {.padding = 1}); };
  for (const Shape& shape : {Shape{5, 14, 14, 24}, Shape{3, 37, 5, 7}, Shape{2, 1, 1, 66}, Shape{1, 20, 33, 130}, Shape{150, 7, 14, 8}}) {
    INFO(shape);
    const std::int64_t B = shape[0], C = shape[3];
    CHECK(difference<double>(f, Tensors<double>{randn<double>(shape), randn<double>({C, 1, 3, 3})}) < rounding);
    CHECK(difference<double>(f, Tensors<double>{randn<double>(shape), randn<double>({B, C, 3, 3})}) < rounding);
    CHECK(difference<float>(f, Tensors<float>{randn<float>(shape), randn<float>({C, 1, 3, 3})}) < 2e-6);
  }
  for (const std::int64_t first : {1, 2})
    CHECK(difference<double>([&](const Tensors<double>& t) { return f(Tensors<double>{slice(slice(t[0], 3, first, first + 6), 2, 1, 8), t[1]}); },
                             {randn<double>({3, 8, 9, 8}), randn<double>({6, 1, 3, 3})}) < rounding);
}

TEST_CASE("the convolution head of any size and alignment, in shared memory or not", "[small]") {
  manual_seed(44);
  struct Sizes {
    std::int64_t B, h, w, d, gap;
  };
  for (const Sizes& s : {Sizes{3, 14, 14, 20, 0}, {2, 5, 9, 7, 1}, {2, 4, 6, 12, 1}, {1, 40, 33, 10, 0}, {70, 1, 2, 4, 0}, {1, 3, 70, 64, 4}}) {
    INFO(s.h << " x " << s.w << " tokens of " << s.d);
    const auto run = [&]<class T>(Device device, T) {
      manual_seed(45);
      const std::int64_t wide = s.d + s.gap;
      const Tensor<T> in = randn<T>({s.B, s.h, s.w, 3 * wide}).to(device), w = randn<T>({1, s.d, 3, 3}).to(device);
      const Tensor<T> cotangent = randn<T>({s.B, s.h, s.w, s.d}).to(device);
      Tensor<T> g(Shape{s.B, 9, s.d}, device), o(Shape{s.B, s.h, s.w, s.d}, device), dw(w.shape(), device), all = zeros<T>(in.shape(), device);
      const auto part = [&](const Tensor<T>& x, int i) { return slice(x, 3, i * wide, i * wide + s.d); };
      Tensor<T> dq = part(all, 0), dk = part(all, 1), dv = part(all, 2);
      const TttStep step{.rate = 0.7, .loss_scale = 1.3};
      const DwconvOperands<const T> operands{view(part(in, 0)), view(part(in, 1)), view(part(in, 2)), view(w)};
      backend::ttt_dwconv<T>(operands, step, g.data(), mutable_view(o));
      backend::ttt_dwconv_pull<T>(operands, step, g.data(), view(cotangent), {mutable_view(dq), mutable_view(dk), mutable_view(dv), mutable_view(dw)});
      return Tensors<T>{o, g, all, dw};
    };
    const auto compare = [&](auto zero, double tolerance) {
      const auto here = run(cpu(), zero), there = run(cuda(), zero);
      for (std::size_t i = 0; i < here.size(); ++i) CHECK(relative_error(there[i], here[i]) < tolerance);
    };
    compare(0.0, rounding);
    compare(0.0F, 2e-6);
  }
}

TEST_CASE("attention over several tiles, and heads so wide that tiles shrink", "[small]") {
  manual_seed(5);
  struct Sizes {
    std::int64_t B, H, N, M, d;
  };
  for (const Sizes& s : {Sizes{2, 3, 70, 45, 8}, {1, 2, 33, 100, 65}, {1, 1, 5, 3, 300}, {1, 1, 32, 32, 32}}) {
    INFO(s.N << " queries, " << s.M << " keys of " << s.d);
    const Tensors<double> xs{randn<double>({s.B, s.H, s.N, s.d}), randn<double>({s.B, s.H, s.M, s.d}), randn<double>({s.B, s.H, s.M, s.d})};
    CHECK(difference<double>([](const Tensors<double>& t) { return attention(t[0], t[1], t[2]); }, xs) < 1e-11);
  }
}

TEST_CASE("attention whose products round to bf16 agrees with the definition within its rounding", "[small]") {
  manual_seed(15);
  struct Sizes {
    std::int64_t B, H, N, M, d;
  };
  for (const Sizes& s : {Sizes{2, 3, 70, 45, 32}, {1, 2, 130, 64, 64}, {1, 1, 1, 3, 32}}) {
    INFO(s.N << " queries, " << s.M << " keys of " << s.d);
    const Tensors<double> xs{randn<double>({s.B, s.H, s.N, s.d}), randn<double>({s.B, s.H, s.M, s.d}), randn<double>({s.B, s.H, s.M, s.d})};
    const Tensor<double> u = randn<double>(xs[0].shape());
    Tensors<float> there;
    for (const Tensor<double>& x : xs) there.push_back(cast<float>(x).to(cuda()));
    const auto of_double = [](const Tensors<double>& t) { return attention(t[0], t[1], t[2]); };
    const auto of_float = [](const Tensors<float>& t) { return attention(t[0], t[1], t[2]); };
    Tensors<double> expected = vjp<double>(of_double, xs, u);
    expected.push_back(of_double(xs));
    const MatmulPrecisionGuard rounded(MatmulPrecision::bfloat16);
    Tensors<float> found = vjp<float>(of_float, there, cast<float>(u).to(cuda()));
    found.push_back(of_float(there));
    for (std::size_t i = 0; i < found.size(); ++i) {
      INFO("tensor " << i);
      const double error = relative_error(found[i], expected[i]);
      CHECK(error < 1.5e-2);
      CHECK(error > 1e-5);
    }
  }
}

TEST_CASE("random numbers are the CPU's: uniform ones bit for bit, normal ones but for the last bit") {
  for (const std::int64_t n : {1, 1000}) {
    const auto same = [](const auto& draw) {
      manual_seed(9);
      const auto here = draw(cpu());
      manual_seed(9);
      return draw(cuda()).to_vector() == here.to_vector();
    };
    CHECK(same([n](Device d) { return rand<float>({n}, d); }));
    CHECK(same([n](Device d) { return uniform<double>({n}, -3, 7.7, d); }));
    CHECK(same([n](Device d) { return uniform<float>({n}, -3, 7.7, d); }));
    const auto error = [](const auto& draw) {
      manual_seed(9);
      const auto here = draw(cpu());
      manual_seed(9);
      return relative_error(draw(cuda()), here);
    };
    CHECK(error([n](Device d) { return randn<float>({n}, d); }) < 1e-7);
    CHECK(error([n](Device d) { return trunc_normal<double>({n}, 0.5, 1, d); }) < 1e-15);
  }
}

TEST_CASE("AdamW on the GPU steps as on the CPU", "[small]") {
  const auto after = [](Device device) {
    manual_seed(6);
    Tensor<float> p = randn<float>({300}).to(device).detach();
    p.requires_grad();
    AdamW<float> optimizer({{{{"p", p}}, 0.1, 1}}, {.lr = 0.01});
    for (int k = 0; k < 3; ++k) {
      p.set_grad(randn<float>({300}).to(device));
      optimizer.step();
    }
    return p.detach().to(cpu());
  };
  CHECK(relative_error(after(cuda()), after(cpu())) < 1e-6);  // compilers fuse multiplications and additions as they like
}

TEST_CASE("AdamW over more parameters than one launch takes, clipped in the update") {
  const auto after = [](Device device) {
    manual_seed(16);
    Tensors<float> parameters;
    StateDict<float> named;
    for (int i = 0; i < 200; ++i) {
      parameters.push_back(randn<float>({i % 5 == 0 ? 0 : i % 7 == 0 ? 4097 : 1 + i}).to(device).detach().requires_grad());
      named.emplace_back("p", parameters.back());
    }
    AdamW<float> optimizer({{named, 0.1, 0.5}});
    for (int k = 0; k < 2; ++k) {
      for (const Tensor<float>& p : parameters) p.set_grad(randn<float>(p.shape()).to(device));
      const GradNorm found = grad_norm(parameters, 3);
      CHECK(found.norm.device() == device);
      CHECK(found.norm.item() == Approx(std::sqrt(108051.0)).epsilon(0.02));  // as many numbers of deviation 1
      optimizer.step(found.scale);
    }
    for (Tensor<float>& p : parameters) p = p.detach().to(cpu());
    return parameters;
  };
  const Tensors<float> here = after(cpu()), there = after(cuda());
  double worst = 0;
  for (std::size_t i = 0; i < here.size(); ++i)
    if (here[i].numel() > 0) worst = std::max(worst, relative_error(there[i], here[i]));
  CHECK(worst < 1e-6);
}

TEST_CASE("index tensors live on the GPU; a position out of range reads NaN and adds nothing", "[small]") {
  const Tensor<std::int64_t> index = tensor<std::int64_t>({2, 0, 9, -1}).to(cuda());
  const Tensor<float> x = tensor({10, 11, 12}).to(cuda());
  const std::vector<float> read = gather(x, index, 0).to_vector();
  CHECK((read[0] == 12 && read[1] == 10 && std::isnan(read[2]) && std::isnan(read[3])));
  CHECK(scatter_add(ones<float>({4}, cuda()), index, 0, 3).to_vector() == std::vector<float>{1, 0, 1});
  CHECK(transpose(reshape(index, {2, 2})).contiguous().to_vector() == std::vector<std::int64_t>{2, 9, 0, -1});
  CHECK((index * 3 + 1).to_vector() == std::vector<std::int64_t>{7, 1, 28, -2});
  CHECK(gather(index, tensor<std::int64_t>({1, 1}).to(cuda()), 0).to_vector() == std::vector<std::int64_t>{0, 0});
  CHECK(one_hot<float>(tensor<std::int64_t>({1, 0}).to(cuda()), 2).to_vector() == std::vector<float>{0, 1, 1, 0});
  Tensor<std::int64_t> total(Shape{1}, cuda());
  backend::reduce(Reduction::max, view(index), mutable_view(total));
  CHECK(total.item() == 9);
}

TEST_CASE("copies between devices are recorded, and devices never mix", "[small]") {
  const auto f = [](const Tensor<double>& x) { return sum(square(x.to(cuda())).to(cpu())); };
  CHECK(grad(f)(tensor<double>({1, 2})).to_vector() == std::vector<double>{2, 4});
  CHECK(grad([&](const Tensor<double>& x) { return sum(mul(grad(f)(x), x)); })(tensor<double>({1, 2})).to_vector() == std::vector<double>{4, 8});
  CHECK_THROWS_WITH(add(ones<float>({2}), ones<float>({2}, cuda())),
                    "ttt::add: operands on different devices: a on cpu, b on cuda:0. Hint: move one with to(device)");
  CHECK_THROWS_WITH(ones<float>({2}, cuda(63)), ContainsSubstring("ttt::cuda: no such GPU: cuda:63 of "));
}

TEST_CASE("memory of the GPU is counted, kept, given back and limited") {
  CHECK(cuda_available());
  release_cuda_memory();
  const CudaMemory before = cuda_memory();
  {
    const Tensor<float> x(Shape{1 << 20}, cuda());
    CHECK(cuda_memory().in_use == before.in_use + (4 << 20));
    CHECK(cuda_memory().peak >= cuda_memory().in_use);
  }
  CHECK(cuda_memory().in_use == before.in_use);
  CHECK(cuda_memory().cached >= (4u << 20));
  release_cuda_memory();
  set_cuda_memory_limit(before.in_use + before.cached + (8 << 20));
  CHECK_THROWS_WITH(Tensor<float>(Shape{4 << 20}, cuda()), ContainsSubstring("ttt::cuda:0: out of memory: 16777216 bytes asked for, "));
  CHECK_NOTHROW(Tensor<float>(Shape{1 << 20}, cuda()));
  set_cuda_memory_limit(before.limit);
  CHECK_NOTHROW(Tensor<float>(Shape{4 << 20}, cuda()));
}
