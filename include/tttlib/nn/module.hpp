#pragma once
/// Module: named parameters, buffers and submodules, train/eval mode, state dict. Parameters are leaves with
/// `requires_grad`; submodules are held by shared_ptr.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
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
    return called(x.shape(), [&] { return forward(x); });
  }

  const std::string& kind() const { return kind_; }
  /// As long as it lives, errors name this module's path: for calls beside `forward`.
  Scope named() const { return Scope(name_.empty() ? kind_ : name_); }

  /// Members with their dotted names. The pointers stay valid as long as the module.
  using Members = std::vector<std::pair<std::string, Tensor<T>*>>;
  /// Every parameter once, by its first name.
  Members named_parameters() {
    Members once;
    for (auto& names : tied_parameters()) once.push_back(names.front());
    return once;
  }
  Members named_buffers() { return members(&Module::buffers_); }
  /// Every parameter with all of its names: several if a module is used twice or one member was assigned to another.
  std::vector<Members> tied_parameters() {
    std::vector<Members> all;
    using Place = std::tuple<const void*, std::int64_t, std::int64_t>;  // what two names of one parameter have in common, frozen or not
    std::map<Place, std::size_t> place;
    for (auto& entry : members(&Module::parameters_)) {
      const Tensor<T>& p = *entry.second;
      const Place at = p.is_tracked() ? Place{p.node().get(), 0, 0} : p.defined() ? Place{p.storage().get(), p.offset(), p.numel()} : Place{&p, 0, 0};
      const auto found = place.try_emplace(at, all.size()).first;
      if (found->second == all.size()) all.emplace_back();
      all[found->second].push_back(entry);
    }
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
    for (auto& names : tied_parameters()) {
      const Tensor<T>& p = *names.front().second;
      const Tensor<T> moved = p.detach().to(device).requires_grad(p.is_tracked());
      for (auto& entry : names) *entry.second = moved;
    }
    for (auto& entry : named_buffers()) *entry.second = entry.second->detach().to(device);
  }

  /// Parameters and buffers by all of their names, without history; they share storage with the module.
  StateDict<T> state_dict() {
    StateDict<T> state;
    for (auto& entry : members(&Module::parameters_)) state.emplace_back(entry.first, entry.second->detach());
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
  /// Declares a member as a parameter with an initial value; one that is not contiguous is copied. Throws Error for a name that
  /// is taken, as the next two do.
  void register_parameter(std::string name, Tensor<T>& member, const Tensor<T>& initial) {
    require_new("register_parameter", name);
    member = initial.detach().contiguous();
    member.requires_grad();
    parameters_.emplace_back(std::move(name), &member);
  }
  /// Declares a member that is saved with the module but not trained.
  void register_buffer(std::string name, Tensor<T>& member, const Tensor<T>& initial) {
    require_new("register_buffer", name);
    member = initial.detach().contiguous();
    buffers_.emplace_back(std::move(name), &member);
  }
  /// Adds a submodule and returns it. Throws Error if it is null.
  template <class M>
  std::shared_ptr<M> register_module(std::string name, std::shared_ptr<M> module) {
    require_new("register_module", name);
    if (!module) fail<Error>("register_module", concat("the module is null: ", name, " of ", kind_));
    static_cast<Module&>(*module).name_ = name;
    children_.emplace_back(std::move(name), module);
    return module;
  }
  /// Runs `forward()` as a call of this module on an input of that shape: with its path in errors, and written down by a summary.
  template <class Forward>
  Tensor<T> called(const Shape& input, const Forward& forward) {
    const Scope scope = named();
    std::vector<ModuleCall>* log = module_call_log();
    if (!log) return forward();
    struct Depth {
      int before = log_depth()++;
      ~Depth() { --log_depth(); }
    } depth;
    const std::size_t at = log->size();
    const std::int64_t macs_before = mac_counter() ? *mac_counter() : 0;
    log->push_back({*current_trail(), kind_, input, {}, 0, 0, depth.before});
    for (const auto& entry : parameters_) (*log)[at].own_parameters += entry.second->numel();
    const Tensor<T> y = forward();
    (*log)[at].output = y.shape();
    (*log)[at].macs = (mac_counter() ? *mac_counter() : 0) - macs_before;
    return y;
  }

 private:
  static int& log_depth() {
    thread_local int depth = 0;
    return depth;
  }

  void require_new(const char* op, const std::string& name) const {
    const auto taken = [&](const auto& entries) {
      for (const auto& entry : entries)
        if (entry.first == name) return true;
      return false;
    };
    if (name.empty() || name.find('.') != std::string::npos)
      fail<Error>(op, concat("a name must not be empty or have a dot: \"", name, "\" of ", kind_));
    if (taken(parameters_) || taken(buffers_) || taken(children_)) fail<Error>(op, concat("the name is taken: ", name, " of ", kind_));
  }

  /// Every parameter or buffer, by every name.
  Members members(Members Module::* which) {
    Members all;
    visit("", [&](const std::string& prefix, Module& m) {
      for (auto& entry : m.*which) all.emplace_back(prefix + entry.first, entry.second);
    });
    return all;
  }

  template <class Visitor>
  void visit(const std::string& prefix, const Visitor& visitor) {
    visitor(prefix, *this);
    for (auto& child : children_) child.second->visit(prefix + child.first + ".", visitor);
  }

  std::string kind_, name_;
  bool training_ = true;
  Members parameters_, buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
};

namespace detail {
/// Puts other tensors in place of a module's parameters and buffers for one scope.
template <class T>
class SwapParameters {
 public:
  SwapParameters(Module<T>& module, const StateDict<T>& tensors) {
    using Members = typename Module<T>::Members;
    std::map<std::string, Members> members;  // that a name stands for
    for (const Members& names : module.tied_parameters())
      for (auto& entry : names) members[entry.first] = names;
    for (auto& entry : module.named_buffers()) members[entry.first] = {entry};
    for (const auto& entry : tensors) {
      const auto found = members.find(entry.first);
      if (found == members.end()) fail<Error>("functional_call", concat("the module has no parameter or buffer named ", entry.first));
      const Shape& shape = found->second.front().second->shape();
      if (shape != entry.second.shape())
        fail<ShapeError>("functional_call", concat("shapes differ: ", entry.first, " ", shape, ", given ", entry.second.shape()));
    }
    for (const auto& entry : tensors)
      for (auto& [name, member] : members[entry.first]) {
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
