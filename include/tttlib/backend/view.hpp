#pragma once
/// What kernels see of a tensor: a pointer, a shape, strides in elements, and the device. Never an owner.

#include <type_traits>

#include "tttlib/core/tensor.hpp"

namespace ttt {

template <class T>
struct View {
  T* data = nullptr;
  Shape shape;
  Strides strides;
  Device device;

  std::int64_t numel() const { return ttt::numel(shape); }
  /// Reading is always allowed.
  template <class U = T>
    requires(std::is_same_v<U, T> && !std::is_const_v<T>)
  operator View<const U>() const {
    return {data, shape, strides, device};
  }
};

template <class T>
TTT_NOINLINE View<const T> view(const Tensor<T>& x) {
  require_defined("view", x);
  return {x.data(), x.shape(), x.strides(), x.device()};
}
template <class T>
TTT_NOINLINE View<T> mutable_view(Tensor<T>& x) {
  require_defined("view", x);
  return {x.data(), x.shape(), x.strides(), x.device()};
}

}  // namespace ttt
