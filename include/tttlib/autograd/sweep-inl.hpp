#pragma once
/// The order of a sweep, without recursion, and the sweep.

#include <algorithm>

#include "tttlib/autograd/sweep.hpp"

namespace ttt {

TTTLIB_INLINE SweepOrder::SweepOrder(const std::vector<SweepRoot>& roots, std::uint64_t start) {
  std::vector<std::shared_ptr<Node>> stack;
  auto visit = [&](const std::shared_ptr<Node>& node) {
    if (node && seen_.emplace(node.get(), 0).second) stack.push_back(node);
  };
  for (const SweepRoot& root : roots) visit(root.node);
  while (!stack.empty()) {
    std::shared_ptr<Node> node = std::move(stack.back());
    stack.pop_back();
    if (node->id < start) ++older_;
    else
      for (const Edge& edge : node->inputs) visit(edge.node);
    nodes_.push_back(std::move(node));
  }
  std::sort(nodes_.begin(), nodes_.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  for (std::size_t i = 0; i < nodes_.size(); ++i) seen_[nodes_[i].get()] = i;
}

namespace detail {

/// A target is complete when the oldest node that uses it has been pulled: nobody else adds to its cotangent.
struct Completion {
  std::size_t oldest_user, target, position;  // one that nobody uses is complete from the start: npos
};
/// In the order in which the sweep will pass them.
inline std::vector<Completion> completions(SweepOrder& order, const std::vector<Node*>& targets) {
  const std::vector<std::shared_ptr<Node>>& nodes = order.nodes();
  std::vector<std::size_t> oldest_user(nodes.size(), SweepOrder::npos);
  for (std::size_t i = nodes.size(); i-- > order.older();)
    for (const Edge& edge : nodes[i]->inputs)
      if (edge.node) oldest_user[order.position(edge.node.get())] = i;
  std::vector<Completion> all;
  for (std::size_t target = 0; target < targets.size(); ++target)
    if (const std::size_t at = order.position(targets[target]); at != SweepOrder::npos) all.push_back({oldest_user[at], target, at});
  std::stable_sort(all.begin(), all.end(), [](const Completion& a, const Completion& b) { return a.oldest_user > b.oldest_user; });
  return all;
}

}  // namespace detail

TTTLIB_INLINE std::vector<TensorBase> sweep(const std::vector<SweepRoot>& roots, SweepOrder& order,
                                            const std::vector<Node*>& targets, bool release, const TargetHook& on_complete) {
  std::vector<std::shared_ptr<Node>>& nodes = order.nodes();
  std::vector<bool> is_target(nodes.size()), wanted(nodes.size());
  for (Node* target : targets)
    if (const std::size_t at = order.position(target); at != SweepOrder::npos)
      is_target[at] = wanted[at] = true;
  for (std::size_t i = order.older(); i < nodes.size(); ++i)
    for (const Edge& edge : nodes[i]->inputs)
      if (edge.node && !wanted[i]) wanted[i] = wanted[order.position(edge.node.get())];

  struct Cotangent {
    TensorBase value;
    bool owned = false;  // made by a sum of this sweep, so it may be updated in place
  };
  std::vector<Cotangent> cotangents(nodes.size());
  auto deliver = [&](std::size_t at, TensorBase g) {
    Cotangent& c = cotangents[at];
    if (!c.value.defined()) c.value = std::move(g);
    else c.value = detail::accumulate(c.value, g, c.owned), c.owned = true;
  };
  for (const SweepRoot& root : roots) {
    TensorBase u = root.cotangent;
    if (!grad_mode()) u.set_node(nullptr);
    deliver(order.position(root.node.get()), std::move(u));
  }

  struct RestoreTrail {
    Trail outer = current_trail();
    bool inside = in_sweep();
    RestoreTrail() {
      set_trail(outer);  // what came before was no sweep
      in_sweep() = true;
    }
    ~RestoreTrail() {
      set_trail(std::move(outer));
      in_sweep() = inside;
    }
  } restore_trail;
  const std::vector<detail::Completion> completions =
      on_complete ? detail::completions(order, targets) : std::vector<detail::Completion>();
  auto completion = completions.begin();
  const auto tell_completed = [&](std::size_t done) {  // nodes from `done` on have been pulled
    for (; completion != completions.end() && completion->oldest_user >= done; ++completion)
      on_complete(completion->target, cotangents[completion->position].value);
  };
  std::vector<bool> needs;
  std::vector<TensorBase> pulled;
  for (std::size_t i = nodes.size(); i-- > order.older();) {
    tell_completed(i + 1);
    const std::shared_ptr<Node> node = nodes[i];
    if (!is_target[i]) nodes[i] = nullptr;
    if (!wanted[i] || !cotangents[i].value.defined()) continue;
    needs.assign(node->inputs.size(), false);
    bool any = false;
    for (std::size_t k = 0; k < needs.size(); ++k) {
      needs[k] = node->inputs[k].node && wanted[order.position(node->inputs[k].node.get())];
      any = any || needs[k];
    }
    if (!any) continue;
    set_trail(node->trail);
    if (node->released)
      fail<GradError>("backward",
                      concat("graph already released: the saved values of ", node->op, " are gone"),
                      "pass retain_graph to the first sweep");
    TensorBase g = is_target[i] ? cotangents[i].value : std::move(cotangents[i].value);
    if (!is_target[i]) cotangents[i].value = {};
    if (!grad_mode() && node->adds_in_place()) {
      const Edge& edge = node->inputs[0];
      Cotangent& sum = cotangents[order.position(edge.node.get())];
      if (!sum.owned) sum.value = detail::owned_sum(edge, sum.value), sum.owned = true;
      node->pull_into(g, sum.value);
      if (release) node->release();
      continue;
    }
    pulled.assign(node->inputs.size(), {});
    {
      const AnomalyGuard inside_a_rule(false);  // the report names this op, not those its rule is made of
      node->pull(g, needs, pulled);
    }
    g = {};
    for (std::size_t k = 0; k < needs.size(); ++k) {
      if (!needs[k]) continue;
      const Edge& edge = node->inputs[k];
      TensorBase& d = pulled[k];
      if (!d.defined())
        fail<GradError>(node->op, concat("no rule for the gradient of argument ", k, " ", edge.shape));
      if (d.shape() != edge.shape)
        fail<GradError>(node->op, concat("the rule of argument ", k, " returned ", d.shape(),
                                         " for an input ", edge.shape));
      if (d.dtype() != edge.dtype)
        fail<GradError>(node->op, concat("the rule of argument ", k, " returned ", d.dtype(),
                                         " for an input of ", edge.dtype));
      if (!grad_mode()) d.set_node(nullptr);
      if (anomaly_mode()) {
        detail::with_float_type(d.dtype(), [&]<class T>(T*) {
          require_finite(node->op, Tensor<T>(d), "gradient");
          return d;
        });
      }
      deliver(order.position(edge.node.get()), std::move(d));
    }
    if (release) node->release();
  }
  tell_completed(0);

  std::vector<TensorBase> results;
  for (Node* target : targets) {
    const std::size_t at = order.position(target);
    results.push_back(at == SweepOrder::npos ? TensorBase{} : cotangents[at].value);
  }
  return results;
}

}  // namespace ttt
