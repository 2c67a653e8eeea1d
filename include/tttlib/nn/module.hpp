#pragma once
/// Module: named parameters, buffers and submodules, train/eval mode, state dict. Parameters are leaves with
/// `requires_grad`; submodules are held by shared_ptr.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/autograd/backward.hpp"
#include "tttlib/core/cost.hpp"
#include "tttlib/nn/state_dict.hpp"

namespace ttt {

/// What one call of a module looked like; collected by `summary`.
struct ModuleCall {
  std::string path;
  std::string kind;
  Shape input, output;
  std::int64_t own_parameters = 0;
  std::int64_t macs = 0;  // of the whole call, submodules included
  int depth = 0;
};
/// Where calls are written down; null when nobody watches.
inline std::vector<ModuleCall>*& module_call_log() {
  thread_local std::vector<ModuleCall>* log = nullptr;
  return log;
}

template <class T>
class Module {
 public:
  /// Name of the class, as `summary` prints it.
  explicit Module(const char* kind) : kind_(kind) {}
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  virtual Tensor<T> forward(const Tensor<T>& x) = 0;

  /// Calls `forward`; errors inside name this module's path.
  Tensor<T> operator()(const Tensor<T>& x) {
    const Scope scope = named();
    std::vector<ModuleCall>* log = module_call_log();
    if (!log) return forward(x);
    const std::size_t at = log->size();
    const std::int64_t macs_before = mac_counter() ? *mac_counter() : 0;
    log->push_back({*current_trail(), kind_, x.shape(), {}, 0, 0, log_depth()++});
    for (const auto& entry : parameters_) (*log)[at].own_parameters += entry.second->numel();
    const Tensor<T> y = forward(x);
    --log_depth();
    (*log)[at].output = y.shape();
    (*log)[at].macs = (mac_counter() ? *mac_counter() : 0) - macs_before;
    return y;
  }

  const std::string& kind() const { return kind_; }
  /// As long as it lives, errors name this module's path: for calls beside `forward`.
  Scope named() const { return Scope(name_.empty() ? kind_ : name_); }

  /// Every parameter with its dotted name. The pointers stay valid as long as the module.
  std::vector<std::pair<std::string, Tensor<T>*>> named_parameters() {
    std::vector<std::pair<std::string, Tensor<T>*>> all;
    visit("", [&](const std::string& prefix, Module& m) {
      for (auto& entry : m.parameters_) all.emplace_back(prefix + entry.first, entry.second);
    });
    return all;
  }
  std::vector<std::pair<std::string, Tensor<T>*>> named_buffers() {
    std::vector<std::pair<std::string, Tensor<T>*>> all;
    visit("", [&](const std::string& prefix, Module& m) {
      for (auto& entry : m.buffers_) all.emplace_back(prefix + entry.first, entry.second);
    });
    return all;
  }
  Tensors<T> parameters() {
    Tensors<T> all;
    for (auto& entry : named_parameters()) all.push_back(*entry.second);
    return all;
  }
  std::int64_t num_parameters() {
    std::int64_t n = 0;
    for (auto& entry : named_parameters()) n += entry.second->numel();
    return n;
  }

  void train(bool on = true) {
    visit("", [on](const std::string&, Module& m) { m.training_ = on; });
  }
  void eval() { train(false); }
  bool is_training() const { return training_; }

  void zero_grad() {
    for (auto& entry : named_parameters()) entry.second->zero_grad();
  }

  /// Where the parameters are; the CPU if there are none.
  Device device() {
    const auto all = named_parameters();
    return all.empty() ? cpu() : all.front().second->device();
  }
  /// Moves parameters and buffers to a device.
  void to(Device device) {
    auto move = [device](Tensor<T>& x, bool leaf) {
      x = x.detach().to(device);
      if (leaf) x.requires_grad();
    };
    for (auto& entry : named_parameters()) move(*entry.second, true);
    for (auto& entry : named_buffers()) move(*entry.second, false);
  }

  /// Parameters and buffers by name, without history; they share storage with the module.
  StateDict<T> state_dict() {
    StateDict<T> state;
    for (auto& entry : named_parameters()) state.emplace_back(entry.first, entry.second->detach());
    for (auto& entry : named_buffers()) state.emplace_back(entry.first, entry.second->detach());
    return state;
  }

