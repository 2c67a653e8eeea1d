#pragma once
/// The backward sweep: walks nodes (not paths) from newest to oldest, with loops, and frees as it goes.

#include <functional>
#include <unordered_map>
#include <vector>

#include "tttlib/autograd/accumulate.hpp"

namespace ttt {

/// What a sweep starts from: a tracked tensor's node and the cotangent of that tensor.
struct SweepRoot {
  std::shared_ptr<Node> node;
  TensorBase cotangent;
};

/// A graph laid out for sweeping: every node reachable from the roots, oldest first.
/// Nodes older than `start` are met, not entered: they belong to somebody outside.
class SweepOrder {
 public:
  SweepOrder(const std::vector<SweepRoot>& roots, std::uint64_t start);

  /// How many nodes older than `start` were met: a parameter, a captured tensor, a tracked argument. They
  /// come first.
  std::size_t older() const { return older_; }
  std::vector<std::shared_ptr<Node>>& nodes() { return nodes_; }
  /// Position of a node, or npos if it was not reached.
  std::size_t position(const Node* node) const {
    const auto found = seen_.find(const_cast<Node*>(node));
    return found == seen_.end() ? npos : found->second;
  }
  static constexpr std::size_t npos = static_cast<std::size_t>(-1);

 private:
  std::unordered_map<Node*, std::size_t> seen_;
  std::vector<std::shared_ptr<Node>> nodes_;
  std::size_t older_ = 0;
};

/// Told the number of a target, and its cotangent, as soon as nothing is added to that any more, while the sweep goes on. It may take
/// the cotangent out if the target is a leaf.
using TargetHook = std::function<void(std::size_t target, TensorBase& cotangent)>;

/// Cotangents of `targets` (undefined where none arrives). Recorded iff grad mode is on at the call.
/// With `release`, saved values are dropped as the sweep passes and a second sweep throws GradError.
std::vector<TensorBase> sweep(const std::vector<SweepRoot>& roots, SweepOrder& order,
                              const std::vector<Node*>& targets, bool release, const TargetHook& on_complete = {});

}  // namespace ttt

#if !defined(TTTLIB_COMPILED)
#include "tttlib/autograd/sweep-inl.hpp"
#endif
