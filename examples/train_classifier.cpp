// Trains an image classifier on CIFAR-10 (or CIFAR-100) files or on the built-in set of coloured shapes.
//
//   train_classifier                                            the built-in shapes
//   train_classifier --data cifar-10-batches-bin --epochs 20    CIFAR-10 in its binary format
//   train_classifier --device cuda:0 …                          on a GPU; a run may be resumed on another device
//   train_classifier --device cuda:0,cuda:1 …                   on two, which share every batch
//   train_classifier --resume …                                 goes on where a run stopped
//   train_classifier --overwrite …                              starts again in a folder that holds a run
//   train_classifier --eval --weights runs/…/best.safetensors   accuracy only
//
// Writes into --out: report.html (curves, accuracy by class, predictions, how to repeat the run), metrics.jsonl,
// last.safetensors, best.safetensors, training_state.safetensors and predictions.png.

#include <csignal>
#include <cstdio>
#include <filesystem>

#include "command_line.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/data/cifar.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/io/image_grid.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/train/classifier.hpp"
#include "tttlib/train/progress.hpp"
#include "tttlib/train/report.hpp"

using namespace ttt;

namespace {

volatile std::sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

struct Data {
  ImageDataset train, test;
};

/// Height and width of images.
struct Size {
  std::int64_t height = 0, width = 0;
  bool operator==(const Size&) const = default;
};
std::string to_string(const Size& size) { return concat(size.height, " x ", size.width); }

/// "224" or "192x256".
Size parse_size(const std::string& text) {
  constexpr std::int64_t largest = 8192;
  const std::size_t cross = std::min(text.find('x'), text.size());
  const auto side = [&](const std::string& digits) {
    std::int64_t n = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, n);
    if (error != std::errc() || stop != end || n < 1 || n > largest)
      fail<Error>("train_classifier", concat("--image-size: must be a side, or height x width as in 192x256, from 1 to ", largest, ": ", text));
    return n;
  };
  const std::int64_t height = side(text.substr(0, cross));
  return {height, cross == text.size() ? height : side(text.substr(cross + 1))};
}

/// `size`: of the images, if the command line asks for one; else the model's side for the built-in shapes. `train_count`: of the
/// training images in files, as many of each class; all unless it is set.
Data load_data(const std::string& where, std::int64_t shapes_count, const std::optional<std::int64_t>& train_count, const std::optional<Size>& size,
               std::int64_t model_side) {
  if (where == "shapes") {
    if (train_count) fail<Error>("train_classifier", "--train-count is for images in files", "--shapes-count for the built-in shapes");
    if (size && size->height != size->width)
      fail<ShapeError>("train_classifier", "the built-in shapes are square: --image-size " + to_string(*size), "images of other sides can be had with --summary");
    const int side = static_cast<int>(size ? size->height : model_side);
    return {make_shapes(shapes_count, side, 0, Split::train), make_shapes(2000, side, 0, Split::test)};
  }
  Data data{load_cifar(where, Split::train), load_cifar(where, Split::test)};
  if (const Size own{data.train.height, data.train.width}; size && *size != own)
    fail<ShapeError>("train_classifier", concat("the images have a size of their own: ", where, " ", to_string(own), ", --image-size ", to_string(*size)));
  if (train_count) data.train = first_of_each_class(data.train, *train_count);
  return data;
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

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", 100 * share);
  return text;
}

