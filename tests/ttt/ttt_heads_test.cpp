// The fused heads of a block against their nested definition: values, gradients, gradients of gradients.
#include "catch.hpp"
#include "heads_example.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"

using namespace ttt;
using namespace heads_test;

namespace {

template <class T>
Tensor<T> heads(const Tensors<T>& x, TttPath path) {
  return ttt_heads<T>(x[0], {x[1], x[2], x[3]}, path);
}
/// The answers and the cotangents of qkv, w1, w2, w3, by an unrecorded sweep.
template <class T>
Tensors<T> answers_and_gradients(const Tensors<T>& x, const Tensor<T>& u, TttPath path) {
  Tensors<T> all{heads(x, path)};
  for (Tensor<T>& g : vjp<T>([&](const Tensors<T>& at) { return heads(at, path); }, x, u)) all.push_back(std::move(g));
  return all;
}

const Sizes all_sizes[] = {{2, 3, 5, 2, 8},  {1, 1, 1, 1, 4},   {1, 1, 7, 3, 1},  {3, 2, 2, 1, 3},    {1, 4, 3, 2, 20},  {1, 12, 13, 1, 16},
                           {17, 2, 3, 2, 5}, {1, 3, 3, 1, 128}, {2, 5, 1, 1, 33}, {1, 14, 14, 2, 64}, {1, 17, 16, 1, 9}};

}  // namespace

TEST_CASE("fused heads agree with the nested definition in values and gradients") {
  manual_seed(1);
  for (const Sizes& s : all_sizes) {
    INFO(s);
    const Tensors<double> x = example<double>(s);
    const Tensor<double> u = randn<double>({s.images, s.height, s.width, (s.heads + 1) * s.d});
    const Tensors<double> fused = answers_and_gradients(x, u, TttPath::fused), nested = answers_and_gradients(x, u, TttPath::nested);
    for (std::size_t i = 0; i < fused.size(); ++i) {
      INFO("tensor " << i);
      CHECK(relative_error(fused[i], nested[i]) < 1e-12);
    }
    Tensors<float> small;
    for (const Tensor<double>& t : x) small.push_back(cast<float>(t));
    const Tensors<float> single = answers_and_gradients(small, cast<float>(u), TttPath::fused);
    for (std::size_t i = 0; i < single.size(); ++i) {
      INFO("float tensor " << i);
      CHECK(relative_error(cast<double>(single[i]), nested[i]) < (i == 0 ? 1e-5 : 1e-4));
    }
  }
}

TEST_CASE("fused heads have exact gradients of gradients") {
  manual_seed(2);
  for (const Sizes& s : {Sizes{2, 2, 3, 2, 3}, Sizes{1, 1, 1, 1, 2}}) {
    INFO(s);
    const Tensors<double> x = example<double>(s), t = example<double>(s);
    const GradCheck check = check_grads([](const Tensors<double>& at) { return heads(at, TttPath::fused); }, x, 2);
    INFO(check);
    CHECK(check);
    const auto second = [&](TttPath path) {  // the gradient of a directional derivative
      const auto slope = [&](const Tensors<double>& at) {
        Tensor<double> total = zeros<double>({});
        const Tensors<double> g = grad([&](const Tensors<double>& w) { return sum(square(heads(w, path))); })(at);
        for (std::size_t i = 0; i < g.size(); ++i) total = add(total, sum(mul(g[i], t[i])));
        return total;
      };
      return grad(slope)(x);
    };
    const Tensors<double> fused = second(TttPath::fused), nested = second(TttPath::nested);
    for (std::size_t i = 0; i < fused.size(); ++i) CHECK(relative_error(fused[i], nested[i]) < 1e-11);
  }
}

TEST_CASE("no images make no answers and zero gradients; another width is refused") {
  const Tensors<double> x = example<double>({0, 2, 2, 2, 3});
  const Tensors<double> all = answers_and_gradients(x, zeros<double>({0, 2, 2, 9}), TttPath::fused);
  CHECK(all[0].shape() == Shape{0, 2, 2, 9});
  for (std::size_t i = 2; i < all.size(); ++i) CHECK(amax(abs(all[i])).item() == 0);
  const Tensors<double> narrow = answers_and_gradients(example<double>({1, 2, 2, 2, 0}), zeros<double>({1, 2, 2, 0}), TttPath::fused);
  CHECK(narrow[0].shape() == Shape{1, 2, 2, 0});  // heads without channels
  for (TttPath path : {TttPath::fused, TttPath::closed})
    CHECK_THROWS_WITH(ttt_heads<double>(zeros<double>({1, 2, 2, 28}), {x[1], x[2], x[3]}, path),
                      ContainsSubstring("needs q, k, v of all heads [B, h, w, 3(H + 1)d]: qkv [1, 2, 2, 28], w1 [1, 2, 3, 3]"));
}

TEST_CASE("where an inner gradient is zero the fused heads follow the definition") {
  manual_seed(3);
  Tensors<double> x = example<double>({2, 2, 3, 2, 4});
  const NoGradGuard guard;
  for (std::int64_t i = 0; i < x[0].numel(); ++i) {  // values of head 0 and of the extra head
    const std::int64_t at = i % 36, part = at < 24 ? at / 8 : (at - 24) / 4;
    if (part == 2 && (at >= 24 || at % 8 < 4)) x[0].data()[i] = 0;
  }
  const Tensor<double> u = randn<double>({2, 2, 3, 12});
  const Tensors<double> fused = answers_and_gradients(x, u, TttPath::fused), nested = answers_and_gradients(x, u, TttPath::nested);
  for (std::size_t i = 0; i < fused.size(); ++i) CHECK(relative_error(fused[i], nested[i]) < 1e-12);
}

TEST_CASE("fused heads give the same bits on any number of threads, and read any layout") {
  manual_seed(4);
  const Sizes s{5, 9, 15, 3, 24};
  const Tensors<float> x = example<float>(s);
  const Tensor<float> u = randn<float>({s.images, s.height, s.width, (s.heads + 1) * s.d});
  const int before = num_threads();
  set_num_threads(1);
  const Tensors<float> one = answers_and_gradients(x, u, TttPath::fused);
  for (int threads : {2, 3, 4}) {
    set_num_threads(threads);
    const Tensors<float> more = answers_and_gradients(x, u, TttPath::fused);
    for (std::size_t i = 0; i < one.size(); ++i) CHECK((more[i].to_vector() == one[i].to_vector()));
  }
  set_num_threads(before);
  // Rows and columns swapped in memory; weights transposed in memory.
  Tensors<float> odd{transpose(contiguous(transpose(x[0], 1, 2)), 1, 2), transpose(contiguous(transpose(x[1]))), x[2], x[3]};
  const Tensors<float> strided = answers_and_gradients(odd, u, TttPath::fused);
  for (std::size_t i = 0; i < one.size(); ++i) CHECK((strided[i].to_vector() == one[i].to_vector()));
}
