#pragma once
/// Both kinds of fused TTT heads: on tensor cores where products may round to bf16 and the heads suit them, else in full precision.

#include "tttlib/backend/cuda/matmul.hpp"
#include "tttlib/backend/cuda/ttt_dwconv.hpp"
#include "tttlib/backend/cuda/ttt_glu_pull_cores.hpp"

namespace ttt::cuda_backend {

template <class L>
void ttt_glu_rounded(View<const float> q, View<const float> k, View<const float> v, View<const float> w1, View<const float> w2, const TttStep& step,
                     float* gradient, View<float> o) {
  const Tokens<const float> answers(View<const float>{o.data, o.shape, o.strides, o.device});
  if (!rounds_to_bf16<float>() || !fits_tensor_cores<const float>(w1.shape[1], q.shape[2], {q, k, v, answers}))
    return ttt_glu<L, float>(q, k, v, w1, w2, step, gradient, o);
  with_core_width(w1.shape[1], [&](auto d) { ttt_glu_by_cores<L, d, float>(q, k, v, w1, w2, step, gradient, o); });
}
template <class L>
void ttt_glu_pull_rounded(View<const float> q, View<const float> k, View<const float> v, View<const float> w1, View<const float> w2,
                          const TttStep& step, const float* gradient, View<const float> o, View<float> dq, View<float> dk, View<float> dv,
                          View<float> dw1, View<float> dw2) {
  if (!rounds_to_bf16<float>() || !fits_tensor_cores<const float>(w1.shape[1], q.shape[2], {q, k, v, o}) || !fits_tensor_cores<float>(w1.shape[1], q.shape[2], {dq, dk, dv}))
    return ttt_glu_pull<L, float>(q, k, v, w1, w2, step, gradient, o, dq, dk, dv, dw1, dw2);
  with_core_width(w1.shape[1], [&](auto d) { ttt_glu_pull_by_cores<L, d, float>(q, k, v, w1, w2, step, gradient, o, dq, dk, dv, dw1, dw2); });
}

template <class L, class T>
void add_ttt_heads(Verbs<T>& verbs) {
  if constexpr (std::is_same_v<T, float>) {
    verbs.ttt_glu = ttt_glu_rounded<L>;
    verbs.ttt_glu_pull = ttt_glu_pull_rounded<L>;
  } else {
    verbs.ttt_glu = ttt_glu<L, T>;
    verbs.ttt_glu_pull = ttt_glu_pull<L, T>;
  }
  verbs.ttt_dwconv = ttt_dwconv<L, T>;
  verbs.ttt_dwconv_pull = ttt_dwconv_pull<L, T>;
}

}  // namespace ttt::cuda_backend
