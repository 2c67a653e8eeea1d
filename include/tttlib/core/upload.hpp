#pragma once
/// Getting data from the host onto a GPU while it computes: tensors in page-locked memory, and copies that do not wait in
/// the line of the kernels. Made for the threads that prepare batches; on the CPU both cost nothing.

#include "tttlib/core/tensor.hpp"

namespace ttt {

/// Uninitialised tensor on the CPU, in page-locked memory if it is meant for a GPU.
template <class T>
Tensor<T> host_tensor(const Shape& shape, Device meant_for) {
  if (meant_for.is_cpu()) return Tensor<T>(shape);
  const auto bytes = static_cast<std::size_t>(numel(shape)) * sizeof(T);
  return Tensor<T>(std::make_shared<Storage>(bytes, cpu(), /*pinned=*/true), 0, shape, contiguous_strides(shape));
}

/// A contiguous host tensor on another device, without history; the copy is done when this returns, and did not wait for
/// kernels that were started since. On the CPU the tensor itself.
template <class T>
Tensor<T> upload(const Tensor<T>& host, Device device) {
  if (device.is_cpu()) return host;
  if (!device_copy().upload) fail<DeviceError>("upload", concat("no backend copies from ", host.device(), " to ", device));
  Tensor<T> y(host.shape(), device);
  device_copy().upload(y.data(), device, host.data(), static_cast<std::size_t>(host.numel()) * sizeof(T));
  return y;
}

}  // namespace ttt