  /// Copies values in by name and reports what did not match. Throws ShapeError on any disagreement if `strict`;
  /// nothing is changed then.
  LoadReport load_state_dict(const StateDict<T>& state, bool strict = true) {
    StateDict<T> members = state_dict();
    const LoadReport report = assign_by_name(members, state, "module", /*partly=*/!strict);
    if (strict && !report.exact())
      fail<ShapeError>("load_state_dict", "state does not fit the module: " + report.brief(), "load with strict = false to take what fits");
    return report;
  }

 protected:
  /// Declares a member as a parameter with an initial value.
  void register_parameter(std::string name, Tensor<T>& member, const Tensor<T>& initial) {
    member = initial.detach();
    member.requires_grad();
    parameters_.emplace_back(std::move(name), &member);
  }
  /// Declares a member that is saved with the module but not trained.
  void register_buffer(std::string name, Tensor<T>& member, const Tensor<T>& initial) {
    member = initial.detach();
    buffers_.emplace_back(std::move(name), &member);
  }
  /// Adds a submodule and returns it.
  template <class M>
  std::shared_ptr<M> register_module(std::string name, std::shared_ptr<M> module) {
    static_cast<Module&>(*module).name_ = name;
    children_.emplace_back(std::move(name), module);
    return module;
  }

 private:
  static int& log_depth() {
    thread_local int depth = 0;
    return depth;
  }

  template <class Visitor>
  void visit(const std::string& prefix, const Visitor& visitor) {
    visitor(prefix, *this);
    for (auto& child : children_) child.second->visit(prefix + child.first + ".", visitor);
  }

  std::string kind_, name_;
  bool training_ = true;
  std::vector<std::pair<std::string, Tensor<T>*>> parameters_, buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
};

namespace detail {
/// Puts other tensors in place of a module's parameters and buffers for one scope.
template <class T>
class SwapParameters {
 public:
  SwapParameters(Module<T>& module, const StateDict<T>& tensors) {
    std::map<std::string, Tensor<T>*> members;
    for (auto& entry : module.named_parameters()) members[entry.first] = entry.second;
    for (auto& entry : module.named_buffers()) members[entry.first] = entry.second;
    for (const auto& entry : tensors) {
      const auto found = members.find(entry.first);
      if (found == members.end()) fail<Error>("functional_call", concat("the module has no parameter or buffer named ", entry.first));
      if (found->second->shape() != entry.second.shape())
        fail<ShapeError>("functional_call", concat("shapes differ: ", entry.first, " ", found->second->shape(), ", given ", entry.second.shape()));
    }
    for (const auto& entry : tensors) {
      Tensor<T>* member = members[entry.first];
      before_.emplace_back(member, *member);
      *member = entry.second;
    }
  }
  ~SwapParameters() {
    while (!before_.empty()) {
      *before_.back().first = before_.back().second;
      before_.pop_back();
    }
  }
  SwapParameters(const SwapParameters&) = delete;
  SwapParameters& operator=(const SwapParameters&) = delete;

 private:
  std::vector<std::pair<Tensor<T>*, Tensor<T>>> before_;
};
}  // namespace detail

/// Calls a module with other tensors in place of some parameters or buffers; not concurrently on one module.
/// Throws Error for a name the module does not have, ShapeError for another shape.
template <class T>
Tensor<T> functional_call(Module<T>& module, const StateDict<T>& parameters, const Tensor<T>& x) {
  const detail::SwapParameters<T> swap(module, parameters);
  return module(x);
}

/// Value of `loss_fn()` and its gradient for every parameter of the module, by name. Parameters are tracked, so results
/// can be differentiated again; under NoGradGuard they are constants, which is cheaper.
template <class T, class LossFn>
std::pair<Tensor<T>, StateDict<T>> value_and_grad(Module<T>& module, const LossFn& loss_fn) {
  StateDict<T> named;
  Tensors<T> values;
  for (auto& entry : module.named_parameters()) {
    named.emplace_back(entry.first, *entry.second);
    values.push_back(*entry.second);
  }
  const auto with = [&](const Tensors<T>& xs) {
    StateDict<T> replaced = named;
    for (std::size_t i = 0; i < xs.size(); ++i) replaced[i].second = xs[i];
    const detail::SwapParameters<T> swap(module, replaced);
    return loss_fn();
  };
  auto [value, gradients] = value_and_grad(with)(values);
  for (std::size_t i = 0; i < gradients.size(); ++i) named[i].second = gradients[i];
  return {value, named};
}

}  // namespace ttt
