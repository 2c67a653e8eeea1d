#pragma once
/// The GLU heads of a ViT³ block on tensor cores, forward and backward through their inner step: operands of products are
/// rounded to bf16, sums, weights, gradients and the step itself are floats (paper §4; derivation in docs/derivation.md).
/// One block per (image, head), a warp for every 16 of its d channels. All products are made turned, channels by tokens: so P and R
/// leave the product that made z as the operand that the inner gradient needs, and neither they nor the trained weights
/// ever leave registers. Only the way back of q and k, a sum over all channels, goes through shared memory.
/// Legend as in ttt_glu.hpp; S: type of q, k, v, o and their cotangents in memory.
/// Multiply-accumulates per image and head: 6·N·d² forward, 16·N·d² backward. Bytes: q, k, v, o once each; backward q, k, v, ō once,
/// q̄, k̄, v̄ once; 8d² bytes per image and head for g, written once and read twice, 8d² for the weights' gradient.

#include "tttlib/backend/cuda/matmul.hpp"
#include "tttlib/backend/cuda/reduce.hpp"
#include "tttlib/backend/cuda/tensor_cores.hpp"
#include "tttlib/backend/cuda/ttt_glu.hpp"

namespace ttt::cuda_backend {

/// What both directions know of a head: tokens come in chunks that fit into shared memory, and are worked on by 16.
struct CoreSizes {
  std::int64_t H;
  int N, chunk;
  float c, rate;

  CoreSizes(const Shape& q, const TttStep& step, int most)
      : H(q[1]), N(static_cast<int>(q[2])), c(static_cast<float>(step.loss_scale / static_cast<double>(q[2]))), rate(static_cast<float>(step.rate)) {
    const int pieces = (N + most - 1) / most;
    chunk = N == 0 ? 16 : ((N + pieces - 1) / pieces + 15) / 16 * 16;
  }
  TTT_DEVICE int rows(int first) const { return N - first < chunk ? (N - first + 15) / 16 * 16 : chunk; }
};

/// A warp's 16 channels, neighbours in pairs: a lane has channels `channel` (its rows g of A and C) and `channel` + 1 (its rows g + 8).
struct CoreLane : Lane {
  int channel;
  TTT_DEVICE explicit CoreLane(int t) : Lane(t), channel(t / warp_size * 16 + 2 * group) {}
};

/// A [2d channels of a warp, d] and its sums: two matrices side by side.
template <int D>
struct CoreColumns {
  Accumulator of[2][D / 8];
};
template <int D>
struct CoreOperand {
  FragmentA of[2][D / 16];
};

/// f(m, tile, i, row, c, half) for every number that a lane has of a [2, d rows, channels] in C's layout: of matrix m at `row` and `channel` + half.
template <int D, class F>
TTT_DEVICE void each_of_columns(const CoreLane& lane, const F& f) {
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) {
    TTT_UNROLL
    for (int tile = 0; tile < D / 8; ++tile) {
      TTT_UNROLL
      for (int i = 0; i < 4; ++i) f(m, tile, i, 8 * tile + lane.pair + i % 2, i / 2);
    }
  }
}

