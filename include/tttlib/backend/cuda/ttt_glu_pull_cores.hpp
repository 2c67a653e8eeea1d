#pragma once
/// The way back of the GLU heads on tensor cores, through their inner step (ttt_glu_cores.hpp; derivation in docs/derivation.md).
/// The template's D is the width of a head, so the derivation's D, the outer gradient of g, is `g_bar` here.
/// Only q̄ and k̄, sums over all channels of a head, go through shared memory.
/// Multiply-accumulates per image and head: 16·N·d². Bytes: q, k, v, ō, q̄, k̄, v̄ once each; 8d² per image and head for g, read two or
/// three times, and as many for the weights' gradient, written and read once.

#include "tttlib/backend/cuda/ttt_glu_cores.hpp"

namespace ttt::cuda_backend {

/// Cotangents of q, k, v and, by image, of the weights from that of o and from the g that the way forward kept. Before the sum: q̄ and
/// U of a block's tokens.
template <int D, class S>
struct TttGluPullCores {
  static constexpr int threads = 2 * D, row = D / 2 + 4, wide = D + 4, matrix = D + 2, most = 80;  // rows in pairs; most tokens of a chunk
  CoreSizes s;
  Tokens<const S> q, k, v;
  const float *w1, *w2;   // [H, d, d]
  const float* gradient;  // g [B, H, d, 2d]
  Tokens<const S> o_bar;
  Tokens<S> dq, dk, dv;
  float *U, *dw;  // [B, H, d, 2d] and [B, parts, H, d, 2d]; before the sum U is as dw, in one stage it is not used
  static std::int64_t shared_bytes(const CoreSizes& s) {
    return shared_size<std::uint32_t>(s.chunk * row) + 2 * shared_size<std::uint32_t>(s.chunk * wide) + 2 * shared_size<std::uint32_t>(D * matrix);
  }

