// Trains an image classifier on CIFAR-10 (or CIFAR-100) files or on the built-in set of coloured shapes.
//
//   train_classifier                                            the built-in shapes
//   train_classifier --data cifar-10-batches-bin --epochs 20    CIFAR-10 in its binary format
//   train_classifier --resume …                                 goes on where a run stopped
//   train_classifier --eval --weights runs/…/best.safetensors   accuracy only
//
// Writes metrics.jsonl, last.safetensors, best.safetensors, training_state.safetensors and predictions.png into --out.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "tttlib/core/parallel.hpp"
#include "tttlib/data/cifar.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/io/image_grid.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/train/classifier.hpp"

using namespace ttt;

namespace {

volatile std::sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

struct Data {
  ImageDataset train, test;
};

Data load_data(const std::string& where, std::int64_t shapes_count, std::int64_t image_size) {
  if (where != "shapes") return {load_cifar(where, Split::train), load_cifar(where, Split::test)};
  const int size = static_cast<int>(image_size);
  return {make_shapes(shapes_count, size, 0, Split::train), make_shapes(2000, size, 0, Split::test)};
}

void print_accuracy(const Evaluation& evaluation, const std::vector<std::string>& names) {
  std::printf("\naccuracy by class\n");
  for (std::size_t c = 0; c < names.size(); ++c)
    if (evaluation.class_total[c] > 0)
      std::printf("  %-16s %5.1f %%  (%ld of %ld)\n", names[c].c_str(),
                  100.0 * static_cast<double>(evaluation.class_correct[c]) / static_cast<double>(evaluation.class_total[c]),
                  static_cast<long>(evaluation.class_correct[c]), static_cast<long>(evaluation.class_total[c]));
  std::printf("test accuracy %.4f\n", evaluation.top1);
}

void write_predictions(const std::string& path, const ImageDataset& test, const Evaluation& evaluation) {
  std::vector<GridTile> tiles;
  for (std::int64_t i = 0; i < test.size() && i < 40; ++i)
    tiles.push_back({test.image(i), test.class_names[static_cast<std::size_t>(evaluation.predicted[static_cast<std::size_t>(i)])],
                     test.class_names[static_cast<std::size_t>(test.labels[static_cast<std::size_t>(i)])]});
  write_png(path, image_grid(tiles));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains an image classifier");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // so that options after a preset win
  TrainOptions options;
  std::string data = "shapes", model_name = "vit3_nano", weights, path = "closed";
  int threads = num_threads();
  std::int64_t shapes_count = 10000;
  bool no_augment = false, evaluate_only = false, summary = false;
  std::optional<std::int64_t> image_size, classes;
  app.add_option("--data", data, "Folder of CIFAR-10 or CIFAR-100 binary files, or \"shapes\"")->capture_default_str();
  app.add_option("--model", model_name, "Model name")->capture_default_str();
  app.add_option("--epochs", options.epochs)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--batch-size", options.batch_size)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--lr", options.lr, "Peak learning rate")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--weight-decay", options.weight_decay, "Of parameters with two axes or more")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--warmup-epochs", options.warmup_epochs)->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--label-smoothing", options.label_smoothing)->check(CLI::Range(0.0, 1.0))->capture_default_str();
  app.add_option("--clip-grad", options.clip_grad, "Largest norm of the gradient")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--ema", options.ema, "Decay of averaged weights, 0 for none")->check(CLI::Range(0.0, 1.0))->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--threads", threads)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--image-size", image_size, "Side of the shapes images, or of the summary");
  app.add_option("--classes", classes, "Number of classes of the summary");
  app.add_option("--shapes-count", shapes_count, "Training images of the shapes set")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--path", path, "Form of the inner step")->check(CLI::IsMember({"closed", "nested"}))->capture_default_str();
  app.add_option("--out", options.out, "Output folder")->capture_default_str();
  app.add_option("--weights", weights, "Weights to start from, or to evaluate");
  app.add_flag("--no-augment", no_augment, "No random crops and flips");
  app.add_flag("--resume", options.resume, "Go on with the run in --out");
  app.add_flag("--eval", evaluate_only, "Evaluate --weights (default: the best ones in --out)");
  app.add_flag("--summary", summary, "Print the model's table of modules and stop");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 1;
  }

  try {
    set_num_threads(threads);
    manual_seed(options.seed);
    ModelOptions model_options;
    model_options.path = path == "nested" ? TttPath::nested : TttPath::closed;
    model_options.image_size = image_size;
    const std::int64_t side = image_size_of(model_name, model_options);
    if (summary) {
      model_options.num_classes = classes.value_or(image_size_of(model_name, model_options) == 32 ? 10 : 1000);
      auto model = create_model<float>(model_name, model_options);
      std::printf("%s", to_string(summarize(*model, {1, side, side, 3})).c_str());
      return 0;
    }

    const Data sets = load_data(data, shapes_count, side);
    model_options.num_classes = static_cast<std::int64_t>(sets.train.class_names.size());
    model_options.image_size = sets.train.height;
    auto model = create_model<float>(model_name, model_options);
    if (no_augment) options.crop_padding = 0, options.flip = false;
    options.description = concat(model_name, " on ", data == "shapes" ? concat("shapes ", side) : data);
    std::printf("%s, %s parameters, on %s: %ld training and %ld test images of %d x %d, %d classes, %d threads\n", model_name.c_str(),
                with_thousands(model->num_parameters()).c_str(), data.c_str(), static_cast<long>(sets.train.size()),
                static_cast<long>(sets.test.size()), sets.train.width, sets.train.height,
                static_cast<int>(model_options.num_classes), num_threads());
    if (evaluate_only && weights.empty()) weights = options.out + "/best.safetensors";
    if (!weights.empty()) {
      load_weights(weights, *model);
      std::printf("weights from %s\n", weights.c_str());
    }

    Evaluation evaluation;
    if (evaluate_only) {
      evaluation = evaluate(*model, sets.test);
    } else {
      std::signal(SIGINT, on_interrupt);
      std::signal(SIGTERM, on_interrupt);
      const TrainResult result = train_classifier(*model, sets.train, sets.test, options, [] { return interrupted != 0; });
      if (result.interrupted) {
        std::string command;
        for (int i = 0; i < argc; ++i) command += concat(i ? " " : "", argv[i]);
        if (!options.resume) command += " --resume";
        std::printf("Saved. To go on: %s\n", command.c_str());
        return 130;
      }
      evaluation = result.evaluation;
    }
    print_accuracy(evaluation, sets.test.class_names);
    if (!evaluate_only) {
      write_predictions(options.out + "/predictions.png", sets.test, evaluation);
      std::printf("written to %s: predictions.png, metrics.jsonl, best.safetensors, last.safetensors\n", options.out.c_str());
    }
    return 0;
  } catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