/// Both products of 16 tokens with a warp's channels: z[m] [channels, tokens] = w[m]ᵀ·xᵀ.
template <int D>
struct CoreTokens {
  FragmentB b[2][D / 16];  // of 8 tokens each
  TTT_DEVICE void load(const PairTile& x, int first, const Lane& lane) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) {
      TTT_UNROLL
      for (int k = 0; k < D / 16; ++k) b[half][k] = load_b(x, first + 8 * half, 16 * k, lane);
    }
  }
};
struct CoreProducts {
  Accumulator of[2][2];  // matrix, 8 tokens
  TTT_DEVICE void clear() { *this = CoreProducts{}; }
};
template <int D, class Z, class W, class X>
TTT_DEVICE void multiply_tokens(const Block& block, const Z& z, const W& w, const X& x) {
  TTT_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int half = 0; half < 2; ++half)
        multiply_add(
            block, [&](int t) -> Accumulator& { return z(t).of[m][half]; }, [&](int t) -> const FragmentA& { return w(t).of[m][k]; },
            [&](int t) -> const FragmentB& { return x(t).b[half][k]; });
    }
  }
}
/// sum[m] [channels, d] += terms[m] [channels, 16 tokens]·x [16 tokens, d], rows [first, first + 16) of a tile.
template <int D, class Sum, class Terms, class Turned>
TTT_DEVICE void add_outer(const Block& block, const Sum& sum, const Terms& terms, const PairTile& x, int first, const Turned& turned) {
  TTT_UNROLL
  for (int tile = 0; tile < D / 8; tile += 2) {
    load_turned(block, x, first, 8 * tile, turned);
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int next = 0; next < 2; ++next)
        multiply_add(
            block, [&](int t) -> Accumulator& { return sum(t).of[m][tile + next]; }, [&](int t) -> const FragmentA& { return terms(t)[m]; },
            [&](int t) -> const FragmentB& { return turned(t)[next]; });
    }
  }
}
/// A lane's numbers of 16 tokens in C's layout: [8 tokens][four], zero from token `end` on.
struct CoreValues {
  float of[2][4];
  template <class S>
  TTT_DEVICE void load(const S* channel, std::int64_t step, int first, int end, const Lane& lane) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) {
      TTT_UNROLL
      for (int next = 0; next < 2; ++next) {
        const int token = first + 8 * half + lane.pair + next;
        const TwoFloats x = token < end ? load_two(channel + token * step) : TwoFloats{0, 0};
        of[half][next] = x.first, of[half][2 + next] = x.second;
      }
    }
  }
};
/// Numbers of C's layout -> 8 tokens from `first` of a lane's two channels.
template <class S>
TTT_DEVICE void store_values(const Accumulator& x, S* channel, std::int64_t step, int first, int end, const Lane& lane) {
  TTT_UNROLL
  for (int next = 0; next < 2; ++next) {
    const int token = first + lane.pair + next;
    if (token < end) store_two(channel + token * step, x.at[next], x.at[2 + next]);
  }
}

/// The norms of a lane's channels in both matrices, or sums over products with another: f(m, tile, i) added over the rows.
struct CoreSums {
  float of[2][2];  // matrix, channel
};
template <int D, class Of, class F>
TTT_DEVICE void sum_columns(Block& block, const Of& of, const F& f) {
  block.each_lane([&](int t) {
    CoreSums& total = of(t);
    total = CoreSums{};
    each_of_columns<D>(CoreLane(t), [&](int m, int tile, int i, int row, int half) { total.of[m][half] += f(t, m, tile, i, row, half); });
  });
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) warp_reduce<reduction::Sum, 4>(block, [&](int t) -> float& { return of(t).of[m][half]; });
  }
}

/// norm(t): of the columns `of`(t) of thread t.
template <int D, class Norm, class Columns>
TTT_DEVICE void column_norms(Block& block, const Norm& norm, const Columns& of) {
  sum_columns<D>(block, norm, [&](int t, int m, int tile, int i, int, int) { return of(t).of[m][tile].at[i] * of(t).of[m][tile].at[i]; });
  block.each_lane([&](int t) {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int half = 0; half < 2; ++half) norm(t).of[m][half] = std::sqrt(norm(t).of[m][half]);
    }
  });
}

/// w1 and w2 of one head.
struct CoreWeights {
  const float* of[2];
  std::int64_t row[2], column[2];
  TTT_DEVICE CoreWeights(const GluWeights<float>& w, std::int64_t h)
      : of{w.w1 + h * w.steps1[0], w.w2 + h * w.steps2[0]}, row{w.steps1[1], w.steps2[1]}, column{w.steps1[2], w.steps2[2]} {}
  TTT_DEVICE float at(int m, int i, int j) const { return of[m][i * row[m] + j * column[m]]; }
  /// The operand wᵀ of a lane.
  template <int D>
  TTT_DEVICE void load(const CoreLane& lane, CoreOperand<D>& to) const {
    CoreColumns<D> w;
    each_of_columns<D>(lane, [&](int m, int tile, int i, int r, int half) { w.of[m][tile].at[i] = at(m, r, lane.channel + half); });
    as_operand<D>(w, to);
  }
  template <int D>
  TTT_DEVICE static void as_operand(const CoreColumns<D>& w, CoreOperand<D>& to) {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int k = 0; k < D / 16; ++k) to.of[m][k] = as_a(w.of[m][2 * k], w.of[m][2 * k + 1]);
    }
  }
};