  struct Registers {
    CoreOperand<D> w, g_bar;  // w is w* first
    CoreColumns<D> sum, g;    // sum: U, then w̄
    CoreTokens<D> x;
    CoreProducts z, bar;
    CoreValues e, next;
    FragmentA terms[2];      // of the outer product
    FragmentB turned[2];
    CoreSums squares, along;
    FragmentA back[2][D / 8];
    FragmentB b[2];
    CoreProducts out;
  };
  /// [channels, 16 tokens] in C's layout -> rows of tokens, the two matrices side by side.
  TTT_DEVICE static void keep(const CoreProducts& z, const PairTile& to, int at, const CoreLane& lane) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) {
      TTT_UNROLL
      for (int m = 0; m < 2; ++m) {
        TTT_UNROLL
        for (int next = 0; next < 2; ++next)
          to(at + 8 * half + lane.pair + next, (m * D + lane.channel) / 2) = pair_of(z.of[m][half].at[next], z.of[m][half].at[2 + next]);
      }
    }
  }
  /// Columns in C's layout -> a matrix [d, 2d] of bf16.
  TTT_DEVICE static void keep(const CoreColumns<D>& x, const PairTile& to, const CoreLane& lane) {
    each_row_of_columns<D>(lane, [&](int m, int tile, int next, int r) {
      to(r, (m * D + lane.channel) / 2) = pair_of(x.of[m][tile].at[next], x.of[m][tile].at[next + 2]);
    });
  }
  /// A lane's rows of a matrix [d, 2d] of bf16 in shared memory, columns [column, column + 16).
  TTT_DEVICE static FragmentA rows_of(const PairTile& x, int column, const CoreLane& lane) {
    const std::uint32_t *upper = &x(lane.channel, (column + lane.pair) / 2), *lower = &x(lane.channel + 1, (column + lane.pair) / 2);
    return {{upper[0], lower[0], upper[4], lower[4]}};
  }
  /// ḡ from U, in U's place.
  TTT_DEVICE static void pull_step(const CoreSums& squares, const CoreSums& along, float rate, const CoreColumns<D>& g, CoreColumns<D>& U) {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const formula::ClippedStepPull<float> pull(std::sqrt(squares.of[m][half]), along.of[m][half], rate);
        TTT_UNROLL
        for (int tile = 0; tile < D / 8; ++tile) {
          TTT_UNROLL
          for (int next = 0; next < 2; ++next) {
            float& x = U.of[m][tile].at[2 * half + next];
            x = pull(x, g.of[m][tile].at[2 * half + next]);
          }
        }
      }
    }
  }

  TTT_DEVICE void operator()(Block& block) const {
    const CorePlace place(block, s);
    const auto tile = [&](int rows, int pairs) { return PairTile{block.shared<std::uint32_t>(rows * pairs), pairs}; };
    const PairTile x = tile(s.chunk, row), terms = tile(s.chunk, wide), bars = tile(s.chunk, wide);
    const PairTile trained = tile(D, matrix), start = tile(D, matrix);
    const CoreWeights<D> weights(w1, w2, place.h);
    const float* kept = gradient + place.matrix(s, D);
    const auto from = [&](const Tokens<const S>& all, int t) { return HeadTokens<const S>(all, place.b, place.h, CoreLane(t).channel); };
    const auto into = [&](const Tokens<S>& all, int t) { return HeadTokens<S>(all, place.b, place.h, CoreLane(t).channel); };
    const HeadTokens<const S> all_q(q, place.b, place.h), all_k(k, place.b, place.h);
    PerThread<Registers> r(block);
    const auto sum = [&](int t) -> CoreColumns<D>& { return r[t].sum; };
    const auto g = [&](int t) -> CoreColumns<D>& { return r[t].g; };
    const auto operand = [&](int t) -> const CoreOperand<D>& { return r[t].w; };
    const auto tokens = [&](int t) -> CoreTokens<D>& { return r[t].x; };
    const auto z = [&](int t) -> CoreProducts& { return r[t].z; };
    const auto outer = [&](int t) { return r[t].terms; };
    const auto turned = [&](int t) { return r[t].turned; };

    block.each_lane([&](int t) { load_columns<D>(kept, CoreLane(t), r[t].g); });
    sum_columns<D>(block, [&](int t) -> CoreSums& { return r[t].squares; }, g, g);
    block.each_lane([&](int t) {
      const CoreLane lane(t);
      weights.step(lane, r[t].squares, s.rate, r[t].g);                                            // w*ᵀ [channels, d]
      as_operand<D>(r[t].g, r[t].w);
      keep(r[t].g, trained, lane);
      r[t].sum = CoreColumns<D>{};
    });

    for (int first = place.begin; first < place.end && s.stage != CoreStage::after_sum; first += s.chunk) {
      const int rows = s.rows(first, place.end);
      block.each_thread([&](int t) { load_pairs<D>(block, all_q, first, place.end, rows, x, t); });
      block.each_lane([&](int t) {
        r[t].next.load(from(o_bar, t), first, place.end, CoreLane(t));
        for (FragmentA& nothing : r[t].terms) nothing = FragmentA{};
      });
      for (int at = 0; at < rows; at += 16) {  // the outer product is that of the tokens before: they are ready
        load_16_tokens<D>(block, tokens, x, at);
        block.each_lane([&](int t) {
          r[t].e = r[t].next;
          r[t].next.load(from(o_bar, t), first + at + 16, place.end, CoreLane(t));
          r[t].z.clear();
        });
        multiply_tokens<D>(block, z, operand, tokens);                                             // y [channels, 16] = w*ᵀ qᵀ
        add_outer<D>(block, sum, outer, x, at > 0 ? at - 16 : 0, turned);                          // Uᵀ [channels, d] += ȳ q
        block.each_lane([&](int t) {                                                               // ȳ [channels, 16]
          turn_into_terms(r[t].z, r[t].e, 1.0f, r[t].terms);
          keep(r[t].z, terms, at, CoreLane(t));
        });
      }
      add_outer<D>(block, sum, outer, x, rows - 16, turned);
      block.barrier();
      multiply_back<false>(block, r, trained, trained, terms, terms, rows, [&](int t, int half, int at) {  // q̄ [8, d] = ȳ (w1*, w2*)ᵀ
        store_values(r[t].out.of[0][half], into(dq, t), first + at, place.end, CoreLane(t));
      });
      block.barrier();
    }
    if (s.stage == CoreStage::before_sum) {
      block.each_lane([&](int t) { store_columns<D>(r[t].sum, U + block.index() * 2 * D * D, CoreLane(t)); });
      return;
    }
    if (s.stage == CoreStage::after_sum) block.each_lane([&](int t) { load_columns<D>(U + place.matrix(s, D), CoreLane(t), r[t].sum); });

    block.each_lane([&](int t) { load_columns<D>(kept, CoreLane(t), r[t].g); });
    sum_columns<D>(block, [&](int t) -> CoreSums& { return r[t].along; }, g, sum);
    block.each_thread([&](int t) {
      const CoreLane lane(t);
      CoreColumns<D> g_bar = r[t].sum;                                                             // ḡᵀ [channels, d]
      pull_step(r[t].squares, r[t].along, s.rate, r[t].g, g_bar);
      as_operand<D>(g_bar, r[t].g_bar);
      keep(g_bar, trained, lane);
      weights.load(lane, r[t].g);
      as_operand<D>(r[t].g, r[t].w);
      keep(r[t].g, start, lane);
      if (place.part > 0) r[t].sum = CoreColumns<D>{};  // U is added once
    });

    for (int first = place.begin; first < place.end; first += s.chunk) {
      const int rows = s.rows(first, place.end);
      block.each_thread([&](int t) { load_pairs<D>(block, all_k, first, place.end, rows, x, t); });
      block.each_lane([&](int t) {
        r[t].next.load(from(v, t), first, place.end, CoreLane(t));
        for (FragmentA& nothing : r[t].terms) nothing = FragmentA{};
      });
      for (int at = 0; at < rows; at += 16) {
        load_16_tokens<D>(block, tokens, x, at);
        block.each_lane([&](int t) {
          r[t].e = r[t].next;
          r[t].next.load(from(v, t), first + at + 16, place.end, CoreLane(t));
          r[t].z.clear();
          r[t].bar.clear();
        });
        multiply_tokens<D>(block, z, operand, tokens);                                             // z [channels, 16] = wᵀ kᵀ
        multiply_tokens<D>(
            block, [&](int t) -> CoreProducts& { return r[t].bar; }, [&](int t) -> const CoreOperand<D>& { return r[t].g_bar; }, tokens);  // P̄, R̄
        add_outer<D>(block, sum, outer, x, at > 0 ? at - 16 : 0, turned);                          // w̄ᵀ [channels, d] += z̄ k
        block.each_lane([&](int t) {
          const CoreLane lane(t);
          TTT_UNROLL
          for (int half = 0; half < 2; ++half) {                                                   // P, R, z̄ [channels, 8]; v̄ [8, channels]
            Accumulator e_bar;
            TTT_UNROLL
            for (int i = 0; i < 4; ++i) {
              float &z1 = r[t].z.of[0][half].at[i], &z2 = r[t].z.of[1][half].at[i], &P = r[t].bar.of[0][half].at[i], &R = r[t].bar.of[1][half].at[i];
              const formula::GluTermsPull<float> pull(z1, rough_silu(z2), -s.c * r[t].e.of[half][i], P, R);
              P = pull.P, R = pull.R, z1 = pull.z1_bar, z2 = pull.z2_bar, e_bar.at[i] = -s.c * pull.e_bar;
            }
            store_values(e_bar, into(dv, t), first + at + 8 * half, place.end, lane);
          }
          TTT_UNROLL
          for (int m = 0; m < 2; ++m) r[t].terms[m] = as_a(r[t].z.of[m][0], r[t].z.of[m][1]);
          keep(r[t].bar, terms, at, lane);
          keep(r[t].z, bars, at, lane);
        });
      }
      add_outer<D>(block, sum, outer, x, rows - 16, turned);
      block.barrier();
      multiply_back<true>(block, r, trained, start, terms, bars, rows, [&](int t, int half, int at) {  // k̄ [8, d] = (P, R) ḡᵀ + z̄ (w1, w2)ᵀ
        store_values(r[t].out.of[0][half], into(dk, t), first + at, place.end, CoreLane(t));
      });
      block.barrier();
    }
    block.each_lane([&](int t) { store_columns<D>(r[t].sum, dw + block.index() * 2 * D * D, CoreLane(t)); });
  }

 private:
  /// out [channels, 8 tokens] = a [d, 2d]·x [tokens, 2d]ᵀ, with `both` plus a2·x2ᵀ, for every 8 of `rows` tokens: store(t, half, first token).
  /// Four sums at a time, so that no product waits for the one before.
  template <bool both, class R, class Store>
  TTT_DEVICE static void multiply_back(Block& block, R& r, const PairTile& a, const PairTile& a2, const PairTile& x, const PairTile& x2, int rows,
                                       const Store& store) {
    constexpr int matrices = both ? 2 : 1;
    block.each_lane([&](int t) {
      TTT_UNROLL
      for (int which = 0; which < matrices; ++which) {
        TTT_UNROLL
        for (int i = 0; i < D / 8; ++i) r[t].back[which][i] = rows_of(which == 0 ? a : a2, 16 * i, CoreLane(t));
      }
    });
    for (int at = 0; at < rows; at += 16) {
      block.each_lane([&](int t) { r[t].out.clear(); });
      TTT_UNROLL
      for (int k = 0; k < D / 8; k += 2) {
        TTT_UNROLL
        for (int which = 0; which < matrices; ++which) {
          TTT_UNROLL
          for (int half = 0; half < 2; ++half) {
            load_rows(block, which == 0 ? x : x2, at + 8 * half, 16 * k, [&](int t) { return r[t].b; });
            TTT_UNROLL
            for (int next = 0; next < 2; ++next)
              multiply_add(
                  block, [&](int t) -> Accumulator& { return r[t].out.of[both ? which : next][half]; },
                  [&](int t) -> const FragmentA& { return r[t].back[which][k + next]; }, [&](int t) -> const FragmentB& { return r[t].b[next]; });
          }
        }
      }
      block.each_lane([&](int t) {
        TTT_UNROLL
        for (int half = 0; half < 2; ++half) {
          TTT_UNROLL
          for (int i = 0; i < 4; ++i) r[t].out.of[0][half].at[i] += r[t].out.of[1][half].at[i];
          store(t, half, at + 8 * half);
        }
      });
    }
  }
};

