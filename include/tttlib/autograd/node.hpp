#pragma once
/// Nodes of the graph. A node knows the op that made a tensor, where its inputs came from, and how to pull a
/// cotangent of the output back to the inputs. Nodes are not templates, so element types can meet in one
/// graph.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tttlib/core/tensor.hpp"

namespace ttt {

struct Node;

/// One input (or the output) of a node: always its shape and type, its value only where the rule declared it.
struct Edge {
  std::shared_ptr<Node> node;  // null: a constant
  Shape shape;
  DType dtype = DType::float32;
  Device device;
  TensorBase saved;           // undefined unless the rule needs the value; never carries a node
  std::uint64_t version = 0;  // of the storage, when it was saved
};

/// Nodes alive in this process; a leak check in tests.
inline std::atomic<std::int64_t>& live_nodes() {
  static std::atomic<std::int64_t> count{0};
  return count;
}

/// Number of nodes ever made. Ids grow, so an input's node always has a smaller id than its user's.
inline std::atomic<std::uint64_t>& node_counter() {
  static std::atomic<std::uint64_t> count{0};
  return count;
}

/// True while a sweep runs on this thread.
inline bool& in_sweep() {
  thread_local bool running = false;
  return running;
}

/// How many grad or vjp calls are under way on this thread, their walks back included.
inline int& transform_depth() {
  thread_local int depth = 0;
  return depth;
}

struct Node : std::enable_shared_from_this<Node> {
  const char* op;
  std::vector<Edge> inputs;
  Edge output;  // `node` stays null: a node does not own itself
  std::uint64_t id = node_counter().fetch_add(1, std::memory_order_relaxed);
  Trail trail = current_trail();
  int depth = transform_depth();  // more than the result's: part of an inner gradient
  bool released = false;

  explicit Node(const char* name) : op(name) { live_nodes().fetch_add(1, std::memory_order_relaxed); }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  virtual ~Node();

  /// Cotangents of the inputs whose `needs` is set, from the output's cotangent `g`, into `out` (same
  /// length).
  virtual void pull(const TensorBase& g, const std::vector<bool>& needs, std::vector<TensorBase>& out) = 0;

  /// True for a node with one input that can add its cotangent straight into that input's sum (`pull_into`).
  virtual bool adds_in_place() const { return false; }
  virtual void pull_into(const TensorBase&, TensorBase& /*sum*/) {}
  virtual void drop_rules() {}

  /// Drops saved values, and what rules hold beside them; a later sweep through this node throws.
  void release() {
    released = true;
    drop_rules();
    output.saved = {};
    for (Edge& edge : inputs) edge.saved = {};
  }
};

/// Frees chains of nodes with a loop: recursion would overflow the stack on a long graph.
inline Node::~Node() {
  live_nodes().fetch_sub(1, std::memory_order_relaxed);
  thread_local std::vector<std::shared_ptr<Node>>* pending = nullptr;
  if (pending) {
    for (Edge& edge : inputs)
      if (edge.node) pending->push_back(std::move(edge.node));
    return;
  }
  std::vector<std::shared_ptr<Node>> nodes;
  pending = &nodes;
  for (Edge& edge : inputs)
    if (edge.node) nodes.push_back(std::move(edge.node));
  while (!nodes.empty()) {
    std::shared_ptr<Node> last = std::move(nodes.back());
    nodes.pop_back();
    last.reset();
  }
  pending = nullptr;
}

/// A tensor the user marked with `requires_grad`: where `backward` accumulates.
struct LeafNode final : Node {
  TensorBase grad;
  std::mutex accumulating;  // passes of several threads may end in one leaf
  LeafNode() : Node("leaf") {}
  void pull(const TensorBase&, const std::vector<bool>&, std::vector<TensorBase>&) override {}
};

/// A fresh alias that a transform makes of its argument, so that nested transforms cannot be confused.
struct AliasNode final : Node {
  AliasNode() : Node("argument") {}
  void pull(const TensorBase& g, const std::vector<bool>&, std::vector<TensorBase>& out) override {
    out[0] = g;
  }
};

/// Whether ops record nodes on this thread; on by default.
inline bool& grad_mode() {
  thread_local bool enabled = true;
  return enabled;
}

/// Sets grad mode for one scope.
class GradModeGuard {
 public:
  explicit GradModeGuard(bool enabled) : before_(grad_mode()) { grad_mode() = enabled; }
  ~GradModeGuard() { grad_mode() = before_; }
  GradModeGuard(const GradModeGuard&) = delete;
  GradModeGuard& operator=(const GradModeGuard&) = delete;

 private:
  bool before_;
};

/// Stops recording for everyone outside; a transform opened inside still works for its own level.
class NoGradGuard : public GradModeGuard {
 public:
  NoGradGuard() : GradModeGuard(false) {}
};

/// Runs `f` without recording and returns its result.
template <class F>
auto no_grad(const F& f) {
  NoGradGuard guard;
  return f();
}

}  // namespace ttt