/// (P, R) of 16 tokens in place of z, and as the operand of their outer product; of an inner gradient or an answer.
TTT_DEVICE inline formula::SiluJet<float> rough_silu(float x) { return {x, math::rough_sigmoid(x)}; }
TTT_DEVICE inline void turn_into_terms(CoreProducts& z, const CoreValues& e, float factor, FragmentA* terms) {
  TTT_UNROLL
  for (int half = 0; half < 2; ++half) {
    TTT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const formula::GluTerms<float> both(z.of[0][half].at[i], rough_silu(z.of[1][half].at[i]), factor * e.of[half][i]);
      z.of[0][half].at[i] = both.P;
      z.of[1][half].at[i] = both.R;
    }
  }
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) terms[m] = as_a(z.of[m][0], z.of[m][1]);
}

/// o = (q u1) ⊙ S(q u2) with u = w − η·clip(g).
template <int D, class S>
struct TttGluCores {
  static constexpr int threads = 2 * D, row = D / 2 + 4, most = 208;  // most tokens of a chunk
  CoreSizes s;
  Tokens<const S> q, k, v;
  GluWeights<float> w;
  float* gradient;  // [B, H, d, 2d] or null
  Tokens<S> o;
  static std::int64_t shared_bytes(const CoreSizes& s) { return 2 * shared_size<std::uint32_t>(s.chunk * row); }

