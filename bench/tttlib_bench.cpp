// tttlib_bench: images per second of a model, for training or inference, and how far that is from the machine's limit.
//
//   tttlib_bench --model vit3_nano --mode train --batch 64 --threads 2 --repeat 10
//   tttlib_bench --model vit3_tiny --mode train --batch 16 --profile             where the time goes, module by module
//   tttlib_bench --model vit3_tiny --mode infer --dtype bf16                      products of operands rounded to bf16
//   tttlib_bench --model vit3_tiny --trace trace.json                            the same as a timeline
//   tttlib_bench --model ttt_heads --mode train --batch 16                       the TTT layer alone, without its projections
//   tttlib_bench --model vit3_small --batch 256 --device cuda:0                  on a GPU
//   tttlib_bench --model vit3_nano --batch 512 --device cuda:0 --graph           there, each step as one CUDA graph
//
// A training step is: forward, cross-entropy with label smoothing 0.1, backward, clipping at norm 5, AdamW. Prints the
// median and the spread over the repeats, the peak memory (resident; on a GPU what tensors held there), and the rate of
// arithmetic (2 operations a multiply-accumulate, 3 times the forward pass for training) as a share of the best rate that
// a large product reaches here. As JSON also the floor: the time that the arithmetic needs at that rate, or the least bytes
// of the TTT layer (with --dtype bf16 in bf16) at the rate of a copy, whichever is longer. bench/peers/ does the same with PyTorch.

#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdio>
#include <functional>
#include <optional>

#include "command_line.hpp"
#include "timing.hpp"
#include "tttlib/backend/cuda_graph.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/io/atomic_file.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/nn/profile.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/ttt/ttt_heads.hpp"

using namespace ttt;

