// Grad mode, trails and sweeps belong to their thread.
#include <atomic>
#include <thread>

#include "helpers.hpp"

using namespace ttt;

namespace {
template <class F>
void on_threads(int n, const F& f) {
  std::vector<std::thread> threads;
  for (int t = 0; t < n; ++t) threads.emplace_back(f);
  for (std::thread& thread : threads) thread.join();
}
}  // namespace

TEST_CASE("concurrent no_grad forwards of one model") {
  const NoLeaks leaks;
  manual_seed(11);
  TttExample step;
  step.w.requires_grad();
  const auto expected = no_grad([&] { return TttExample::output(step.q, step.k, step.v, step.w); });
  std::atomic<int> wrong{0};
  on_threads(4, [&] {
    const NoGradGuard guard;
    for (int i = 0; i < 20; ++i) {
      const auto y = TttExample::output(step.q, step.k, step.v, step.w);
      if (y.is_tracked() || !same_bits(y, expected)) ++wrong;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("concurrent independent gradients") {
  const NoLeaks leaks;
  manual_seed(12);
  const TttExample step;
  const Tensors<double> expected = grad(TttExample::loss)(step.all());
  auto shared = tensor<double>({2}).requires_grad();  // captured by all
  std::atomic<int> wrong{0};
  on_threads(4, [&] {
    for (int i = 0; i < 10; ++i) {
      const Tensors<double> g = grad(TttExample::loss)(step.all());
      for (std::size_t k = 0; k < 4; ++k)
        if (g[k].is_tracked() || !same_bits(g[k], expected[k])) ++wrong;
      auto mine = tensor<double>({3}).requires_grad();
      sum(mine * mine * shared.detach()).backward();
      const auto recorded =
          grad([&](const Tensor<double>& x) { return sum(x * x * shared); })(tensor<double>({1}));
      if (!has_values(mine.grad(), {12}) || !recorded.is_tracked() || !has_values(recorded, {4})) ++wrong;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("concurrent backward passes add up in a shared leaf") {
  const NoLeaks leaks;
  auto w = ones<double>({2, 2}).requires_grad();
  on_threads(4, [&] {
    for (int i = 0; i < 50; ++i) sum(matmul(w, w)).backward();
  });
  CHECK(has_values(w.grad(), {800, 800, 800, 800}));
}

TEST_CASE("grad mode, module path and anomaly mode are per thread") {
  const NoLeaks leaks;
  const NoGradGuard no_recording;
  const AnomalyGuard anomaly;
  const Scope scope("outside");
  on_threads(1, [] {
    if (!grad_mode() || anomaly_mode() || current_trail())
      throw std::logic_error("state leaked between threads");
  });
  CHECK_FALSE(grad_mode());
}
