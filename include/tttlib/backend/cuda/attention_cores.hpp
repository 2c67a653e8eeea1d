#pragma once
/// Softmax attention on tensor cores, without the N × N matrix (Dao 2023): products of operands rounded to bf16, everything else in
/// float. A block has 64 queries, or keys, and walks over tiles of 64 of the others; a warp has 16 of its own. Weights leave the product that
/// made them as the operand that the next one needs. The way back is two kernels, as in attention.hpp.
/// Legend as in attention.hpp; S: type of q, k, v, o in memory.
/// Multiply-accumulates per head: 2·N·M·d forward, 7·N·M·d backward. Bytes: q, o once, k, v once per 64 queries, mostly from cache.

#include "tttlib/backend/cuda/attention.hpp"
#include "tttlib/backend/cuda/matmul.hpp"
#include "tttlib/backend/cuda/tensor_cores.hpp"

namespace ttt::cuda_backend {

struct AttentionCores {
  static constexpr int tile = 64, threads = 128;
  std::int64_t H;
  int N, M;
  float scale;  // 1/√d

  AttentionCores(const Shape& q, const Shape& k)
      : H(q[1]), N(static_cast<int>(q[2])), M(static_cast<int>(k[2])), scale(static_cast<float>(1 / std::sqrt(static_cast<double>(q[3])))) {}
  TTT_HD static int tiles(int n) { return (n + tile - 1) / tile; }
};
/// A block's image and head, and the first of its queries or keys.
struct AttentionPlace {
  std::int64_t head, b, h;
  int first;
  TTT_DEVICE AttentionPlace(const Block& block, const AttentionCores& s, int tiles)
      : head(block.index() / tiles), b(head / s.H), h(head % s.H), first(static_cast<int>(block.index() % tiles) * AttentionCores::tile) {}
};

/// 16 tokens of a warp as an operand [16, D], and sums for them.
template <int D>
struct TokenOperand {
  FragmentA of[D / 16];
  /// From token `first` on, zero from `end` on, times `factor`.
  template <class S>
  TTT_DEVICE void load(const HeadTokens<const S>& head, int first, int end, float factor, const Lane& lane) {
    TTT_UNROLL
    for (int k = 0; k < D / 16; ++k) {
      TTT_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int token = first + lane.group + i % 2 * 8, column = 16 * k + lane.pair + i / 2 * 8;
        const TwoFloats x = token < end ? load_two(head.at(token) + column) : TwoFloats{0, 0};
        of[k].pair[i] = pair_of(factor * x.first, factor * x.second);
      }
    }
  }
};
template <int columns>
struct TokenSums {
  Accumulator of[columns / 8];
  /// Rows of tokens [first, first + 16) -> memory, row g times `upper`, row g + 8 times `lower`.
  template <class S>
  TTT_DEVICE void store(const HeadTokens<S>& head, int first, int end, float upper, float lower, const Lane& lane) const {
    TTT_UNROLL
    for (int n = 0; n < columns / 8; ++n) {
      TTT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int token = first + lane.group + 8 * half;
        const float factor = half == 0 ? upper : lower;
        if (token < end) store_two(head.at(token) + 8 * n + lane.pair, factor * of[n].at[2 * half], factor * of[n].at[2 * half + 1]);
      }
    }
  }
};
/// scores(t) [16, 64] = a(t) [16, D]·xᵀ, x a tile [64, D].
template <int D, class Scores, class A, class B>
TTT_DEVICE void multiply_tile(Block& block, const Scores& scores, const A& a, const PairTile& x, const B& b) {
  block.each_lane([&](int t) { scores(t) = TokenSums<AttentionCores::tile>{}; });
  TTT_UNROLL
  for (int n = 0; n < AttentionCores::tile / 8; ++n) {
    TTT_UNROLL
    for (int k = 0; k < D / 16; k += 2) load_rows(block, x, 8 * n, 16 * k, [&](int t) { return b(t) + k; });
    TTT_UNROLL
    for (int k = 0; k < D / 16; ++k)
      multiply_add(
          block, [&](int t) -> Accumulator& { return scores(t).of[n]; }, [&](int t) -> const FragmentA& { return a(t).of[k]; },
          [&](int t) -> const FragmentB& { return b(t)[k]; });
  }
}
/// sum(t) [16, D] += weights(t) [16, 64]·x, x a tile [64, D].
template <int D, class Sum, class Weights, class Operand, class B>
TTT_DEVICE void add_tile(Block& block, const Sum& sum, const Weights& weights, const PairTile& x, const Operand& operand, const B& b) {
  TTT_UNROLL
  for (int k = 0; k < AttentionCores::tile / 16; ++k) {
    block.each_lane([&](int t) { operand(t) = as_a(weights(t).of[2 * k], weights(t).of[2 * k + 1]); });
    TTT_UNROLL
    for (int n = 0; n < D / 8; n += 2) {
      load_turned(block, x, 16 * k, 8 * n, b);
      TTT_UNROLL
      for (int next = 0; next < 2; ++next)
        multiply_add(
            block, [&](int t) -> Accumulator& { return sum(t).of[n + next]; }, [&](int t) -> const FragmentA& { return operand(t); },
            [&](int t) -> const FragmentB& { return b(t)[next]; });
    }
  }
}
/// Both tiles [64, D] of a step.
template <int D>
struct TilePair {
  static constexpr int row = D / 2 + 4;
  static constexpr std::int64_t shared_bytes = 2 * shared_size<std::uint32_t>(AttentionCores::tile * row);
  PairTile x, y;
  TTT_DEVICE explicit TilePair(Block& block)
      : x{block.shared<std::uint32_t>(AttentionCores::tile * row), row}, y{block.shared<std::uint32_t>(AttentionCores::tile * row), row} {}
  template <class S>
  TTT_DEVICE void load(Block& block, const Tokens<const S>& a, const Tokens<const S>& b, const AttentionPlace& place, int first, int end) const {
    block.barrier();  // nobody reads the tiles before any more
    block.each_thread([&](int t) {
      load_pairs<D>(block, HeadTokens<const S>(a, place.b, place.h), first, end, AttentionCores::tile, x, t);
      load_pairs<D>(block, HeadTokens<const S>(b, place.b, place.h), first, end, AttentionCores::tile, y, t);
    });
  }
};

