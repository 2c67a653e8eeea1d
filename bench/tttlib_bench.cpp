// tttlib_bench: images per second of a model, for training or inference.
//
//   tttlib_bench --model vit3_nano --mode train --batch 64 --threads 2 --repeat 10
//
// A training step is: forward, cross-entropy with label smoothing 0.1, backward, clipping at norm 5, AdamW. Prints the
// median and the spread over the repeats and the peak resident memory; bench/peers/ does the same with PyTorch.

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "command_line.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"

using namespace ttt;

int main(int argc, char** argv) {
  CLI::App app("Speed of a model", "tttlib_bench");
  std::string name = "vit3_nano", mode = "train", path = "fused";
  int batch = 64, threads = num_threads(), repeat = 10;
  std::int64_t image_size = 0, classes = 0;
  bool as_json = false;
  app.add_option("--model", name, "Model name")->capture_default_str();
  app.add_option("--mode", mode)->check(CLI::IsMember({"train", "infer"}))->capture_default_str();
  app.add_option("--batch", batch, "Images per step")->check(program::whole(1, 1000000))->capture_default_str();
  app.add_option("--image-size", image_size, "Side of the images; default: the model's")->check(program::whole(1, 8192));
  app.add_option("--classes", classes, "Number of classes; default: 10 for models of 32 x 32 images, else 1000")->check(program::whole(1, 10000000));
  app.add_option("--threads", threads)->check(program::whole(1, 1024))->capture_default_str();
  app.add_option("--repeat", repeat, "Timed steps")->check(program::whole(1, 1000000))->capture_default_str();
  app.add_option("--path", path, "Form of the inner step")->check(CLI::IsMember({"fused", "closed", "nested"}))->capture_default_str();
  app.add_flag("--json", as_json);
  return program::run(app, argc, argv, [&] {
    set_num_threads(threads);
    manual_seed(0);
    if (classes == 0) classes = model_config(name).image_size == 32 ? 10 : 1000;
    ModelOptions options;
    options.num_classes = classes;
    options.path = ttt_path(path);
    if (image_size > 0) options.image_size = image_size;
    const std::int64_t side = image_size_of(name, options);
    auto model = create_model<float>(name, options);
    std::unique_ptr<AdamW<float>> optimizer;  // its state takes twice the memory of the parameters
    if (mode == "train") optimizer = std::make_unique<AdamW<float>>(param_groups(*model, {.weight_decay = 0.05}));
    const Tensor<float> images = randn<float>({batch, side, side, 3});  // [B, H, W, 3]
    Tensor<std::int64_t> labels(Shape{batch});
    for (std::int64_t i = 0; i < batch; ++i) labels.data()[i] = i % classes;
    if (mode == "infer") model->eval();

    const auto step = [&] {
      if (mode == "infer") {
        NoGradGuard guard;
        (*model)(images);
        return;
      }
      const Tensor<float> loss = cross_entropy((*model)(images), labels, {.label_smoothing = 0.1});
      optimizer->zero_grad();
      loss.backward();
      clip_grad_norm(*model, 5.0);
      optimizer->step();
    };
    step();
    step();
    std::vector<double> rates;
    for (int i = 0; i < repeat; ++i) {
      const auto start = std::chrono::steady_clock::now();
      step();
      rates.push_back(batch / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(rates.begin(), rates.end());
    const double median = rates[rates.size() / 2];
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const double peak = static_cast<double>(usage.ru_maxrss) / 1024;
    if (as_json)
      std::printf("{\"model\": \"%s\", \"mode\": \"%s\", \"batch\": %d, \"threads\": %d, \"images_per_second\": %.1f, \"slowest\": %.1f, \"fastest\": %.1f, \"peak_rss_mib\": %.0f}\n",
                  name.c_str(), mode.c_str(), batch, threads, median, rates.front(), rates.back(), peak);
    else
      std::printf("%s %s, batch %d, %d threads: %.1f images/s (%.1f to %.1f over %d steps), peak %.0f MiB\n",
                  name.c_str(), mode.c_str(), batch, threads, median, rates.front(), rates.back(), repeat, peak);
    return 0;
  });
}
