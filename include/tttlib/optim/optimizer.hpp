#pragma once
/// Optimisers: AdamW and SGD over parameter groups. `step` reads `.grad()` and changes parameters in place.

#include <map>

#include "tttlib/optim/param_groups.hpp"

namespace ttt {

/// What optimisers share: groups, the learning rate, and a state of named tensors that a checkpoint can hold.
template <class T>
class Optimizer {
 public:
  Optimizer(std::vector<ParamGroup<T>> groups, double lr) : groups_(std::move(groups)), lr_(lr) {}
  virtual ~Optimizer() = default;

  double lr() const { return lr_; }
  void set_lr(double lr) { lr_ = lr; }
  std::int64_t steps() const { return steps_; }

  void zero_grad() {
    for (auto& group : groups_)
      for (auto& entry : group.parameters) entry.second.zero_grad();
  }

  /// One update of every parameter that has a gradient.
  void step() {
    NoGradGuard guard;
    ++steps_;
    for (auto& group : groups_)
      for (auto& entry : group.parameters) {
        const Tensor<T> g = entry.second.grad();
        if (!g.defined()) continue;
        update(entry.first, entry.second, g.contiguous(), group);
        entry.second.storage()->bump_version();
      }
  }

  /// Everything needed to go on later: one tensor per parameter and slot, and the number of steps.
  StateDict<T> state_dict() const {
    StateDict<T> state{{"steps", scalar(static_cast<T>(steps_))}};
    for (const auto& slot : slots_) state.emplace_back(slot.first, slot.second);
    return state;
  }
  /// Throws Error if the state belongs to other parameters.
  void load_state_dict(const StateDict<T>& state) {
    slots_.clear();
    for (const auto& entry : state) {
      if (entry.first == "steps") steps_ = static_cast<std::int64_t>(entry.second.item());
      else slots_[entry.first] = clone(entry.second);
    }
    for (const auto& group : groups_)
      for (const auto& entry : group.parameters)
        for (const auto& slot : slots_) {
          const auto dot = slot.first.find(':');
          if (slot.first.substr(dot + 1) == entry.first && slot.second.shape() != entry.second.shape())
            fail<ShapeError>("load_state_dict", concat("optimiser state does not fit: ", slot.first, " ", slot.second.shape(), ", parameter ", entry.second.shape()));
        }
  }

 protected:
  virtual void update(const std::string& name, Tensor<T>& parameter, const Tensor<T>& grad, const ParamGroup<T>& group) = 0;

  /// The state tensor "<slot>:<parameter>", zeros at first; `fresh` tells the first time.
  Tensor<T>& slot(const char* kind, const std::string& name, const Tensor<T>& like, bool* fresh = nullptr) {
    const auto found = slots_.try_emplace(std::string(kind) + ":" + name);
    if (fresh) *fresh = found.second;
    if (found.second) found.first->second = zeros_like(like);
    return found.first->second;
  }

 private:
  std::vector<ParamGroup<T>> groups_;
  double lr_;
  std::int64_t steps_ = 0;
  std::map<std::string, Tensor<T>> slots_;
};

struct AdamWOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019):
/// p ← p(1 − lr·wd);  p ← p − lr/(1−β1^k) · m/(√v/√(1−β2^k) + eps), k from 1.
template <class T>
class AdamW : public Optimizer<T> {
 public:
  explicit AdamW(std::vector<ParamGroup<T>> groups, const AdamWOptions& options = {})
      : Optimizer<T>(std::move(groups), options.lr), options_(options) {}

 protected:
  void update(const std::string& name, Tensor<T>& parameter, const Tensor<T>& grad, const ParamGroup<T>& group) override {
    AdamWStep numbers;
    numbers.lr = this->lr() * group.lr_scale;
    numbers.beta1 = options_.beta1;
    numbers.beta2 = options_.beta2;
    numbers.eps = options_.eps;
    numbers.weight_decay = group.weight_decay;
    numbers.step = this->steps();
    backend::adamw(mutable_view(parameter), view(grad), mutable_view(this->slot("mean", name, parameter)),
                   mutable_view(this->slot("variance", name, parameter)), numbers);
  }

 private:
  AdamWOptions options_;
};

struct SgdOptions {
  double lr = 0.1, momentum = 0;
  bool nesterov = false;
};

/// Gradient descent: g ← g + wd·p; buffer ← momentum·buffer + g (the first time: g); p ← p − lr·buffer, or with
/// Nesterov p − lr·(g + momentum·buffer).
template <class T>
class Sgd : public Optimizer<T> {
 public:
  explicit Sgd(std::vector<ParamGroup<T>> groups, const SgdOptions& options = {})
      : Optimizer<T>(std::move(groups), options.lr), options_(options) {}

 protected:
  void update(const std::string& name, Tensor<T>& parameter, const Tensor<T>& grad, const ParamGroup<T>& group) override {
    const Tensor<T> p = parameter.detach();
    Tensor<T> g = group.weight_decay == 0 ? grad : add(grad, mul(p, static_cast<T>(group.weight_decay)));
    const T momentum = static_cast<T>(options_.momentum);
    if (options_.momentum != 0) {
      bool fresh = false;
      Tensor<T>& buffer = this->slot("momentum", name, parameter, &fresh);
      assign(buffer, fresh ? g : add(mul(buffer, momentum), g));
      g = options_.nesterov ? add(g, mul(buffer, momentum)) : buffer;
    }
    assign(parameter, sub(p, mul(g, static_cast<T>(this->lr() * group.lr_scale))));
  }

 private:
  SgdOptions options_;
};

}  // namespace ttt
