#pragma once
/// Anomaly mode: stop at the first op whose result holds a NaN or an infinity, and name it and its module.

#include "tttlib/backend/backend.hpp"
#include "tttlib/core/tensor.hpp"

namespace ttt {

inline bool& anomaly_mode() {
  thread_local bool enabled = false;
  return enabled;
}

/// Turns anomaly mode on (or off) for one scope; every op, forward and backward, then checks its result.
class AnomalyGuard {
 public:
  explicit AnomalyGuard(bool enabled = true) : before_(anomaly_mode()) { anomaly_mode() = enabled; }
  ~AnomalyGuard() { anomaly_mode() = before_; }
  AnomalyGuard(const AnomalyGuard&) = delete;
  AnomalyGuard& operator=(const AnomalyGuard&) = delete;

 private:
  bool before_;
};

/// Throws Error if x holds a NaN or an infinity; `op` and the module path are in the message.
template <class T>
void require_finite(const char* op, const Tensor<T>& x, const char* what = "result") {
  if constexpr (is_floating<T>) {
    if (!backend::all_finite(view(x)))
      fail<Error>(op, concat(what, " ", x.shape(), " holds NaN or Inf"),
                  "this is the first op where it appeared");
  }
}

}  // namespace ttt
