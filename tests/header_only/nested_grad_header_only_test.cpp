// The headers alone, without the compiled library: a gradient through an inner gradient step, with random
// numbers.
#if defined(TTTLIB_COMPILED)
#error "this program must not see the compiled library"
#endif

#include "catch.hpp"
#include "tttlib/autograd/backward.hpp"
#include "tttlib/core/print.hpp"
#include "tttlib/ops/matmul.hpp"
#include "tttlib/ops/reduce.hpp"

using namespace ttt;

TEST_CASE("a gradient through an inner step needs no library to link") {
  manual_seed(1);
  const auto q = randn<float>({2, 5, 3}), k = randn<float>({2, 5, 3}),
             v = randn<float>({2, 5, 3});  // [B, N, d]
  const auto outer = [&](const Tensor<float>& w0) {
    const auto w = expand(w0, {2, 3, 3});  // [B, d, d]
    const auto inner = [&](const Tensor<float>& w) { return sum(square(matmul(k, w) - v)); };
    return mean(square(matmul(q, w - grad(inner)(w) * 0.1f)));
  };
  auto w0 = trunc_normal<float>({3, 3}, 0.02);  // [d, d]
  const auto g = grad(outer)(w0);
  w0.requires_grad();
  outer(w0).backward();
  CHECK(g.to_vector() == w0.grad().to_vector());
  CHECK(to_string(tensor({1, 2})) == "[1. 2.]  float32 [2]");
}
