// tttlib_ops: every op that a training step spends time in, alone, on the shapes of ViT³-T and ViT³-S; one line each, by Google
// Benchmark.
//
//   tttlib_ops                                      all of them; TTTLIB_NUM_THREADS says on how many threads
//   tttlib_ops --benchmark_filter='tokens|copy'     some; --benchmark_format=json and its other options work too
//
// The column `flop` is arithmetic per second, 2 a multiply-accumulate: compare with the product of 1024 × 1024 matrices.
// The column `bytes` is what must move per second, each operand and result once: compare with the copy.
// An op far from both rates is worth a look. A "pull" is the way back alone: cotangents of all inputs from that of the output.

#include <benchmark/benchmark.h>

#include <functional>

#include "tttlib/core/parallel.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/ttt/ttt_heads.hpp"

using namespace ttt;

namespace {

/// An op with its operands made: what runs, and what one run costs.
struct Work {
  std::function<void()> once;
  double flop = 0, bytes = 0;
};

double bytes_of(const Tensors<float>& tensors) {
  double bytes = 0;
  for (const Tensor<float>& x : tensors) bytes += 4 * static_cast<double>(x.numel());
  return bytes;
}

/// f(xs), from operands read to the result written.
template <class F>
Work forward(const F& f, Tensors<float> xs, double flop = 0) {
  const NoGradGuard guard;
  const double bytes = bytes_of(xs) + bytes_of({f(xs)});
  const auto once = [f, xs = std::move(xs)] {
    const NoGradGuard guard;
    benchmark::DoNotOptimize(f(xs));
  };
  return {once, flop, bytes};
}

/// The way back of f(xs): operands and a cotangent of the result read, a cotangent written for every operand but the first
/// `constants`, which need none.
template <class F>
Work pull(const F& f, Tensors<float> xs, double flop = 0, std::size_t constants = 0) {
  Tensors<float> leaves;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (i >= constants) leaves.push_back(xs[i].requires_grad(true));
  const Tensor<float> y = f(xs), cotangent = randn<float>(y.shape());
  const double bytes = bytes_of(xs) + bytes_of({cotangent}) + bytes_of(leaves);
  const auto once = [y, cotangent, leaves] { benchmark::DoNotOptimize(grad(Tensors<float>{y}, leaves, {cotangent}, {.retain_graph = true})); };
  return {once, flop, bytes};
}

/// One line of the table. Operands are made when its turn comes.
void op(const std::string& name, const std::function<Work()>& make) {
  const auto run = [make](benchmark::State& state) {
    manual_seed(0);
    const Work work = make();
    work.once();
    for (auto _ : state) work.once();
    const auto rate = [](double amount) { return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate); };
    state.counters["flop"] = rate(work.flop);
    state.counters["bytes"] = rate(work.bytes);
  };
  benchmark::RegisterBenchmark(name.c_str(), run)->Unit(benchmark::kMicrosecond)->UseRealTime();
}

/// c [m, n] = a [m, k] · b [k, n].
void product(const std::string& what, std::int64_t m, std::int64_t n, std::int64_t k) {
  op(concat("matmul ", what, " ", m, "x", n, "x", k), [=] {
    const auto f = [](const Tensors<float>& x) { return matmul(x[0], x[1]); };
    return forward(f, {randn<float>({m, k}), randn<float>({k, n})}, 2 * static_cast<double>(m * n * k));
  });
}

/// A linear layer on 16 images of 196 tokens, and its way back: two products, into the input and into the weight.
void linear_layer(const std::string& what, std::int64_t in, std::int64_t out) {
  constexpr std::int64_t rows = 16 * 196;
  const double flop = 2 * static_cast<double>(rows * in * out);
  const auto f = [](const Tensors<float>& x) { return linear(x[0], x[1], x[2]); };
  const auto operands = [=] { return Tensors<float>{randn<float>({rows, in}), randn<float>({out, in}), randn<float>({out})}; };
  op(concat("linear ", what, " ", rows, "x", out, "x", in), [=] { return forward(f, operands(), flop); });
  op(concat("linear ", what, " pull"), [=] { return pull(f, operands(), 2 * flop); });
}

/// An op on one operand or more, forward and back.
template <class F>
void both_ways(const std::string& name, const F& f, const std::function<Tensors<float>()>& operands, double flop = 0, double pull_flop = 0,
               std::size_t constants = 0) {
  op(name, [=] { return forward(f, operands(), flop); });
  op(name + " pull", [=] { return pull(f, operands(), pull_flop, constants); });
}

void products() {
  for (const std::int64_t n : {256, 512, 1024, 2048}) product("square", n, n, n);
  constexpr std::int64_t tokens = 16 * 196;
  product("weight gradient, ViT3-T fc1", 768, 192, tokens);
  product("weight gradient, ViT3-S fc1", 1536, 384, tokens);
  const struct {
    const char* name;
    std::int64_t channels, width;  // C, d
  } sizes[] = {{"ViT3-T", 192, 32}, {"ViT3-S", 384, 64}};
  for (const auto& [name, C, d] : sizes) {
    const std::string model = name;
    linear_layer(model + " qkv", C, 3 * (C + d));
    linear_layer(model + " proj", C + d, C);
    linear_layer(model + " fc1", C, 4 * C);
    linear_layer(model + " fc2", 4 * C, C);
  }
}