/// o = softmax(q kᵀ/√d) v; one block per image, head and 64 queries.
template <int D, class S>
struct AttentionByCores {
  AttentionCores s;
  Tokens<const S> q, k, v;
  float* log_sums;  // [B, H, N] or null
  Tokens<S> o;

  struct Registers {
    TokenOperand<D> q;
    TokenSums<AttentionCores::tile> scores;
    TokenSums<D> out;
    FragmentB b[D / 16];
    FragmentA weights;
    float top[2], now[2], sum[2];  // of rows g and g + 8
  };
  TTT_DEVICE void operator()(Block& block) const {
    const AttentionPlace place(block, s, s.tiles(s.N));
    const TilePair<D> tiles(block);
    PerThread<Registers> r(block);
    const auto own = [&](int t) { return place.first + t / warp_size * 16; };
    const auto b = [&](int t) { return r[t].b; };
    block.each_lane([&](int t) {
      r[t].q.load(HeadTokens<const S>(q, place.b, place.h), own(t), s.N, s.scale, Lane(t));
      r[t].out = TokenSums<D>{};
      for (int half = 0; half < 2; ++half) r[t].top[half] = -std::numeric_limits<float>::infinity(), r[t].sum[half] = 0;
    });
    for (int from = 0; from < s.M; from += s.tile) {
      tiles.load(block, k, v, place, from, s.M);
      multiply_tile<D>(
          block, [&](int t) -> TokenSums<AttentionCores::tile>& { return r[t].scores; }, [&](int t) -> const TokenOperand<D>& { return r[t].q; },
          tiles.x, b);                                                                             // scores [16, 64]
      block.each_lane([&](int t) {
        const Lane lane(t);
        for (int half = 0; half < 2; ++half) r[t].now[half] = r[t].top[half];
        TTT_UNROLL
        for (int n = 0; n < s.tile / 8; ++n) {
          TTT_UNROLL
          for (int i = 0; i < 4; ++i) {
            float& score = r[t].scores.of[n].at[i];
            if (from + 8 * n + lane.pair + i % 2 >= s.M) score = -std::numeric_limits<float>::infinity();
            r[t].now[i / 2] = reduction::Max::combine(r[t].now[i / 2], score);
          }
        }
      });
      for (int half = 0; half < 2; ++half) warp_reduce<reduction::Max, 4>(block, [&](int t) -> float& { return r[t].now[half]; });
      block.each_lane([&](int t) {                                                                 // weights [16, 64]
        float shrink[2];
        TTT_UNROLL
        for (int half = 0; half < 2; ++half) {
          shrink[half] = math::rough_exp(r[t].top[half] - r[t].now[half]);
          r[t].top[half] = r[t].now[half];
          r[t].sum[half] *= shrink[half];
        }
        TTT_UNROLL
        for (int n = 0; n < s.tile / 8; ++n) {
          TTT_UNROLL
          for (int i = 0; i < 4; ++i) {
            float& score = r[t].scores.of[n].at[i];
            score = math::rough_exp(score - r[t].top[i / 2]);
            r[t].sum[i / 2] += score;  // a lane's own part of the row
          }
        }
        TTT_UNROLL
        for (int n = 0; n < D / 8; ++n) {
          TTT_UNROLL
          for (int i = 0; i < 4; ++i) r[t].out.of[n].at[i] *= shrink[i / 2];
        }
      });
      add_tile<D>(
          block, [&](int t) -> TokenSums<D>& { return r[t].out; }, [&](int t) -> const TokenSums<AttentionCores::tile>& { return r[t].scores; },
          tiles.y, [&](int t) -> FragmentA& { return r[t].weights; }, b);                          // o [16, d] += weights · v
    }
    for (int half = 0; half < 2; ++half) warp_reduce<reduction::Sum, 4>(block, [&](int t) -> float& { return r[t].sum[half]; });
    block.each_lane([&](int t) {
      const Lane lane(t);
      r[t].out.store(HeadTokens<S>(o, place.b, place.h), own(t), s.N, 1 / r[t].sum[0], 1 / r[t].sum[1], lane);
      if (!log_sums || lane.pair > 0) return;
      for (int half = 0; half < 2; ++half) {
        const int token = own(t) + lane.group + 8 * half;
        if (token < s.N) log_sums[place.head * s.N + token] = r[t].top[half] + std::log(r[t].sum[half]);
      }
    });
  }
};