namespace {

/// Best rates of this device, on the CPU with this many threads: GFLOP/s of a product of n × n matrices in the chosen precision,
/// GB/s of a copy of 64 MiB (read and written); on a GPU n is 8192 instead of 1024, and the copy 512 MiB.
struct Peak {
  double product = 0, copy = 0;
};
Peak measure_peak(Device device) {
  const NoGradGuard guard;
  const std::int64_t n = device.is_cpu() ? 1024 : 8192;
  Peak peak;
  {
    const Tensor<float> a = randn<float>({n, n}, device), b = randn<float>({n, n}, device);
    peak.product = 2e-9 * double(n) * double(n) * double(n) / seconds_of(12, [&] { matmul(a, b); }, device).front();
  }
  const Tensor<float> x = randn<float>({device.is_cpu() ? 16 * n : 2 * n, n}, device);
  Tensor<float> y = empty_like(x);
  peak.copy = 2e-9 * 4 * double(x.numel()) / seconds_of(8, [&] { backend::copy(view(x), mutable_view(y)); }, device).front();
  return peak;
}

/// What is timed: a step on one fixed random batch.
struct Work {
  std::function<void()> step;
  double macs = 0;   // multiply-accumulates of one image, forward
  double bytes = 0;  // of one image that a step has to read and write at least; 0: not counted
};

/// Inference, or a training step with its optimiser.
Work model_work(const std::string& name, const ModelOptions& options, bool train, std::int64_t batch, Device device) {
  const std::int64_t side = image_size_of(name, options), classes = options.num_classes;
  const std::shared_ptr<Module<float>> model = create_model<float>(name, options);
  const Tensor<float> images = randn<float>({batch, side, side, 3}, device);  // [B, H, W, 3]
  const double macs = static_cast<double>(summarize(*model, {1, side, side, 3}).macs);
  model->to(device);
  if (!train) {
    model->eval();
    const auto step = [model, images] {
      const NoGradGuard guard;
      (*model)(images);
    };
    return {step, macs, 0};
  }
  const auto optimizer = std::make_shared<AdamW<float>>(param_groups(*model, {.weight_decay = 0.05}));
  Tensor<std::int64_t> labels(Shape{batch});
  for (std::int64_t i = 0; i < batch; ++i) labels.data()[i] = i % classes;
  labels = labels.to(device);
  const auto loss_of = [labels](const Tensor<float>& logits) {
    const Scope scope("loss");
    return cross_entropy(logits, labels, {.label_smoothing = 0.1});
  };
  const auto step = [model, images, optimizer, loss_of] {
    const Tensor<float> loss = loss_of((*model)(images));
    optimizer->zero_grad();
    loss.backward();
    const Scope scope("optimizer");
    optimizer->step(grad_norm(model->parameters(), 5.0).scale);  // clipped in the update, without waiting for the norm
  };
  return {step, macs, 0};
}

/// The kernels between the projections of a block that keeps bf16 there (ttt/ttt_mixer.hpp), forward, or forward and back.
std::function<void()> heads_in_bf16(const Tensor<bf16>& qkv, const TttWeights<float>& w0, bool train) {
  const std::int64_t B = qkv.size(0), h = qkv.size(1), w = qkv.size(2), H = w0.heads(), d = w0.width();
  const Device device = qkv.device();
  const Tensor<float> w1 = reshape(w0.w1, {H, d, d}), w2 = reshape(w0.w2, {H, d, d}), w3 = reshape(w0.w3, {1, d, 3, 3});
  const TttStep step = losses::block_step;
  const Tensor<bf16> cotangent = cast<bf16>(randn<float>({B, h, w, (H + 1) * d}, device));                  // [B, h, w, C + d]
  return [=] {
    Tensor<bf16> o(Shape{B, h, w, (H + 1) * d}, device);                                                    // [B, h, w, C + d]
    Tensor<float> g_glu, g_conv;                                                                            // [B, H, d, 2d], [B, 9, d]
    if (train) g_glu = Tensor<float>(Shape{B, H, d, 2 * d}, device), g_conv = Tensor<float>(Shape{B, 9, d}, device);
    backend::ttt_heads_bf16(view(qkv), view(w1), view(w2), view(w3), step, g_glu.data(), g_conv.data(), mutable_view(o));
    if (!train) return;
    Tensor<bf16> dqkv(qkv.shape(), device);
    Tensor<float> dw1(w1.shape(), device), dw2(w2.shape(), device), dw3(w3.shape(), device);
    backend::ttt_heads_bf16_pull<float>(view(qkv), view(w1), view(w2), view(w3), step, g_glu.data(), g_conv.data(), view(cotangent),
                                        mutable_view(dqkv), mutable_view(dw1), mutable_view(dw2), mutable_view(dw3));
  };
}

/// The heads of one block of ViT³-S, from q, k, v of all tokens to their answers; training: forward, and backward to q, k, v
/// and the weights.
Work heads_work(TttPath path, bool train, std::int64_t batch, std::int64_t side, Device device) {
  const ModelConfig& config = model_config("vit3_small");
  const std::int64_t H = config.heads, d = config.channels / H, grid = side / config.patch_size;
  TttWeights<float> w0{trunc_normal<float>({1, H, d, d}, 0.02, 2, device), trunc_normal<float>({1, H, d, d}, 0.02, 2, device),
                       trunc_normal<float>({d, 1, 3, 3}, 0.02, 2, device)};
  Tensor<float> qkv = randn<float>({batch, grid, grid, 3 * (H + 1) * d}, device);          // [B, h, w, 3C + 3d]
  const Tensor<float> cotangent = randn<float>({batch, grid, grid, (H + 1) * d}, device);  // [B, h, w, C + d]
  const double macs = static_cast<double>(grid * grid * (6 * H * d * d + 18 * d));
  // Forward reads qkv and writes as many answers; the way back reads qkv and the answers' cotangent, and writes qkv's.
  const double channels = static_cast<double>((H + 1) * d) * (train ? 4 + 7 : 4), width = matmul_precision() == MatmulPrecision::bfloat16 ? 2 : 4;
  const double bytes = channels * width * static_cast<double>(grid * grid);
  if (path == TttPath::fused && backend::fuses_ttt_mixer<float>(device, d)) return {heads_in_bf16(cast<bf16>(qkv), w0, train), macs, bytes};
  if (!train) {
    const auto step = [=] {
      const NoGradGuard guard;
      ttt_heads(qkv, w0, path);
    };
    return {step, macs, bytes};
  }
  Tensors<float> leaves{qkv.requires_grad(true), w0.w1.requires_grad(true), w0.w2.requires_grad(true), w0.w3.requires_grad(true)};
  const auto step = [=]() mutable {
    for (Tensor<float>& leaf : leaves) leaf.zero_grad();
    ttt_heads(qkv, w0, path).backward(cotangent);
  };
  return {step, macs, bytes};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed of a model", "tttlib_bench");
  std::string name = "vit3_nano", mode = "train", path = "fused", trace;
  int batch = 64, threads = num_threads(), repeat = 10;
  std::int64_t image_size = 0, classes = 0;
  bool recompute = false, as_json = false, profiled = false, as_graph = false;
  Device device;
  app.add_option("--model", name, "Model name, or ttt_heads")->capture_default_str();
  app.add_option("--mode", mode)->check(CLI::IsMember({"train", "infer"}))->capture_default_str();
  app.add_option("--batch", batch, "Images per step")->check(program::whole(1, 1000000))->capture_default_str();
  app.add_option("--image-size", image_size, "Side of the images; default: the model's")->check(program::whole(1, 8192));
  app.add_option("--classes", classes, "Number of classes; default: 10 for models of 32 x 32 images, else 1000")->check(program::whole(1, 10000000));
  app.add_option("--threads", threads)->check(program::whole(1, 1024))->capture_default_str();
  app.add_option("--repeat", repeat, "Timed steps")->check(program::whole(1, 1000000))->capture_default_str();
  app.add_option("--path", path, "Form of the inner step; of deit_*: attention in blocks (fused) or with the whole matrix")
      ->check(CLI::IsMember({"fused", "closed", "nested"}))
      ->capture_default_str();
  program::add_device(app, device);
  program::add_dtype(app);
  app.add_flag("--recompute", recompute, "Run blocks again on the way back");
  app.add_flag("--graph", as_graph, "Capture a step as a CUDA graph and replay it");
  app.add_flag("--json", as_json, "Print one JSON object instead of a sentence");
  app.add_flag("--profile", profiled, "Print the time of every module, in one step after the timed ones");
  app.add_option("--trace", trace, "Write that step as a timeline for chrome://tracing or ui.perfetto.dev");
  return program::run(app, argc, argv, [&] {
    set_num_threads(threads);
    manual_seed(0);
    const bool train = mode == "train", heads = name == "ttt_heads";
    const ModelConfig& config = model_config(heads ? "vit3_small" : name);
    const std::int64_t side = image_size > 0 ? image_size : config.image_size;
    if (heads && side % config.patch_size != 0)
      fail<ShapeError>("tttlib_bench", concat("image size must be a multiple of the patch: image ", side, ", patch ", config.patch_size));
    ModelOptions options;
    options.num_classes = classes > 0 ? classes : config.image_size == 32 ? 10 : 1000;
    options.image_size = side;
    options.path = ttt_path(path);
    options.recompute = recompute;
    const Work work = heads ? heads_work(options.path, train, batch, side, device) : model_work(name, options, train, batch, device);
    std::function<void()> step = work.step;
    const bool gpu = !device.is_cpu();
    step();
    std::optional<CudaGraph> graph;
    if (as_graph) {
      graph.emplace(device);
      graph->capture(work.step);
      step = [&graph] { graph->replay(); };
    }
    step();
    const std::int64_t launches_before = gpu ? cuda_launches(device.index) : 0;
    step();
    const std::int64_t launches = gpu ? cuda_launches(device.index) - launches_before : 0;
    const std::vector<double> seconds = seconds_of(repeat, step, device);
    const auto rate = [&](double s) { return batch / s; };
    const double median = rate(seconds[seconds.size() / 2]);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const double resident = static_cast<double>(usage.ru_maxrss) / 1024;
    const double on_device = gpu ? static_cast<double>(cuda_memory(device.index).peak) / (1 << 20) : 0;
    if (gpu) release_cuda_memory(device.index);
    const Peak peak = measure_peak(device);  // last, since it takes memory too
    const double passes = train ? 3 : 1, gflops = 2e-9 * work.macs * median * passes;
    const double floor_ms = batch * std::max(2e-6 * work.macs * passes / peak.product, 1e-6 * work.bytes / peak.copy);
    const double slowest = rate(seconds.back()), fastest = rate(seconds.front());
    const char* dtype = to_string(matmul_precision());
    if (as_json) {
      fmt::print("{{\"model\": \"{}\", \"mode\": \"{}\", \"path\": \"{}\", \"dtype\": \"{}\", ", name, mode, path, dtype);
      fmt::print("\"graph\": {}, ", as_graph);
      fmt::print("\"device\": \"{}\", \"threads\": {}, \"batch\": {}, \"image_size\": {}, ", describe(device), threads, batch, side);
      fmt::print("\"images_per_second\": {:.3f}, \"slowest\": {:.3f}, \"fastest\": {:.3f}, ", median, slowest, fastest);
      fmt::print("\"peak_rss_mib\": {:.0f}, ", resident);
      if (gpu) fmt::print("\"peak_device_mib\": {:.0f}, \"launches\": {}, ", on_device, launches);
      fmt::print("\"gflops\": {:.1f}, \"peak_fraction\": {:.3f}, \"floor_ms\": {:.4f}, ", gflops, gflops / peak.product, floor_ms);
      fmt::print("\"peak_product_gflops\": {:.0f}, \"peak_copy_gb_per_second\": {:.1f}}}\n", peak.product, peak.copy);
    } else {
      const std::string where = gpu ? fmt::format("{}, {} launches a step", describe(device), launches) : fmt::format("{} threads", threads);
      fmt::print("{} {}, {}, batch {}, {}: {:.1f} images/s ", name, mode, dtype, batch, where, median);
      fmt::print("({:.1f} to {:.1f} over {} steps), ", slowest, fastest, repeat);
      fmt::print("peak {:.0f} MiB, {:.0f} of {:.0f} GFLOP/s\n", gpu ? on_device : resident, gflops, peak.product);
    }
    if (profiled || !trace.empty()) {
      Profile profile;
      {
        const ProfileGuard watch(profile, device);
        step();
      }
      if (profiled) fmt::print("\n{}", to_string(profile));
      if (!trace.empty()) write_file_atomically(trace, chrome_trace(profile), "tttlib_bench");
    }
    return 0;
  });
}
