#pragma once
/// Sequential: modules called one after the other, named by position.

#include "tttlib/autograd/checkpoint.hpp"
#include "tttlib/nn/module.hpp"

namespace ttt {

template <class T>
class Sequential : public Module<T> {
 public:
  bool recompute = false;  // keep only what goes from module to module, and run each again on the way back

  Sequential() : Module<T>("Sequential") {}
  explicit Sequential(std::vector<std::shared_ptr<Module<T>>> modules) : Sequential() {
    for (auto& m : modules) add(std::move(m));
  }
  /// Throws Error if the module is null.
  void add(std::shared_ptr<Module<T>> module) {
    modules_.push_back(this->register_module(std::to_string(modules_.size()), std::move(module)));
  }
  std::size_t size() const { return modules_.size(); }
  Module<T>& operator[](std::size_t i) { return *modules_[i]; }
  Tensor<T> forward(const Tensor<T>& x) override {
    Tensor<T> y = x;
    for (auto& m : modules_) y = recompute ? checkpoint([m](const Tensor<T>& at) { return (*m)(at); }, y) : (*m)(y);
    return y;
  }

 private:
  std::vector<std::shared_ptr<Module<T>>> modules_;
};

}  // namespace ttt
