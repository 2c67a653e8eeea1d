#pragma once
/// PyTorch style: leaves with `requires_grad`, `loss.backward()`, and `grad(outputs, inputs, options)`.

#include "tttlib/autograd/transforms.hpp"

namespace ttt {

template <class T>
Tensor<T>& Tensor<T>::requires_grad(bool on) {
  static_assert(is_floating<T>, "only tensors of float, double and bf16 have gradients");
  if (!defined()) fail<GradError>("requires_grad", "the tensor is undefined");
  const bool is_leaf = dynamic_cast<LeafNode*>(node_.get()) != nullptr;
  if (node_ && !is_leaf)
    fail<GradError>("requires_grad", concat("not a leaf: ", shape_, " was made by ", node_->op),
                    "detach it first");
  if (!on) {
    set_node(nullptr);
  } else if (!is_leaf) {
    auto leaf = std::make_shared<LeafNode>();
    leaf->output = detail::make_edge(saved(*this), false);
    set_node(std::move(leaf));
  }
  return *this;
}

template <class T>
Tensor<T> Tensor<T>::grad() const {
  const auto* leaf = dynamic_cast<const LeafNode*>(node_.get());
  return leaf && leaf->grad.defined() ? Tensor<T>(leaf->grad) : Tensor<T>();
}

template <class T>
void Tensor<T>::zero_grad() {
  if (auto* leaf = dynamic_cast<LeafNode*>(node_.get())) leaf->grad = {};
}

template <class T>
void Tensor<T>::set_grad(const Tensor& grad) const {
  auto* leaf = dynamic_cast<LeafNode*>(node_.get());
  if (!leaf) fail<GradError>("set_grad", concat("not a leaf: ", shape_));
  if (grad.shape() != shape_)
    fail<ShapeError>("set_grad", concat("shapes differ: tensor ", shape_, ", gradient ", grad.shape()));
  require_same_device("set_grad", *this, grad);
  leaf->grad = grad.detach();
}

/// Told of a leaf as soon as its `.grad()` has all that a backward pass adds to it, while the pass goes on.
using LeafHook = std::function<void(const Node& leaf)>;

/// `output.backward(cotangent, retain_graph)`. With a hook leaves get their gradients one after the other: if the pass
/// throws, those it has told of keep theirs.
template <class T>
void backward(const Tensor<T>& output, const Tensor<T>& cotangent, bool retain_graph, const LeafHook& on_leaf) {
  if (detail::open_transforms() > 0)
    fail<GradError>("backward", "called inside a function under grad or vjp", "use grad(f)(x) there");
  if (!output.is_tracked())
    fail<GradError>("backward", concat("nothing to differentiate: ", output.shape(), " has no history"),
                    "mark inputs with requires_grad()");
  if (!cotangent.defined() && output.numel() != 1)
    fail<GradError>("backward", concat("the tensor must be a scalar, it is ", output.shape()),
                    "pass a cotangent of that shape");
  detail::require_cotangent("backward", output, cotangent);
  NoGradGuard guard;
  const std::vector<SweepRoot> roots{{output.node(), cotangent.defined() ? cotangent.detach() : ones_like(output)}};
  SweepOrder order(roots, 0);
  std::vector<Node*> targets;
  for (const auto& node : order.nodes())
    if (dynamic_cast<LeafNode*>(node.get())) targets.push_back(node.get());
  if (targets.empty())
    fail<GradError>("backward", concat("no tensor with requires_grad() is reached from the output ", output.shape(), ", made by ", output.node()->op),
                    "what a function under grad or vjp computes is differentiated there, not afterwards");
  const auto give = [&](std::size_t i, TensorBase g) {
    auto* leaf = static_cast<LeafNode*>(targets[i]);
    if (!g.defined()) return;
    // What reaches a leaf may be a view, or shared with another leaf or the cotangent: then the leaf takes a
    // copy.
    const std::lock_guard<std::mutex> lock(leaf->accumulating);
    const bool ours = g.storage().use_count() == 1 && g.is_contiguous();
    if (leaf->grad.defined()) leaf->grad = detail::accumulate(leaf->grad, g, /*owned=*/true);
    else leaf->grad = ours ? g : detail::owned_sum(leaf->output, g);
  };
  TargetHook on_complete;
  if (on_leaf)
    on_complete = [&](std::size_t i, TensorBase& g) {
      give(i, std::exchange(g, {}));
      on_leaf(*targets[i]);
    };
  std::vector<TensorBase> found = sweep(roots, order, targets, !retain_graph, on_complete);
  for (std::size_t i = 0; i < targets.size(); ++i) give(i, std::exchange(found[i], {}));
}

template <class T>
void Tensor<T>::backward(const Tensor& cotangent, bool retain_graph) const {
  ttt::backward(*this, cotangent, retain_graph, {});
}

struct GradOptions {
  bool retain_graph = false;  // keep saved values for another sweep; implied by create_graph
  bool create_graph = false;  // record the sweep, so that results can be differentiated
  bool allow_unused = false;  // an input that no output depends on gives an undefined tensor, not an error
};

/// Gradients of Σ_i ⟨outputs_i, grad_outputs_i⟩ with respect to `inputs`, any tracked tensors; a missing
/// grad_output means 1 and asks for a scalar. Throws GradError for an input that is not tracked or reached.
template <class T>
Tensors<T> grad(const Tensors<T>& outputs, const Tensors<T>& inputs, const Tensors<T>& grad_outputs = {},
                GradOptions options = {}) {
  if (!grad_outputs.empty() && grad_outputs.size() != outputs.size())
    fail<GradError>("grad", concat(outputs.size(), " outputs but ", grad_outputs.size(), " grad_outputs"));
  std::vector<SweepRoot> roots;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].is_tracked())
      fail<GradError>("grad", concat("output ", i, " ", outputs[i].shape(), " has no history"));
    const Tensor<T> u = grad_outputs.empty() ? Tensor<T>() : grad_outputs[i];
    detail::require_cotangent("grad", outputs[i], u, "an output without a cotangent must be a scalar, it is ",
                              "pass grad_outputs");
    roots.push_back({outputs[i].node(), u.defined() ? u : ones_like(outputs[i])});
    if (!options.create_graph) roots.back().cotangent.set_node(nullptr);
  }
  std::vector<Node*> targets;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].is_tracked())
      fail<GradError>("grad", concat("input ", i, " ", inputs[i].shape(), " is not tracked"),
                      "mark it with requires_grad()");
    targets.push_back(inputs[i].node().get());
  }
  GradModeGuard recording(options.create_graph);
  SweepOrder order(roots, 0);
  const std::vector<TensorBase> found =
      sweep(roots, order, targets, !options.retain_graph && !options.create_graph);
  Tensors<T> results;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!found[i].defined() && !options.allow_unused)
      fail<GradError>("grad", concat("no output depends on input ", i, " ", inputs[i].shape()),
                      "set allow_unused");
    results.push_back(found[i].defined() ? Tensor<T>(found[i]) : Tensor<T>());
  }
  return results;
}

/// The same for one scalar output and one input.
template <class T>
Tensor<T> grad(const Tensor<T>& output, const Tensor<T>& input, GradOptions options = {}) {
  return grad(Tensors<T>{output}, Tensors<T>{input}, Tensors<T>{}, options)[0];
}

}  // namespace ttt
