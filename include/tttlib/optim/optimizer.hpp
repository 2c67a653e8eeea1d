#pragma once
/// Optimisers: AdamW and SGD over parameter groups. `step` reads `.grad()` and changes parameters in place.

#include <cmath>
#include <map>
#include <set>

#include "tttlib/backend/cuda.hpp"
#include "tttlib/nn/module.hpp"
#include "tttlib/optim/param_groups.hpp"

namespace ttt {

/// What optimisers share: groups, the learning rate, and state tensors ("slots") per parameter that a checkpoint can
/// hold. A parameter is known by its place in the groups: names serve the state dict alone, so parameters of several
/// modules may have the same one.
template <class T>
class Optimizer {
 public:
  /// `slot_kinds` names the state tensors that every parameter gets, zeros at first.
  /// Throws GradError for a parameter that gradients do not reach, ShapeError for one whose elements share memory, Error for
  /// one that is listed twice, which would be updated twice per step.
  Optimizer(std::vector<ParamGroup<T>> groups, double lr, std::vector<std::string> slot_kinds)
      : groups_(std::move(groups)), lr_(lr), slot_kinds_(std::move(slot_kinds)) {
    std::map<std::pair<const void*, std::int64_t>, std::string> seen;
    std::set<std::string> names;
    for (const auto& group : groups_) {
      detail::require_not_negative("Optimizer", "weight_decay", group.weight_decay);
      detail::require_not_negative("Optimizer", "lr_scale", group.lr_scale);
      for (const auto& entry : group.parameters) {
        const Tensor<T>& p = entry.second;
        if (!dynamic_cast<const LeafNode*>(p.node().get()))
          fail<GradError>("Optimizer", concat("not a leaf that collects gradients: ", entry.first, " ", p.shape()),
                          "call requires_grad() before the optimiser is made");
        if (const std::int64_t axis = expanded_axis(p); axis >= 0)
          fail<ShapeError>("Optimizer", concat("elements of a parameter share memory: ", entry.first, " ", p.shape(), " is expanded along axis ", axis));
        const auto place = seen.try_emplace({p.storage().get(), p.offset()}, entry.first);
        if (!place.second && p.numel() > 0)
          fail<Error>("Optimizer", concat("a parameter is listed twice: ", place.first->second, " and ", entry.first, " ", p.shape()));
        std::string name = entry.first;
        for (int copy = 2; !names.insert(name).second; ++copy) name = concat(entry.first, "#", copy);
        names_.push_back(name);
        for (std::size_t kind = 0; kind < slot_kinds_.size(); ++kind) slots_.push_back(zeros_like(p));
      }
    }
  }
  virtual ~Optimizer() = default;

  double lr() const { return lr_; }
  void set_lr(double lr) { lr_ = lr; }
  std::int64_t steps() const { return steps_; }

  void zero_grad() {
    for (auto& group : groups_)
      for (auto& entry : group.parameters) entry.second.zero_grad();
  }

  /// One update of every parameter that has a gradient, which counts times `grad_scale` [], a number on its device, if there is
  /// one: `GradNorm::scale` clips without another pass over the gradients.
  void step(const Tensor<double>& grad_scale = {}) {
    NoGradGuard guard;
    std::vector<Update> updates;
    Tensor<T>* slots = slots_.data();
    for (auto& group : groups_)
      for (auto& entry : group.parameters) {
        if (const Tensor<T> g = entry.second.grad(); g.defined()) updates.push_back({entry.second, g.contiguous(), slots, group});
        slots += slot_kinds_.size();
      }
    std::vector<std::shared_ptr<Storage>> changed;
    for (const Update& one : updates) changed.push_back(one.parameter.storage());
    const auto count = [this, changed] {
      ++steps_;
      for (const auto& storage : changed) storage->bump_version();
    };
    if (cuda_capture()) cuda_capture()->before_replay.push_back(count);
    else count();
    update(updates, grad_scale);
  }

  /// Everything needed to go on later: the number of steps, and "<kind>:<parameter>" for every slot. Where a name
  /// comes again, later ones are called "<parameter>#2" and so on.
  StateDict<T> state_dict() const {
    StateDict<T> state{{"steps", scalar(static_cast<T>(steps_))}};
    for (std::size_t i = 0; i < slots_.size(); ++i) state.emplace_back(slot_name(i), slots_[i]);
    return state;
  }
  /// Copies a state in. Throws ShapeError naming what is missing, unknown or of another shape; nothing is changed then.
  void load_state_dict(const StateDict<T>& state) {
    StateDict<T> expected{{"steps", scalar(T(0))}};
    for (std::size_t i = 0; i < slots_.size(); ++i) expected.emplace_back(slot_name(i), slots_[i]);
    const LoadReport report = assign_by_name(expected, state);
    if (!report.exact()) fail<ShapeError>("load_state_dict", "state does not fit the optimiser: " + report.brief());
    steps_ = static_cast<std::int64_t>(expected[0].second.item());
  }

 protected:
  /// A parameter in a step: its gradient, contiguous, and its state tensors, in the order of `slot_kinds`.
  struct Update {
    Tensor<T>& parameter;
    Tensor<T> grad;
    Tensor<T>* slots;
    const ParamGroup<T>& group;
  };
  /// Changes parameters in place; gradients count times `grad_scale` if that is defined.
  virtual void update(const std::vector<Update>& updates, const Tensor<double>& grad_scale) = 0;

