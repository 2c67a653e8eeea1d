#pragma once
/// How an op enters the graph: `record(name, output, inputs, one rule per input)`.
/// A rule uses only public, recorded ops and captures numbers, shapes and index constants, never
/// differentiable tensors; it may read the values that were declared with `saved(...)`.

#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/autograd/anomaly.hpp"
#include "tttlib/autograd/node.hpp"

namespace ttt {

/// An input or output as handed to `record`: `keep` says that the rule needs its value.
struct Operand {
  TensorBase tensor;
  bool keep = false;
  Operand(const TensorBase& t, bool k = false) : tensor(t), keep(k) {}  // NOLINT: implicit on purpose
};
inline Operand saved(const TensorBase& tensor) { return {tensor, true}; }

/// Called with the name of every op that gets a node, from any thread; null (the default) costs one branch.
/// For tests and tools that need to know which ops a program uses.
inline std::atomic<void (*)(const char* op)>& record_observer() {
  static std::atomic<void (*)(const char*)> observer{nullptr};
  return observer;
}

namespace detail {

inline Edge make_edge(const Operand& operand, bool with_node) {
  Edge edge;
  const TensorBase& t = operand.tensor;
  if (with_node) edge.node = t.node();
  edge.shape = t.shape();
  edge.dtype = t.dtype();
  edge.device = t.device();
  if (operand.keep && t.defined()) {
    edge.saved = t;
    edge.saved.set_node(nullptr);
    edge.version = t.storage()->version();
  }
  return edge;
}

/// The saved value of an edge as a tensor, tracked by `node`.
inline TensorBase restore(const Edge& edge, const std::shared_ptr<Node>& node, const char* op,
                          const char* what) {
  if (!edge.saved.defined())
    fail<GradError>(op, concat("the rule asks for ", what, " ", edge.shape, ", which the op did not save"),
                    "declare it with saved(...) in record");
  if (edge.saved.storage()->version() != edge.version)
    fail<GradError>(op, concat(what, " ", edge.shape, " was changed in place after it was used"),
                    "call backward before assign, or copy the tensor first");
  TensorBase value = edge.saved;
  value.set_node(node);
  return value;
}

}  // namespace detail

namespace detail {
/// A constant that a rule captures (a mask, an index), guarded like a saved value against changes in place.
template <class T>
class Constant {
 public:
  explicit Constant(const Tensor<T>& x) : x_(x.detach()), version_(x.storage()->version()) {}
  const Tensor<T>& get(const char* op, const char* what) const {
    if (x_.storage()->version() != version_)
      fail<GradError>(op, concat(what, " ", x_.shape(), " was changed in place after it was used"),
                      "call backward before assign, or copy the tensor first");
    return x_;
  }

 private:
  Tensor<T> x_;
  std::uint64_t version_;
};
}  // namespace detail

/// What a rule sees: the output's cotangent and the values that were saved.
template <class T>
struct Call {
  Tensor<T> g;
  Node& node;

  /// Value of input i, tracked.
  Tensor<T> in(std::size_t i) const {
    return Tensor<T>(detail::restore(node.inputs[i], node.inputs[i].node, node.op, "input"));
  }
  /// Value of the output, tracked by this very node, so that a rule that reads it can be differentiated
  /// again.
  Tensor<T> y() const {
    return Tensor<T>(detail::restore(node.output, node.shared_from_this(), node.op, "output"));
  }
  const Shape& shape(std::size_t i) const { return node.inputs[i].shape; }
};

namespace detail {

/// Cotangent of one input. Type-erased, so that all ops share one kind of node.
template <class T>
using Rule = std::function<Tensor<T>(const Call<T>&)>;

/// Node with one rule per input.
template <class T>
struct RuleNode final : Node {
  std::vector<Rule<T>> rules;
  RuleNode(const char* name, std::vector<Rule<T>> r) : Node(name), rules(std::move(r)) {}

