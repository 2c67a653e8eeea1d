#pragma once
/// Both kinds of fused TTT heads: on tensor cores where products may round to bf16 and the heads suit them, else in full precision.

#include "tttlib/backend/cuda/matmul.hpp"
#include "tttlib/backend/cuda/ttt_dwconv.hpp"
#include "tttlib/backend/cuda/ttt_glu_pull_cores.hpp"

namespace ttt::cuda_backend {

template <class L>
void ttt_glu_rounded(const GluOperands<const float>& x, const TttStep& step, float* g, View<float> o) {
  const Tokens<const float> answers(View<const float>{o.data, o.shape, o.strides, o.device});
  const std::int64_t N = x.q.shape[2], width = x.w1.shape[1];
  if (!rounds_to_bf16<float>() || !fits_tensor_cores<const float>(width, N, {x.q, x.k, x.v, answers})) return ttt_glu<L, float>(x, step, g, o);
  with_core_width(width, [&](auto d) { ttt_glu_by_cores<L, d, float>(x, step, g, o); });
}
template <class L>
void ttt_glu_pull_rounded(const GluOperands<const float>& x, const TttStep& step, const float* g, View<const float> o_bar,
                          const GluOperands<float>& dx) {
  const std::int64_t N = x.q.shape[2], width = x.w1.shape[1];
  if (!rounds_to_bf16<float>() || !fits_tensor_cores<const float>(width, N, {x.q, x.k, x.v, o_bar}) ||
      !fits_tensor_cores<float>(width, N, {dx.q, dx.k, dx.v}))
    return ttt_glu_pull<L, float>(x, step, g, o_bar, dx);
  with_core_width(width, [&](auto d) { ttt_glu_pull_by_cores<L, d, float>(x, step, g, o_bar, dx); });
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