/// The way back of `ttt_glu_by_cores`.
template <class L, int D, class S>
void ttt_glu_pull_by_cores(const GluOperands<const S, const float>& x, const TttStep& step, const float* gradient, View<const S> o_bar,
                           const GluOperands<S, float>& dx) {
  using Program = TttGluPullCores<D, S>;
  const L run("ttt_glu_pull", o_bar.device);
  const CoreSizes s(x.q.shape, step, Program::most);
  const Scratch<L, float> dw(run, s.blocks() * 2 * D * D), total(run, s.parts > 1 ? s.B * s.H * 2 * D * D : 0);
  const PlainWeights<L> w(run, x.w1, x.w2);
  const auto start = [&](CoreStage stage, float* U) {
    run.blocks(s.blocks(), Program::threads, Program::shared_bytes(s),
               Program{s.at(stage), x.q, x.k, x.v, w.w1(), w.w2(), gradient, o_bar, dx.q, dx.k, dx.v, U, dw.data()});
  };
  if (s.B * s.H > 0 && s.parts == 1) start(CoreStage::whole, nullptr);
  if (s.B * s.H > 0 && s.parts > 1) {
    start(CoreStage::before_sum, dw.data());
    sum_core_parts<L>(run, s, dw.data(), D, total.data());
    start(CoreStage::after_sum, total.data());
  }
  sum_weights<L>(run, dw.data(), s.B * s.parts, dx.w1, dx.w2);
}

}  // namespace ttt::cuda_backend