  struct Registers {
    CoreOperand<D> w;   // then u
    CoreColumns<D> g;
    CoreTokens<D> x;
    CoreProducts z;
    CoreValues e, next;
    FragmentA terms[2];
    FragmentB turned[2];
    CoreSums norm;
  };
  TTT_DEVICE void operator()(Block& block) const {
    const std::int64_t b = block.index() / s.H, h = block.index() % s.H;
    const PairTile keys{block.shared<std::uint32_t>(s.chunk * row), row}, queries{block.shared<std::uint32_t>(s.chunk * row), row};
    const CoreWeights weights(w, h);
    const S* values = v.data + b * v.step_image + h * v.step_head;
    S* answers = o.data + b * o.step_image + h * o.step_head;
    PerThread<Registers> r(block);
    const auto operand = [&](int t) -> const CoreOperand<D>& { return r[t].w; };
    const auto tokens = [&](int t) -> const CoreTokens<D>& { return r[t].x; };
    const auto z = [&](int t) -> CoreProducts& { return r[t].z; };

    for (int first = 0; first < s.N; first += s.chunk) {
      const int rows = s.rows(first);
      block.each_thread([&](int t) {
        load_pairs<D>(block, k, b, h, first, s.N, rows, keys, t);
        if (first > 0) return;
        load_pairs<D>(block, q, b, h, first, s.N, rows, queries, t);
        weights.load<D>(CoreLane(t), r[t].w);
        r[t].g = CoreColumns<D>{};
      });
      block.each_lane([&](int t) { r[t].next.load(values + CoreLane(t).channel, v.step_token, first, s.N, CoreLane(t)); });
      for (int at = 0; at < rows; at += 16) {
        block.each_lane([&](int t) {
          r[t].e = r[t].next;
          r[t].next.load(values + CoreLane(t).channel, v.step_token, first + at + 16, s.N, CoreLane(t));
          r[t].x.load(keys, at, CoreLane(t));
          r[t].z.clear();
        });
        multiply_tokens<D>(block, z, operand, tokens);                                             // z [channels, 16] = wᵀ kᵀ
        block.each_lane([&](int t) { turn_into_terms(r[t].z, r[t].e, -s.c, r[t].terms); });        // P, R [channels, 16]
        add_outer<D>(
            block, [&](int t) -> CoreColumns<D>& { return r[t].g; }, [&](int t) { return r[t].terms; }, keys, at,
            [&](int t) { return r[t].turned; });                                                   // gᵀ [channels, d] += (P, R) k
      }
      block.barrier();
    }

    column_norms<D>(block, [&](int t) -> CoreSums& { return r[t].norm; }, [&](int t) -> CoreColumns<D>& { return r[t].g; });
    block.each_lane([&](int t) {
      const CoreLane lane(t);
      if (gradient) {
        float* kept = gradient + block.index() * 2 * D * D + lane.channel;
        each_of_columns<D>(lane, [&](int m, int tile, int i, int row, int half) {
          if (half == 0) store_two(kept + row * 2 * D + m * D, r[t].g.of[m][tile].at[i], r[t].g.of[m][tile].at[i + 2]);
        });
      }
      each_of_columns<D>(lane, [&](int m, int tile, int i, int row, int half) {                    // uᵀ [channels, d]
        float& g = r[t].g.of[m][tile].at[i];
        g = formula::clipped_step(weights.at(m, row, lane.channel + half), g, r[t].norm.of[m][half], s.rate);
      });
      CoreWeights::as_operand<D>(r[t].g, r[t].w);
    });

    for (int first = 0; first < s.N; first += s.chunk) {
      const int rows = s.rows(first);
      if (first > 0) {
        block.barrier();
        block.each_thread([&](int t) { load_pairs<D>(block, q, b, h, first, s.N, rows, queries, t); });
      }
      for (int at = 0; at < rows; at += 16) {
        block.each_lane([&](int t) {
          r[t].x.load(queries, at, CoreLane(t));
          r[t].z.clear();
        });
        multiply_tokens<D>(block, z, operand, tokens);                                             // y [channels, 16] = uᵀ qᵀ
        block.each_lane([&](int t) {
          TTT_UNROLL
          for (int half = 0; half < 2; ++half) {                                                   // o [channels, 8]
            Accumulator& y = r[t].z.of[0][half];
            TTT_UNROLL
            for (int i = 0; i < 4; ++i) y.at[i] *= rough_silu(r[t].z.of[1][half].at[i]).value;
            store_values(y, answers + CoreLane(t).channel, o.step_token, first + at + 8 * half, s.N, CoreLane(t));
          }
        });
      }
    }
  }
};

/// Whether the heads' width and layout suit the kernels on tensor cores.
template <class S>
bool glu_fits_cores(std::int64_t d, std::initializer_list<Tokens<S>> all) {
  if (d != 32 && d != 64) return false;
  for (const Tokens<S>& x : all)
    if (!fits_tensor_cores(x)) return false;
  return true;
}
/// o [B, H, N, d] from q, k, v [B, H, N, d], of float or bf16; keeps g [B, H, d, 2d] in `gradient` unless that is null. Needs `glu_fits_cores`.
template <class L, int D, class S>
void ttt_glu_by_cores(View<const S> q, View<const S> k, View<const S> v, const GluWeights<float>& w, const TttStep& step, float* gradient, View<S> o) {
  using Program = TttGluCores<D, S>;
  const CoreSizes s(q.shape, step, Program::most);
  const std::int64_t blocks = q.shape[0] * q.shape[1];
  if (blocks > 0) L("ttt_glu", o.device).blocks(blocks, Program::threads, Program::shared_bytes(s), Program{s, q, k, v, w, gradient, o});
}

/// Cotangents of q, k, v and, by image, of the weights from that of o and from the g that the way forward kept.
template <int D, class S>
struct TttGluPullCores {
  static constexpr int threads = 2 * D, row = D / 2 + 4, wide = D + 4, matrix = D + 2, most = 80;  // rows in pairs; most tokens of a chunk
  CoreSizes s;
  Tokens<const S> q, k, v;
  GluWeights<float> w;
  const float* gradient;  // g [B, H, d, 2d]
  Tokens<const S> o;
  Tokens<S> dq, dk, dv;
  float* dw;  // [B, H, d, 2d]
  static std::int64_t shared_bytes(const CoreSizes& s) {
    return shared_size<std::uint32_t>(s.chunk * row) + 2 * shared_size<std::uint32_t>(s.chunk * wide) + 2 * shared_size<std::uint32_t>(D * matrix);
  }