/// What else a block does to 16 images of 14 × 14 tokens of ViT³-S.
void tokens() {
  constexpr std::int64_t B = 16, side = 14, C = 384, d = 64, H = C / d, N = side * side;
  const auto normal = [](const Shape& shape) { return [shape] { return Tensors<float>{randn<float>(shape)}; }; };
  const Shape narrow{B, side, side, C}, wide{B, side, side, 4 * C};

  op("tokens copy, 64 MiB", [] {
    const Tensor<float> x = randn<float>({1 << 24});
    Tensor<float> y = empty_like(x);
    const auto once = [x, y]() mutable { backend::copy(view(x), mutable_view(y)); };
    return Work{once, 0, bytes_of({x, y})};
  });
  op("tokens add", [=] {
    const auto f = [](const Tensors<float>& x) { return add(x[0], x[1]); };
    return forward(f, {randn<float>(narrow), randn<float>(narrow)});
  });
  both_ways("tokens gelu", [](const Tensors<float>& x) { return gelu(x[0]); }, normal(wide));
  both_ways("tokens layer_norm", [](const Tensors<float>& x) { return layer_norm(x[0], x[1], x[2], 1e-6); },
            [=] { return Tensors<float>{randn<float>(narrow), ones<float>({C}), zeros<float>({C})}; });
  const double taps = 2.0 * 9 * B * N * C;
  both_ways("tokens depthwise 3x3", [](const Tensors<float>& x) { return depthwise_conv2d(x[0], x[1], {.padding = {1, 1}}); },
            [=] { return Tensors<float>{randn<float>(narrow), randn<float>({C, 1, 3, 3})}; }, taps, 2 * taps);
  const double dots = 4.0 * B * H * N * N * d;
  both_ways("tokens attention", [](const Tensors<float>& x) { return attention(x[0], x[1], x[2]); },
            [=] { return Tensors<float>{randn<float>({B, H, N, d}), randn<float>({B, H, N, d}), randn<float>({B, H, N, d})}; }, dots, 2.5 * dots);
  const double steps = 2.0 * B * N * (6 * H * d * d + 18 * d);
  both_ways("tokens ttt_heads",
            [=](const Tensors<float>& x) { return ttt_heads<float>(x[0], {x[1], x[2], x[3]}, TttPath::fused); },
            [=] {
              return Tensors<float>{randn<float>({B, side, side, 3 * (C + d)}), trunc_normal<float>({1, H, d, d}, 0.02),
                                    trunc_normal<float>({1, H, d, d}, 0.02), trunc_normal<float>({d, 1, 3, 3}, 0.02)};
            },
            steps, 2 * steps);
  both_ways("tokens softmax, rows of 196", [](const Tensors<float>& x) { return softmax(x[0]); }, normal({B, H, N, N}));
}

/// What happens once a step: the ends of the network and the optimiser.
void ends() {
  constexpr std::int64_t B = 16, classes = 1000, image = 224, patch = 16, C = 384;
  Tensor<std::int64_t> labels(Shape{B * 196});
  for (std::int64_t i = 0; i < labels.numel(); ++i) labels.data()[i] = i % classes;
  const double embedding = 2.0 * B * image * image * 3 * C;
  both_ways("ends patch embedding 16x16", [=](const Tensors<float>& x) { return conv2d(x[0], x[1], x[2], {.stride = {patch, patch}}); },
            [=] { return Tensors<float>{randn<float>({B, image, image, 3}), randn<float>({C, 3, patch, patch}), randn<float>({C})}; }, embedding, embedding, 1);
  both_ways("ends cross_entropy, 3136 rows", [=](const Tensors<float>& x) { return cross_entropy(x[0], labels, {.label_smoothing = 0.1}); },
            [=] { return Tensors<float>{randn<float>({B * 196, classes})}; });
  op("ends AdamW, ViT3-S", [] {
    const auto model = create_model<float>("vit3_small");
    double bytes = 0;
    for (Tensor<float>& p : model->parameters()) {
      p.set_grad(randn<float>(p.shape()));
      bytes += 7 * bytes_of({p});  // parameter, two moments and gradient read, the first three written
    }
    const auto optimizer = std::make_shared<AdamW<float>>(param_groups(*model, {.weight_decay = 0.05}));
    return Work{[model, optimizer] { optimizer->step(); }, 0, bytes};
  });
}

}  // namespace

int main(int argc, char** argv) {
  char tabular[] = "--benchmark_counters_tabular=true";
  std::vector<char*> arguments{argv[0], tabular};
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  benchmark::AddCustomContext("tttlib threads", std::to_string(num_threads()));
  products();
  tokens();
  ends();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