/// q̄ = S̄ k/√d with S̄ = P ⊙ (ō vᵀ − D); one block per image, head and 64 queries.
template <int D, class S>
struct AttentionPullQueriesByCores {
  AttentionCores s;
  Tokens<const S> q, k, v, g;
  const float *log_sums, *dots;  // L and D [B, H, N]
  Tokens<S> dq;

  struct Registers {
    TokenOperand<D> q, g;
    TokenSums<AttentionCores::tile> scores, products;
    TokenSums<D> out;
    FragmentB b[D / 16];
    FragmentA weights;
    float log_sum[2], dot[2];
  };
  TTT_DEVICE void operator()(Block& block) const {
    const AttentionPlace place(block, s, s.tiles(s.N));
    const TilePair<D> tiles(block);
    PerThread<Registers> r(block);
    const auto own = [&](int t) { return place.first + t / warp_size * 16; };
    const auto b = [&](int t) { return r[t].b; };
    const auto scores = [&](int t) -> TokenSums<AttentionCores::tile>& { return r[t].scores; };
    block.each_lane([&](int t) {
      const Lane lane(t);
      r[t].q.load(HeadTokens<const S>(q, place.b, place.h), own(t), s.N, s.scale, lane);
      r[t].g.load(HeadTokens<const S>(g, place.b, place.h), own(t), s.N, 1, lane);
      r[t].out = TokenSums<D>{};
      for (int half = 0; half < 2; ++half) {
        const int token = own(t) + lane.group + 8 * half;
        r[t].log_sum[half] = token < s.N ? log_sums[place.head * s.N + token] : 0;
        r[t].dot[half] = token < s.N ? dots[place.head * s.N + token] : 0;
      }
    });
    for (int from = 0; from < s.M; from += s.tile) {
      tiles.load(block, k, v, place, from, s.M);
      multiply_tile<D>(block, scores, [&](int t) -> const TokenOperand<D>& { return r[t].q; }, tiles.x, b);     // scores [16, 64]
      multiply_tile<D>(
          block, [&](int t) -> TokenSums<AttentionCores::tile>& { return r[t].products; }, [&](int t) -> const TokenOperand<D>& { return r[t].g; },
          tiles.y, b);                                                                             // ō vᵀ [16, 64]
      block.each_lane([&](int t) {                                                                 // S̄ [16, 64]
        const Lane lane(t);
        TTT_UNROLL
        for (int n = 0; n < s.tile / 8; ++n) {
          TTT_UNROLL
          for (int i = 0; i < 4; ++i) {
            float& score = r[t].scores.of[n].at[i];
            const bool inside = from + 8 * n + lane.pair + i % 2 < s.M;
            score = inside ? math::rough_exp(score - r[t].log_sum[i / 2]) * (r[t].products.of[n].at[i] - r[t].dot[i / 2]) : 0;
          }
        }
      });
      add_tile<D>(
          block, [&](int t) -> TokenSums<D>& { return r[t].out; }, scores, tiles.x, [&](int t) -> FragmentA& { return r[t].weights; }, b);
    }
    block.each_lane([&](int t) {
      r[t].out.store(HeadTokens<S>(dq, place.b, place.h), own(t), s.N, s.scale, s.scale, Lane(t));
    });
  }
};

