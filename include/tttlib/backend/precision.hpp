#pragma once
/// With what precision float matrices are multiplied: a choice of the program, which the backends read.

#include <atomic>
#include <type_traits>
#include <utility>

namespace ttt {

/// float32: as they are. bfloat16: both operands of `matmul`, `linear` and `conv2d` are rounded to bf16, to nearest even,
/// on their way into the product; the sums, and all tensors, weights and gradients stay float. Of processors, only those with
/// AVX512_BF16 gain speed from it; on others the product of the rounded operands is a float product, and the copies cost a little.
/// On a processor everything else, and the inner step of a TTT layer in each of its forms, is computed in float as ever. On a GPU fused ops
/// (attention, TTT heads, whole TTT blocks, MLPs) round the operands of their products too, and keep what lies between them in bf16;
/// convolutions by groups, which are no products there, stay float.
enum class MatmulPrecision : int { float32, bfloat16 };

namespace detail {
inline std::atomic<MatmulPrecision>& program_matmul_precision() {
  static std::atomic<MatmulPrecision> precision{MatmulPrecision::float32};
  return precision;
}
/// What guards of this thread ask for; null: what the program chose.
inline const MatmulPrecision*& guarded_matmul_precision() {
  thread_local const MatmulPrecision* precision = nullptr;
  return precision;
}
}  // namespace detail

/// The precision of products on this thread: its innermost guard's, or else the program's.
inline MatmulPrecision matmul_precision() {
  const MatmulPrecision* guarded = detail::guarded_matmul_precision();
  return guarded ? *guarded : detail::program_matmul_precision().load(std::memory_order_relaxed);
}

/// Whether products of T are to round their operands to bf16, on this thread.
template <class T>
bool rounds_to_bf16() {
  return std::is_same_v<T, float> && matmul_precision() == MatmulPrecision::bfloat16;
}

/// Chooses for the whole program. Products of double never change; the gradient of a product has the product's precision.
inline void set_matmul_precision(MatmulPrecision precision) { detail::program_matmul_precision() = precision; }

/// Another precision on this thread, until the end of the scope.
class MatmulPrecisionGuard {
 public:
  explicit MatmulPrecisionGuard(MatmulPrecision precision) : precision_(precision), before_(detail::guarded_matmul_precision()) {
    detail::guarded_matmul_precision() = &precision_;
  }
  ~MatmulPrecisionGuard() { detail::guarded_matmul_precision() = before_; }
  MatmulPrecisionGuard(const MatmulPrecisionGuard&) = delete;
  MatmulPrecisionGuard& operator=(const MatmulPrecisionGuard&) = delete;

 private:
  const MatmulPrecision precision_;
  const MatmulPrecision* before_;
};

/// A gradient's rule whose products have the precision of now, whatever is chosen when the sweep arrives.
template <class Rule>
auto with_this_precision(Rule rule) {
  return [rule = std::move(rule), precision = matmul_precision()](const auto&... of_the_sweep) {
    const MatmulPrecisionGuard guard(precision);
    return rule(of_the_sweep...);
  };
}

/// "float32" or "bf16".
inline const char* to_string(MatmulPrecision precision) { return precision == MatmulPrecision::float32 ? "float32" : "bf16"; }

}  // namespace ttt