/// The run as a page; the facts of the run itself are already in `report`.
void write_report(Report& report, const std::string& folder, const TrainResult& result, const std::vector<std::string>& classes) {
  ReportLine train{.name = "training"}, test{.name = "test"}, top1;
  double seconds = 0;
  for (const EpochMetrics& m : result.state.history) {
    train.y.push_back(m.train_loss);
    test.y.push_back(m.test_loss);
    top1.y.push_back(100 * m.test_top1);
    seconds += m.seconds;
  }
  const Evaluation& evaluation = result.evaluation;
  report.result(concat("Test accuracy ", percent(evaluation.top1), " % after ", train.y.size(), train.y.size() == 1 ? " epoch" : " epochs", " and ",
                       duration_string(seconds), " of training."));
  report.chart({.title = "Loss", .x_label = "epoch", .y_label = "cross-entropy, nats", .lines = {train, test},
                .caption = "Training: mean over an epoch, while the weights change, on smoothed labels and augmented images where the run has them. Test: after it, on plain ones."});
  report.chart({.title = "Test accuracy", .x_label = "epoch", .y_label = "top-1, %", .lines = {top1}});
  ReportTable table{.caption = "Test accuracy by class", .columns = {"class", "accuracy, %", "right", "images"}};
  for (std::size_t c = 0; c < classes.size(); ++c)
    if (const auto total = evaluation.class_total[c]; total > 0)
      table.rows.push_back({classes[c], percent(static_cast<double>(evaluation.class_correct[c]) / static_cast<double>(total)),
                            concat(evaluation.class_correct[c]), concat(total)});
  report.table(table);
  report.picture(folder + "/predictions.png",
                 "The first test images in rows; below each the predicted class with a check mark where it is right, a cross and the true class where it is wrong",
                 "The first test images with the predicted class; where it is wrong, the true one stands below.");
  report.write(folder + "/report.html");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains an image classifier", "train_classifier");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // so that options after a preset win
  TrainOptions options;
  std::string data = "shapes", model_name = "vit3_nano", weights, path = "fused";
  int threads = num_threads();
  std::int64_t shapes_count = 10000;
  bool recompute = false, no_augment = false, evaluate_only = false, summary = false;
  std::string image_size;
  std::optional<std::int64_t> patch_size, classes, train_count;
  double drop_path = 0;
  std::vector<Device> devices{cpu()};
  app.add_option("--data", data, "Folder of CIFAR-10 or CIFAR-100 binary files, or \"shapes\"")->capture_default_str();
  app.add_option("--model", model_name, "Model name")->capture_default_str();
  app.add_option("--epochs", options.epochs)->check(program::whole(1, 1000000))->capture_default_str();
  app.add_option("--batch-size", options.batch_size)->check(program::whole(1, 1000000))->capture_default_str();
  app.add_option("--lr", options.lr, "Peak learning rate")->check(program::positive())->capture_default_str();
  app.add_option("--weight-decay", options.weight_decay, "Of parameters with two axes or more")->check(program::number(0))->capture_default_str();
  app.add_option("--warmup-epochs", options.warmup_epochs)->check(program::number(0, 1000000))->capture_default_str();
  app.add_option("--label-smoothing", options.label_smoothing)->check(program::number(0, 1))->capture_default_str();
  app.add_option("--clip-grad", options.clip_grad, "Largest norm of the gradient")->check(program::positive())->capture_default_str();
  app.add_option("--ema", options.ema, "Decay of averaged weights, 0 for none")->check(program::number(0, 1))->capture_default_str();
  app.add_option("--seed", options.seed)->check(program::whole(0))->capture_default_str();
  app.add_option("--threads", threads)->check(program::whole(1, 1024))->capture_default_str();
  app.add_option("--image-size", image_size, "Side of the shapes images; side, or HEIGHTxWIDTH, of the summary's")->type_name("N|HxW");
  app.add_option("--patch-size", patch_size, "Side of the patches; default: the model's")->check(program::whole(1, 8192));
  app.add_option("--classes", classes, "Number of classes of the summary")->check(program::whole(1, 10000000));
  app.add_option("--shapes-count", shapes_count, "Training images of the shapes set")->check(program::whole(1, 100000000))->capture_default_str();
  app.add_option("--train-count", train_count, "Training images, the first of each class; default: all in the files")->check(program::whole(1));
  app.add_option("--drop-path", drop_path, "Of the last block, rising from 0 over the depth")->check(program::number(0, 1))->capture_default_str();
  app.add_option("--path", path, "Form of the inner step")->check(CLI::IsMember({"fused", "closed", "nested"}))->capture_default_str();
  program::add_devices(app, devices, "Where to compute; several, with commas between, share every batch");
  program::add_dtype(app);
  app.add_option("--out", options.out, "Output folder")->capture_default_str();
  app.add_option("--weights", weights, "Weights to start from, or to evaluate");
  app.add_flag("--recompute", recompute, "Run blocks again on the way back: less memory, a third more time");
  app.add_flag("--graph", options.cuda_graph, "On a GPU: loss and gradients of every step as one CUDA graph");
  app.add_flag("--no-augment", no_augment, "No random crops and flips");
  app.add_flag("--resume", options.resume, "Go on with the run in --out");
  app.add_flag("--overwrite", options.overwrite, "Start again although --out holds a run; --resume has precedence");
  app.add_flag("--eval", evaluate_only, "Evaluate --weights (default: the best ones in --out)");
  app.add_flag("--summary", summary, "Print the model's table of modules and stop");

  return program::run(app, argc, argv, [&] {
    set_num_threads(threads);
    manual_seed(options.seed);
    std::optional<Size> size;
    if (!image_size.empty()) size = parse_size(image_size);
    ModelOptions model_options;
    model_options.path = ttt_path(path);
    model_options.patch_size = patch_size;
    model_options.recompute = recompute;
    model_options.drop_path = drop_path;
    if (size) model_options.image_size = size->height;
    const std::int64_t side = image_size_of(model_name, model_options);
    if (summary) {
      const Size shown = size.value_or(Size{side, side});
      model_options.num_classes = classes.value_or(side == 32 ? 10 : 1000);
      auto model = create_model<float>(model_name, model_options);
      std::printf("%s", to_string(summarize(*model, {1, shown.height, shown.width, 3})).c_str());
      return 0;
    }

    if (classes) fail<Error>("train_classifier", "--classes is for --summary: a data set has the classes that it has");
    const Data sets = load_data(data, shapes_count, train_count, size, side);
    model_options.num_classes = static_cast<std::int64_t>(sets.train.class_names.size());
    model_options.image_size = sets.train.height;
    auto model = create_model<float>(model_name, model_options);
    model->to(devices[0]);
    if (evaluate_only) devices.resize(1);
    std::vector<std::shared_ptr<Module<float>>> others;  // of the other ranks
    for (std::size_t rank = 1; rank < devices.size(); ++rank) {
      Generator unused;  // their first weights will be the first model's
      const GeneratorGuard guard(unused);
      others.push_back(create_model<float>(model_name, model_options));
      others.back()->to(devices[rank]);
    }
    if (no_augment) options.crop_padding = 0, options.flip = false;
    options.description = concat("model ", model_name, patch_size ? concat(", patch ", *patch_size) : "", ", path ", path,
                                 drop_path == 0 ? "" : concat(", drop path ", drop_path),
                                 matmul_precision() == MatmulPrecision::float32 ? "" : concat(", dtype ", to_string(matmul_precision())));
    std::printf("%s, %s parameters, on %s: %ld training and %ld test images of %d x %d, %d classes; computed on %s, %d threads\n", model_name.c_str(),
                with_thousands(model->num_parameters()).c_str(), data.c_str(), static_cast<long>(sets.train.size()),
                static_cast<long>(sets.test.size()), sets.train.width, sets.train.height,
                static_cast<int>(model_options.num_classes), program::describe(devices).c_str(), num_threads());
    if (evaluate_only && weights.empty()) weights = options.out + "/best.safetensors";
    if (!weights.empty() && options.resume && !evaluate_only) {
      std::printf("the run goes on with its own weights: --weights %s is not read\n", weights.c_str());
    } else if (!weights.empty()) {
      load_weights(weights, *model);
      std::printf("weights from %s\n", weights.c_str());
    }

    TrainResult result;
    if (evaluate_only) {
      result.evaluation = evaluate(*model, sets.test);
    } else {
      std::signal(SIGINT, on_interrupt);
      std::signal(SIGTERM, on_interrupt);
      std::vector<Module<float>*> replicas{model.get()};
      for (const auto& other : others) replicas.push_back(other.get());
      result = train_classifier(replicas, sets.train, sets.test, options, [] { return interrupted != 0; });
      if (result.interrupted) {
        // What an overwritten run has left is not about the run that is saved now.
        for (const char* file : {"/report.html", "/predictions.png"}) std::filesystem::remove(options.out + file);
        std::vector<const char*> again;
        for (int i = 0; i < argc; ++i)
          if (std::string_view(argv[i]) != "--overwrite" && std::string_view(argv[i]) != "--resume") again.push_back(argv[i]);
        again.push_back("--resume");
        std::printf("Saved. To go on: %s\n", command_line(static_cast<int>(again.size()), again.data()).c_str());
        return 130;
      }
    }
    print_accuracy(result.evaluation, sets.test.class_names);
    if (!evaluate_only) {
      write_predictions(options.out + "/predictions.png", sets.test, result.evaluation);
      Report report(concat(model_name, " on ", data == "shapes" ? concat("shapes ", sets.train.height) : data),
                    "How a classifier learned. The training loss falls as it fits what it sees; accuracy on images it never saw tells whether it "
                    "learned the classes or only the pictures. In a ViT³ every block also trains a small inner model on each image's own keys and "
                    "values, and the classifier learns by differentiating through that training.");
      report.run(argc, argv, options.seed);
      report.fact("Model", concat(model_name, ", ", with_thousands(model->num_parameters()), " parameters"));
      report.fact("Data", concat(data, ": ", sets.train.size(), " training and ", sets.test.size(), " test images of ", sets.train.width, " × ",
                                 sets.train.height));
      report.fact("Products", to_string(matmul_precision()));
      report.fact("Device", program::describe(devices));
      report.fact("Threads", concat(num_threads()));
      write_report(report, options.out, result, sets.test.class_names);
      std::printf("written to %s: report.html (open it in a browser), predictions.png, metrics.jsonl, best.safetensors, last.safetensors\n",
                  options.out.c_str());
    }
    return 0;
  });
}