/// v̄ = Pᵀ ō, k̄ = S̄ᵀ q/√d; one block per image, head and 64 keys.
template <int D, class S>
struct AttentionPullKeysByCores {
  AttentionCores s;
  Tokens<const S> q, k, v, g;
  const float *log_sums, *dots;  // L and D [B, H, N]
  Tokens<S> dk, dv;

  struct Registers {
    TokenOperand<D> k, v;
    TokenSums<AttentionCores::tile> weights, products;
    TokenSums<D> out_k, out_v;
    FragmentB b[D / 16];
    FragmentA operand;
  };
  TTT_DEVICE void operator()(Block& block) const {
    const AttentionPlace place(block, s, s.tiles(s.M));
    const TilePair<D> tiles(block);
    PerThread<Registers> r(block);
    const auto own = [&](int t) { return place.first + t / warp_size * 16; };
    const auto b = [&](int t) { return r[t].b; };
    const auto weights = [&](int t) -> TokenSums<AttentionCores::tile>& { return r[t].weights; };
    const auto products = [&](int t) -> TokenSums<AttentionCores::tile>& { return r[t].products; };
    const auto operand = [&](int t) -> FragmentA& { return r[t].operand; };
    block.each_lane([&](int t) {
      const Lane lane(t);
      r[t].k.load(HeadTokens<const S>(k, place.b, place.h), own(t), s.M, s.scale, lane);
      r[t].v.load(HeadTokens<const S>(v, place.b, place.h), own(t), s.M, 1, lane);
      r[t].out_k = TokenSums<D>{}, r[t].out_v = TokenSums<D>{};
    });
    for (int from = 0; from < s.N; from += s.tile) {
      tiles.load(block, q, g, place, from, s.N);
      multiply_tile<D>(block, weights, [&](int t) -> const TokenOperand<D>& { return r[t].k; }, tiles.x, b);    // scoresᵀ [16, 64]
      multiply_tile<D>(block, products, [&](int t) -> const TokenOperand<D>& { return r[t].v; }, tiles.y, b);   // v ōᵀ [16, 64]
      block.each_lane([&](int t) {                                                                 // Pᵀ, S̄ᵀ [16, 64]
        const Lane lane(t);
        TTT_UNROLL
        for (int n = 0; n < s.tile / 8; ++n) {
          TTT_UNROLL
          for (int next = 0; next < 2; ++next) {
            const int query = from + 8 * n + lane.pair + next;
            const bool inside = query < s.N;
            const float log_sum = inside ? log_sums[place.head * s.N + query] : 0, dot = inside ? dots[place.head * s.N + query] : 0;
            TTT_UNROLL
            for (int i = next; i < 4; i += 2) {
              float &P = r[t].weights.of[n].at[i], &of = r[t].products.of[n].at[i];
              P = inside ? math::rough_exp(P - log_sum) : 0;
              of = P * (of - dot);
            }
          }
        }
      });
      add_tile<D>(block, [&](int t) -> TokenSums<D>& { return r[t].out_v; }, weights, tiles.y, operand, b);     // v̄ [16, d] += Pᵀ ō
      add_tile<D>(block, [&](int t) -> TokenSums<D>& { return r[t].out_k; }, products, tiles.x, operand, b);    // k̄·√d [16, d] += S̄ᵀ q
    }
    block.each_lane([&](int t) {
      const Lane lane(t);
      r[t].out_k.store(HeadTokens<S>(dk, place.b, place.h), own(t), s.M, s.scale, s.scale, lane);
      r[t].out_v.store(HeadTokens<S>(dv, place.b, place.h), own(t), s.M, 1, 1, lane);
    });
  }
};

