#pragma once
/// Both kinds of fused TTT heads.

#include "tttlib/backend/cuda/ttt_dwconv.hpp"
#include "tttlib/backend/cuda/ttt_glu.hpp"

namespace ttt::cuda_backend {

template <class L, class T>
void add_ttt_heads(Verbs<T>& verbs) {
  verbs.ttt_glu = ttt_glu<L, T>;
  verbs.ttt_glu_pull = ttt_glu_pull<L, T>;
  verbs.ttt_dwconv = ttt_dwconv<L, T>;
  verbs.ttt_dwconv_pull = ttt_dwconv_pull<L, T>;
}

}  // namespace ttt::cuda_backend