 private:
  std::string slot_name(std::size_t i) const { return slot_kinds_[i % slot_kinds_.size()] + ":" + names_[i / slot_kinds_.size()]; }

  std::vector<ParamGroup<T>> groups_;
  double lr_;
  std::int64_t steps_ = 0;
  std::vector<std::string> slot_kinds_;
  std::vector<std::string> names_;  // of the parameters, made unique
  Tensors<T> slots_;                // [parameters × kinds]
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
      : Optimizer<T>(std::move(groups), options.lr, {"mean", "variance"}), options_(options) {
    detail::require_not_negative("AdamW", "lr", options.lr);
    detail::require_not_negative("AdamW", "eps", options.eps);
    const auto require_fraction = [](const char* name, double beta) {
      if (!(beta >= 0 && beta < 1)) fail<Error>("AdamW", concat(name, " must be in [0, 1): ", beta));
    };
    require_fraction("beta1", options.beta1);
    require_fraction("beta2", options.beta2);
  }

 protected:
  /// In one pass over all parameters of a device; of those that are not contiguous, over copies.
  void update(const std::vector<typename Optimizer<T>::Update>& updates, const Tensor<double>& grad_scale) override {
    AdamWStep step;
    step.beta1 = options_.beta1;
    step.beta2 = options_.beta2;
    step.eps = options_.eps;
    step.rates = rates();
    std::vector<std::pair<Device, std::vector<AdamWParameter<T>>>> devices;
    std::vector<std::pair<Tensor<T>*, Tensor<T>>> copies;
    for (const auto& [parameter, grad, slots, group] : updates) {
      Tensor<T> p = parameter.detach().contiguous();
      if (p.data() != parameter.data()) copies.emplace_back(&parameter, p);
      std::size_t at = 0;
      while (at < devices.size() && devices[at].first != parameter.device()) ++at;
      if (at == devices.size()) devices.push_back({parameter.device(), {}});
      devices[at].second.push_back(
          {p.data(), grad.data(), slots[0].data(), slots[1].data(), p.numel(), group.lr_scale, group.weight_decay});
    }
    for (const auto& each : devices) {
      const Device device = each.first;
      const Tensor<double> scale = grad_scale.defined() ? grad_scale.to(device) : Tensor<double>();
      step.grad_scale = scale.data();
      if (CudaCapture* capture = cuda_capture()) {  // replays read the rates of their own step
        if (device.is_cpu()) fail<DeviceError>("AdamW", "a graph cannot hold an update on the CPU", "move the parameters to the GPU");
        const Tensor<double> on_device = three_numbers(device);
        capture->before_replay.push_back([this, on_device] {
          const AdamWRates now = rates();
          Tensor<double> to = on_device;
          const double numbers[] = {now.lr, now.correction1, now.correction2};
          for (std::int64_t i = 0; i < 3; ++i) backend::fill(View<double>{to.data() + i, {1}, {1}, to.device()}, numbers[i]);
        });
        step.device_rates = on_device.data();
      }
      backend::adamw(each.second, step, device);
    }
    for (auto& [parameter, numbers] : copies) assign(*parameter, numbers);
  }

 private:
  static Tensor<double> three_numbers(Device device) {
    const OutsideOfGraph scope;
    return Tensor<double>(Shape{3}, device);
  }
  AdamWRates rates() const {
    const double k = static_cast<double>(this->steps());
    return {this->lr(), 1 - std::pow(options_.beta1, k), std::sqrt(1 - std::pow(options_.beta2, k))};
  }

  AdamWOptions options_;
};

struct SgdOptions {
  double lr = 0.1, momentum = 0;
  bool nesterov = false;
};

/// Gradient descent: g ← g + wd·p; buffer ← momentum·buffer + g, from 0; p ← p − lr·buffer, or with
/// Nesterov p − lr·(g + momentum·buffer).
template <class T>
class Sgd : public Optimizer<T> {
 public:
  explicit Sgd(std::vector<ParamGroup<T>> groups, const SgdOptions& options = {})
      : Optimizer<T>(std::move(groups), options.lr, options.momentum != 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{}),
        options_(options) {
    detail::require_not_negative("Sgd", "lr", options.lr);
    detail::require_not_negative("Sgd", "momentum", options.momentum);
  }

 protected:
  void update(const std::vector<typename Optimizer<T>::Update>& updates, const Tensor<double>& grad_scale) override {
    if (cuda_capture()) fail<Error>("Sgd", "a graph would keep the rate that it was captured with", "AdamW reads its rate at every replay");
    const T scale = grad_scale.defined() ? static_cast<T>(grad_scale.item()) : T(1), momentum = static_cast<T>(options_.momentum);
    for (const auto& [parameter, grad, slots, group] : updates) {
      const Tensor<T> p = parameter.detach(), scaled = grad_scale.defined() ? mul(grad, scale) : grad;
      Tensor<T> g = group.weight_decay == 0 ? scaled : add(scaled, mul(p, static_cast<T>(group.weight_decay)));
      if (options_.momentum != 0) {
        Tensor<T>& buffer = slots[0];
        assign(buffer, add(mul(buffer, momentum), g));
        g = options_.nesterov ? add(g, mul(buffer, momentum)) : buffer;
      }
      assign(parameter, sub(p, mul(g, static_cast<T>(this->lr() * group.lr_scale))));
    }
  }

 private:
  SgdOptions options_;
};

}  // namespace ttt
