#pragma once
/// Recompute instead of remember: a part of the graph whose intermediate values are dropped and made again
/// when the sweep arrives.

#include <optional>
#include <utility>

#include "tttlib/autograd/transforms.hpp"
#include "tttlib/backend/precision.hpp"
#include "tttlib/core/random.hpp"

namespace ttt {

namespace detail {

/// Puts the default generator back to a given point for one scope, so that f draws the same numbers again.
class RandomReplay {
 public:
  RandomReplay(std::uint64_t seed, std::uint64_t stream)
      : seed_(default_generator().seed), stream_(default_generator().next_stream) {
    default_generator().seed = seed;
    default_generator().next_stream = stream;
  }
  ~RandomReplay() {
    default_generator().seed = seed_;
    default_generator().next_stream = stream_;
  }
  RandomReplay(const RandomReplay&) = delete;
  RandomReplay& operator=(const RandomReplay&) = delete;

 private:
  std::uint64_t seed_, stream_;
};

/// One run of a checkpointed function on fresh leaves. Every tracked node it reached that is older than the
/// run is either one of those leaves or belongs to a tensor that f captured.
template <class T>
struct CheckpointRun {
  Tensors<T> leaves;  // an alias of each tracked x; the others are constants
  std::uint64_t start = 0;
  Tensor<T> y;

  template <class F>
  CheckpointRun(const F& f, const Tensors<T>& xs) {
    for (const Tensor<T>& x : xs) leaves.push_back(x.is_tracked() ? alias_of(x) : x);
    start = node_counter().load(std::memory_order_relaxed);
    const Recording recording;
    y = f(leaves);
  }

  /// The nodes of captured tensors, oldest first.
  std::vector<std::shared_ptr<Node>> captured(SweepOrder& order) const {
    std::vector<std::shared_ptr<Node>> found;
    for (std::size_t i = 0; i < order.older(); ++i) {
      const std::shared_ptr<Node>& node = order.nodes()[i];
      bool is_leaf = false;
      for (const Tensor<T>& leaf : leaves) is_leaf = is_leaf || leaf.node() == node;
      if (!is_leaf) found.push_back(node);
    }
    return found;
  }
};

/// Inputs: xs with their values, then the captured tensors.
template <class T, class F>
struct CheckpointNode final : Node {
  std::optional<F> f;  // until the node is released
  std::size_t arguments;
  std::uint64_t seed, stream;
  MatmulPrecision precision = matmul_precision();  // f has to do the same again
  CheckpointNode(F function, std::size_t count, std::uint64_t random_seed, std::uint64_t random_stream)
      : Node("checkpoint"),
        f(std::move(function)),
        arguments(count),
        seed(random_seed),
        stream(random_stream) {}

  void drop_rules() override { f.reset(); }
  void pull(const TensorBase& g, const std::vector<bool>& needs, std::vector<TensorBase>& out) override {
    Tensors<T> xs;
    for (std::size_t i = 0; i < arguments; ++i)
      xs.emplace_back(restore(inputs[i], inputs[i].node, op, "input"));
    for (std::size_t i = arguments; i < inputs.size(); ++i)  // only to see that nobody changed it
      if (inputs[i].saved.defined()) restore(inputs[i], nullptr, op, "captured tensor");
    const bool recorded = grad_mode();
    const MatmulPrecisionGuard same_precision(precision);
    const CheckpointRun<T> run = [&] {
      const RandomReplay replay(seed, stream);
      return CheckpointRun<T>(*f, xs);
    }();
    const std::vector<SweepRoot> roots{{run.y.node(), g}};
    SweepOrder order(roots, run.start);
    const std::vector<std::shared_ptr<Node>> captured = run.captured(order);
    bool same = run.y.is_tracked() && captured.size() + arguments == inputs.size();
    for (std::size_t i = 0; same && i < captured.size(); ++i)
      same = captured[i] == inputs[arguments + i].node;
    if (!same)
      fail<GradError>("checkpoint", "run again, the function uses other captured tensors than before",
                      "capture by value what changes between forward and backward");
    std::vector<Node*> targets;
    for (std::size_t i = 0; i < needs.size(); ++i)
      if (needs[i]) targets.push_back(i < arguments ? run.leaves[i].node().get() : inputs[i].node.get());
    const std::vector<TensorBase> found = sweep(roots, order, targets, /*release=*/!recorded);
    for (std::size_t i = 0, next = 0; i < needs.size(); ++i)
      if (needs[i]) out[i] = found[next++];
  }
};

}  // namespace detail

/// f(xs) without keeping what f computes on the way: the sweep runs f again, with the same random numbers.
/// Gradients reach xs and every tracked tensor that f captures, to any order. f must do the same each time it
/// is called, and is kept by value. Throws GradError from the sweep if f then uses other captured tensors.
template <class T, class F>
Tensor<T> checkpoint(F f, const Tensors<T>& xs) {
  if (!grad_mode()) return f(xs);
  const std::uint64_t seed = default_generator().seed, stream = default_generator().next_stream;
  const detail::CheckpointRun<T> run(f, xs);
  if (!run.y.is_tracked()) return run.y;
  SweepOrder order({{run.y.node(), TensorBase()}}, run.start);
  auto node = std::make_shared<detail::CheckpointNode<T, F>>(std::move(f), xs.size(), seed, stream);
  std::vector<Operand> inputs;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const bool used = order.position(run.leaves[i].node().get()) != SweepOrder::npos;
    inputs.push_back(saved(used ? xs[i] : xs[i].detach()));
  }
  detail::connect(*node, run.y, inputs.data(), inputs.size());
  for (const std::shared_ptr<Node>& captured : run.captured(order)) {
    Edge edge = captured->output;
    edge.node = captured;
    if (edge.saved.defined()) edge.version = edge.saved.storage()->version();
    node->inputs.push_back(std::move(edge));
  }
  Tensor<T> y = run.y;
  y.set_node(std::move(node));
  return y;
}

/// The same for a function of one tensor.
template <class T, class F>
Tensor<T> checkpoint(F f, const Tensor<T>& x) {
  return checkpoint([f = std::move(f)](const Tensors<T>& xs) { return f(xs[0]); }, Tensors<T>{x});
}

}  // namespace ttt