  struct Registers {
    CoreOperand<D> w, G;      // w is u first
    CoreColumns<D> sum;       // g, then U, then w̄
    CoreTokens<D> x;
    CoreProducts z, bar;
    CoreValues e, next;
    FragmentA terms[2], bars[2];
    FragmentB turned[2];
    CoreSums norm, along;
    FragmentA back[2][D / 8];
    FragmentB b[2][D / 8];
    Accumulator out;
  };
  /// [channels, 16 tokens] in C's layout -> rows of tokens, the two matrices side by side.
  TTT_DEVICE static void keep(const CoreProducts& z, const PairTile& to, int at, const CoreLane& lane) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) {
      TTT_UNROLL
      for (int m = 0; m < 2; ++m) {
        TTT_UNROLL
        for (int next = 0; next < 2; ++next)
          to(at + 8 * half + lane.pair + next, (m * D + lane.channel) / 2) = pack(z.of[m][half].at[next], z.of[m][half].at[2 + next]);
      }
    }
  }
  /// A lane's rows of a matrix [d, 2d] of bf16 in shared memory, columns [column, column + 16).
  TTT_DEVICE static FragmentA rows_of(const PairTile& x, int column, const CoreLane& lane) {
    const std::uint32_t *upper = &x(lane.channel, (column + lane.pair) / 2), *lower = &x(lane.channel + 1, (column + lane.pair) / 2);
    return {{upper[0], lower[0], upper[4], lower[4]}};
  }
  /// Columns in C's layout -> a matrix [d, 2d] of bf16.
  TTT_DEVICE static void keep(const CoreColumns<D>& x, const PairTile& to, const CoreLane& lane) {
    each_of_columns<D>(lane, [&](int m, int tile, int i, int r, int half) {
      if (half == 0) to(r, (m * D + lane.channel) / 2) = pack(x.of[m][tile].at[i], x.of[m][tile].at[i + 2]);
    });
  }

  TTT_DEVICE void operator()(Block& block) const {
    const std::int64_t b = block.index() / s.H, h = block.index() % s.H;
    const auto tile = [&](int rows, int pairs) { return PairTile{block.shared<std::uint32_t>(rows * pairs), pairs}; };
    const PairTile x = tile(s.chunk, row), terms = tile(s.chunk, wide), bars = tile(s.chunk, wide), trained = tile(D, matrix), start = tile(D, matrix);
    const CoreWeights weights(w, h);
    const float* g = gradient + block.index() * 2 * D * D;
    const auto base = [&](const auto& tokens) { return tokens.data + b * tokens.step_image + h * tokens.step_head; };
    PerThread<Registers> r(block);
    const auto sum = [&](int t) -> CoreColumns<D>& { return r[t].sum; };
    const auto operand = [&](int t) -> const CoreOperand<D>& { return r[t].w; };
    const auto tokens = [&](int t) -> const CoreTokens<D>& { return r[t].x; };
    const auto z = [&](int t) -> CoreProducts& { return r[t].z; };
    const auto turned = [&](int t) { return r[t].turned; };

    block.each_lane([&](int t) {
      const CoreLane lane(t);
      each_of_columns<D>(lane, [&](int m, int n, int i, int r2, int half) { r[t].sum.of[m][n].at[i] = g[r2 * 2 * D + m * D + lane.channel + half]; });
    });
    column_norms<D>(block, [&](int t) -> CoreSums& { return r[t].norm; }, sum);
    block.each_lane([&](int t) {
      const CoreLane lane(t);
      each_of_columns<D>(lane, [&](int m, int n, int i, int r2, int half) {                        // uᵀ [channels, d]
        float& of = r[t].sum.of[m][n].at[i];
        of = formula::clipped_step(weights.at(m, r2, lane.channel + half), of, r[t].norm.of[m][half], s.rate);
      });
      CoreWeights::as_operand<D>(r[t].sum, r[t].w);
      keep(r[t].sum, trained, lane);
      r[t].sum = CoreColumns<D>{};
    });

    for (int first = 0; first < s.N; first += s.chunk) {
      const int rows = s.rows(first);
      block.each_thread([&](int t) { load_pairs<D>(block, q, b, h, first, s.N, rows, x, t); });
      block.each_lane([&](int t) { r[t].next.load(base(o) + CoreLane(t).channel, o.step_token, first, s.N, CoreLane(t)); });
      for (int at = 0; at < rows; at += 16) {
        block.each_lane([&](int t) {
          const CoreLane lane(t);
          r[t].e = r[t].next;
          r[t].next.load(base(o) + lane.channel, o.step_token, first + at + 16, s.N, lane);
          r[t].x.load(x, at, lane);
          r[t].z.clear();
        });
        multiply_tokens<D>(block, z, operand, tokens);                                             // y [channels, 16] = uᵀ qᵀ
        block.each_lane([&](int t) {                                                               // ȳ [channels, 16]
          turn_into_terms(r[t].z, r[t].e, 1.0f, r[t].terms);
          keep(r[t].z, terms, at, CoreLane(t));
        });
        add_outer<D>(block, sum, [&](int t) { return r[t].terms; }, x, at, turned);                // Uᵀ [channels, d] += ȳ q
      }
      block.barrier();
      multiply_back<false>(block, r, trained, trained, terms, terms, rows, [&](int t, int at) {    // q̄ [8, d] = ȳ (u1, u2)ᵀ
        store_values(r[t].out, base(dq) + CoreLane(t).channel, dq.step_token, first + at, s.N, CoreLane(t));
      });
      block.barrier();
    }

    sum_columns<D>(block, [&](int t) -> CoreSums& { return r[t].along; }, [&](int t, int m, int n, int i, int r2, int half) {
      return r[t].sum.of[m][n].at[i] * g[r2 * 2 * D + m * D + CoreLane(t).channel + half];
    });
    block.each_thread([&](int t) {
      const CoreLane lane(t);
      CoreColumns<D> G;                                                                            // Gᵀ [channels, d]
      each_of_columns<D>(lane, [&](int m, int n, int i, int r2, int half) {
        const formula::ClippedStepPull<float> pull(r[t].norm.of[m][half], r[t].along.of[m][half], s.rate);
        G.of[m][n].at[i] = pull(r[t].sum.of[m][n].at[i], g[r2 * 2 * D + m * D + lane.channel + half]);
      });
      CoreWeights::as_operand<D>(G, r[t].G);
      keep(G, trained, lane);
      each_of_columns<D>(lane, [&](int m, int n, int i, int r2, int half) { G.of[m][n].at[i] = weights.at(m, r2, lane.channel + half); });
      CoreWeights::as_operand<D>(G, r[t].w);
      keep(G, start, lane);
    });

    for (int first = 0; first < s.N; first += s.chunk) {
      const int rows = s.rows(first);
      block.each_thread([&](int t) { load_pairs<D>(block, k, b, h, first, s.N, rows, x, t); });
      block.each_lane([&](int t) { r[t].next.load(base(v) + CoreLane(t).channel, v.step_token, first, s.N, CoreLane(t)); });
      for (int at = 0; at < rows; at += 16) {
        block.each_lane([&](int t) {
          const CoreLane lane(t);
          r[t].e = r[t].next;
          r[t].next.load(base(v) + lane.channel, v.step_token, first + at + 16, s.N, lane);
          r[t].x.load(x, at, lane);
          r[t].z.clear();
          r[t].bar.clear();
        });
        multiply_tokens<D>(block, z, operand, tokens);                                             // z [channels, 16] = wᵀ kᵀ
        multiply_tokens<D>(
            block, [&](int t) -> CoreProducts& { return r[t].bar; }, [&](int t) -> const CoreOperand<D>& { return r[t].G; }, tokens);  // P̄, R̄
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
            store_values(e_bar, base(dv) + lane.channel, dv.step_token, first + at + 8 * half, s.N, lane);
          }
          TTT_UNROLL
          for (int m = 0; m < 2; ++m) r[t].bars[m] = as_a(r[t].z.of[m][0], r[t].z.of[m][1]);
          keep(r[t].bar, terms, at, lane);
          keep(r[t].z, bars, at, lane);
        });
        add_outer<D>(block, sum, [&](int t) { return r[t].bars; }, x, at, turned);                 // w̄ᵀ [channels, d] += z̄ k
      }
      block.barrier();
      multiply_back<true>(block, r, trained, start, terms, bars, rows, [&](int t, int at) {        // k̄ [8, d] = (P, R) Gᵀ + z̄ (w1, w2)ᵀ
        store_values(r[t].out, base(dk) + CoreLane(t).channel, dk.step_token, first + at, s.N, CoreLane(t));
      });
      block.barrier();
    }
    block.each_lane([&](int t) {
      const CoreLane lane(t);
      float* total = dw + block.index() * 2 * D * D + lane.channel;
      each_of_columns<D>(lane, [&](int m, int n, int i, int r2, int half) {
        if (half == 0) store_two(total + r2 * 2 * D + m * D, r[t].sum.of[m][n].at[i], r[t].sum.of[m][n].at[i + 2]);
      });
    });
  }

 private:
  /// out [channels, 8 tokens] = a [d, 2d]·x [tokens, 2d]ᵀ, with `both` plus a2·x2ᵀ, for every 8 of `rows` tokens: store(t, first token).
  template <bool both, class R, class Store>
  TTT_DEVICE static void multiply_back(Block& block, R& r, const PairTile& a, const PairTile& a2, const PairTile& x, const PairTile& x2, int rows,
                                       const Store& store) {
    constexpr int matrices = both ? 2 : 1;
    block.each_lane([&](int t) {
      TTT_UNROLL
      for (int which = 0; which < matrices; ++which) {
        TTT_UNROLL
        for (int k = 0; k < D / 8; ++k) r[t].back[which][k] = rows_of(which == 0 ? a : a2, 16 * k, CoreLane(t));
      }
    });
    for (int at = 0; at < rows; at += 8) {
      block.each_lane([&](int t) {
        r[t].out = Accumulator{};
        TTT_UNROLL
        for (int which = 0; which < matrices; ++which) {
          TTT_UNROLL
          for (int k = 0; k < D / 8; ++k) r[t].b[which][k] = load_b(which == 0 ? x : x2, at, 16 * k, CoreLane(t));
        }
      });
      TTT_UNROLL
      for (int which = 0; which < matrices; ++which) {
        TTT_UNROLL
        for (int k = 0; k < D / 8; ++k)
          multiply_add(
              block, [&](int t) -> Accumulator& { return r[t].out; }, [&](int t) -> const FragmentA& { return r[t].back[which][k]; },
              [&](int t) -> const FragmentB& { return r[t].b[which][k]; });
      }
      block.each_lane([&](int t) { store(t, at); });
    }
  }
};
/// The way back of `ttt_glu_by_cores`: dq, dk, dv [B, H, N, d] and dw1, dw2 [H, d, d].
template <class L, int D, class S>
void ttt_glu_pull_by_cores(View<const S> q, View<const S> k, View<const S> v, const GluWeights<float>& w, const TttStep& step, const float* gradient,
                           View<const S> o, View<S> dq, View<S> dk, View<S> dv, View<float> dw1, View<float> dw2) {
  using Program = TttGluPullCores<D, S>;
  const L run("ttt_glu_pull", o.device);
  const CoreSizes s(q.shape, step, Program::most);
  const std::int64_t B = q.shape[0], H = q.shape[1];
  const Scratch<L, float> dw(run, B * H * 2 * D * D);                                              // [B, H, d, 2d]
  if (B * H > 0)
    run.blocks(B * H, Program::threads, Program::shared_bytes(s), Program{s, q, k, v, w, gradient, o, dq, dk, dv, dw.data()});
  sum_weights<L>(run, dw.data(), B, dw1, dw2);
}

}  // namespace ttt::cuda_backend