/// As `attention` (attention.hpp), for heads that suit tensor cores.
template <class L, int D>
void attention_by_cores(View<const float> q, View<const float> k, View<const float> v, float* log_sums, View<float> o) {
  const AttentionCores s(q.shape, k.shape);
  const std::int64_t blocks = q.shape[0] * s.H * s.tiles(s.N);
  if (blocks > 0)
    L("attention", o.device).blocks(blocks, s.threads, TilePair<D>::shared_bytes, AttentionByCores<D, float>{s, q, k, v, log_sums, o});
}
template <class L, int D>
void attention_pull_by_cores(View<const float> q, View<const float> k, View<const float> v, View<const float> o, const float* log_sums,
                             View<const float> g, View<float> dq, View<float> dk, View<float> dv) {
  const L run("attention_pull", dq.device);
  const AttentionCores s(q.shape, k.shape);
  const std::int64_t heads = q.shape[0] * s.H;
  const Scratch<L, float> dots(run, heads * s.N);                                                  // [B, H, N]
  for_each(run, heads * s.N, AttentionDots<float>{AttentionSizes::of(q, k), o, g, dots.data()});
  if (heads * s.N > 0)
    run.blocks(heads * s.tiles(s.N), s.threads, TilePair<D>::shared_bytes,
               AttentionPullQueriesByCores<D, float>{s, q, k, v, g, log_sums, dots.data(), dq});
  if (heads * s.M > 0)
    run.blocks(heads * s.tiles(s.M), s.threads, TilePair<D>::shared_bytes,
               AttentionPullKeysByCores<D, float>{s, q, k, v, g, log_sums, dots.data(), dk, dv});
}

/// On tensor cores where products may round to bf16 and the heads suit them, else in full precision.
template <class L>
void attention_rounded(View<const float> q, View<const float> k, View<const float> v, float* log_sums, View<float> o) {
  const Tokens<const float> answers(View<const float>{o.data, o.shape, o.strides, o.device});
  if (!rounds_to_bf16<float>() || !fits_tensor_cores<const float>(q.shape[3], std::max(q.shape[2], k.shape[2]), {q, k, v, answers})) return attention<L, float>(q, k, v, log_sums, o);
  with_core_width(q.shape[3], [&](auto d) { attention_by_cores<L, d>(q, k, v, log_sums, o); });
}
template <class L>
void attention_pull_rounded(View<const float> q, View<const float> k, View<const float> v, View<const float> o, const float* log_sums,
                            View<const float> g, View<float> dq, View<float> dk, View<float> dv) {
  if (!rounds_to_bf16<float>() || !fits_tensor_cores<const float>(q.shape[3], std::max(q.shape[2], k.shape[2]), {q, k, v, g}) || !fits_tensor_cores<float>(q.shape[3], std::max(q.shape[2], k.shape[2]), {dq, dk, dv}))
    return attention_pull<L, float>(q, k, v, o, log_sums, g, dq, dk, dv);
  with_core_width(q.shape[3], [&](auto d) { attention_pull_by_cores<L, d>(q, k, v, o, log_sums, g, dq, dk, dv); });
}

template <class L, class T>
void add_attention(Verbs<T>& verbs) {
  if constexpr (std::is_same_v<T, float>) {
    verbs.attention = attention_rounded<L>;
    verbs.attention_pull = attention_pull_rounded<L>;
  } else {
    verbs.attention = attention<L, T>;
    verbs.attention_pull = attention_pull<L, T>;
  }
}

}  // namespace ttt::cuda_backend