  void pull(const TensorBase& g, const std::vector<bool>& needs, std::vector<TensorBase>& out) override {
    const Call<T> call{Tensor<T>(g), *this};
    for (std::size_t i = 0; i < rules.size(); ++i)
      if (needs[i]) out[i] = rules[i](call);
  }
  void drop_rules() override { rules.clear(); }
};

/// All cotangents at once, one per input.
template <class T>
using JointRule = std::function<Tensors<T>(const Call<T>&, const std::vector<bool>& needs)>;

/// Node with one rule for all inputs.
template <class T>
struct JointRuleNode final : Node {
  JointRule<T> rule;
  JointRuleNode(const char* name, JointRule<T> r) : Node(name), rule(std::move(r)) {}
  void pull(const TensorBase& g, const std::vector<bool>& needs, std::vector<TensorBase>& out) override {
    const Tensors<T> cotangents = rule(Call<T>{Tensor<T>(g), *this}, needs);
    if (cotangents.size() != out.size())
      fail<GradError>(
          op, concat("the rule returned ", cotangents.size(), " cotangents for ", out.size(), " inputs"));
    for (std::size_t i = 0; i < out.size(); ++i)
      if (needs[i]) out[i] = cotangents[i];
  }
  void drop_rules() override { rule = nullptr; }
};

/// What a new node knows of its output and inputs.
TTT_NOINLINE inline void connect(Node& node, const Operand& output, const Operand* inputs, std::size_t count) {
  if (const auto observe = record_observer().load(std::memory_order_relaxed)) observe(node.op);
  node.output = make_edge(output, false);
  node.inputs.reserve(count);
  for (std::size_t i = 0; i < count; ++i) node.inputs.push_back(make_edge(inputs[i], true));
}

/// Whether an op with these inputs makes a node: iff grad mode is on and an input is tracked.
TTT_NOINLINE inline bool makes_node(const Operand* inputs, std::size_t count) {
  if (!grad_mode()) return false;
  for (std::size_t i = 0; i < count; ++i)
    if (inputs[i].tensor.is_tracked()) return true;
  return false;
}

template <class T>
TTT_NOINLINE void attach(Tensor<T>& y, const char* op, const Operand& output, const Operand* inputs, std::size_t count,
                         std::vector<Rule<T>> rules) {
  auto node = std::make_shared<RuleNode<T>>(op, std::move(rules));
  connect(*node, output, inputs, count);
  y.set_node(std::move(node));
}

}  // namespace detail

/// Attaches a node to `output` iff grad mode is on and an input is tracked; `rules[i](call)` is input i's
/// cotangent.
template <class T, class... Rules>
Tensor<T> record(const char* op, const Operand& output, std::initializer_list<Operand> inputs,
                 Rules... rules) {
  Tensor<T> y(output.tensor);
  if (anomaly_mode()) require_finite(op, y);
  if (!detail::makes_node(inputs.begin(), inputs.size())) return y;
  if (inputs.size() != sizeof...(Rules))
    fail<GradError>(
        op, concat("an op with ", inputs.size(), " inputs needs as many rules, got ", sizeof...(Rules)));
  detail::attach<T>(y, op, output, inputs.begin(), inputs.size(), {detail::Rule<T>(std::move(rules))...});
  return y;
}

/// Like `record`, with one rule for all inputs: `rule(call, needs)` returns as many cotangents as there are
/// inputs.
template <class T, class Rule>
Tensor<T> record_joint(const char* op, const Operand& output, const std::vector<Operand>& inputs, Rule rule) {
  Tensor<T> y(output.tensor);
  if (anomaly_mode()) require_finite(op, y);
  if (!detail::makes_node(inputs.data(), inputs.size())) return y;
  auto node = std::make_shared<detail::JointRuleNode<T>>(op, std::move(rule));
  detail::connect(*node, output, inputs.data(), inputs.size());
  y.set_node(std::move(node));
  return y;
}

}  // namespace ttt
