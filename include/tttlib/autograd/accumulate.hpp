#pragma once
/// The few recorded primitives the sweep itself needs.

#include "tttlib/autograd/record.hpp"
#include "tttlib/backend/backend.hpp"

namespace ttt {

/// Uninitialised tensor on the device of another.
template <class T>
Tensor<T> empty_like(const Tensor<T>& x) {
  return Tensor<T>(x.shape(), x.device());
}

/// Constant tensor of one value.
template <class T = float>
Tensor<T> full(const Shape& shape, Wide<T> value, Device device = cpu()) {
  Tensor<T> y(shape, device);
  backend::fill(mutable_view(y), convert<T>(value));
  return y;
}
template <class T>
Tensor<T> zeros_like(const Tensor<T>& x) {
  return full<T>(x.shape(), 0, x.device());
}
template <class T>
Tensor<T> ones_like(const Tensor<T>& x) {
  return full<T>(x.shape(), 1, x.device());
}

/// The same values without history; the name says that gradients stop here.
template <class T>
Tensor<T> stop_gradient(const Tensor<T>& x) {
  return x.detach();
}

/// Throws DeviceError if two operands live on different devices, Error if one is undefined.
TTT_NOINLINE inline void require_same_device(const char* op, const TensorBase& a, const TensorBase& b) {
  require_defined(op, a);
  require_defined(op, b);
  if (a.device() != b.device())
    fail<DeviceError>(op, concat("operands on different devices: a on ", a.device(), ", b on ", b.device()),
                      "move one with to(device)");
}

namespace detail {

/// Sum of two tensors of one shape.
template <class T>
Tensor<T> add_same(const Tensor<T>& a, const Tensor<T>& b) {
  Tensor<T> y = empty_like(a);
  backend::map(formula::Add{}, view(a), view(b), mutable_view(y));
  return record<T>(
      "add", y, {a, b}, [](const Call<T>& c) { return c.g; }, [](const Call<T>& c) { return c.g; });
}

/// a + b for a sweep. Outside of recording, a sum that nobody else holds is updated in place.
template <class T>
TensorBase accumulate(const TensorBase& a, const TensorBase& b, bool owned) {
  Tensor<T> x(a), y(b);
  if (grad_mode()) return add_same(x, y);
  Tensor<T> target =
      owned && a.storage().use_count() == 2 && a.is_contiguous() ? x : empty_like(x);  // a and x
  backend::map(formula::Add{}, view(x), view(y), mutable_view(target));
  return target;
}

/// Calls f with a null pointer to the element type of a cotangent.
template <class F>
TensorBase with_float_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32:
      return f(static_cast<float*>(nullptr));
    case DType::float64:
      return f(static_cast<double*>(nullptr));
    case DType::bfloat16:
      return f(static_cast<bf16*>(nullptr));
    case DType::int64:
      break;
  }
  fail<GradError>("backward", concat("tensors of ", dtype, " have no gradients"));
}

inline TensorBase accumulate(const TensorBase& a, const TensorBase& b, bool owned) {
  return with_float_type(a.dtype(), [&]<class T>(T*) -> TensorBase { return accumulate<T>(a, b, owned); });
}

/// A buffer for sums of cotangents of `edge` that the sweep alone holds: a copy of `value`, or zeros.
template <class T>
TensorBase owned_sum(const Edge& edge, const TensorBase& value) {
  Tensor<T> sum(edge.shape, edge.device);
  if (value.defined()) backend::copy(view(Tensor<T>(value)), mutable_view(sum));
  else backend::fill(mutable_view(sum), T(0));
  return sum;
}
inline TensorBase owned_sum(const Edge& edge, const TensorBase& value) {
  return with_float_type(edge.dtype, [&]<class T>(T*) -> TensorBase { return owned_sum<T>(edge, value); });
}

}  // namespace detail
}  // namespace ttt
