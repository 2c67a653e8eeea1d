// Training: resume bit for bit from the middle of an epoch, the same bits at any thread count, failures that explain.
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "catch.hpp"
#include "io/temporary_folder.hpp"
#include "train/small_run.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/io/safetensors.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/train/classifier.hpp"

using namespace ttt;

namespace {

const ImageDataset& train_set() {
  static const ImageDataset set = make_shapes(48, 16, 0, Split::train);
  return set;
}
const ImageDataset& test_set() {
  static const ImageDataset set = make_shapes(20, 16, 0, Split::test);
  return set;
}

std::shared_ptr<Module<float>> fresh_model() {
  manual_seed(3);
  return create_model<float>("vit3_nano", {.num_classes = 10, .image_size = 16, .patch_size = 8, .drop_path = 0.2});
}


std::vector<float> weights_of(Module<float>& model) {
  std::vector<float> all;
  for (auto& p : model.parameters())
    for (float x : p.to_vector()) all.push_back(x);
  return all;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a run stopped in the middle of an epoch and resumed ends with the same bits") {
  const TemporaryFolder folder;
  auto whole = fresh_model();
  train_classifier(*whole, train_set(), test_set(), small_run(folder / "whole"));

  auto first = fresh_model();
  int steps = 0;
  const TrainResult stopped = train_classifier(*first, train_set(), test_set(), small_run(folder / "parts"), [&] { return ++steps == 4; });
  CHECK(stopped.interrupted);
  CHECK(stopped.state.epoch == 1);
  CHECK(stopped.state.batch == 1);
  auto second = fresh_model();
  TrainOptions options = small_run(folder / "parts");
  options.resume = true;
  const TrainResult resumed = train_classifier(*second, train_set(), test_set(), options);
  CHECK_FALSE(resumed.interrupted);
  CHECK((weights_of(*second) == weights_of(*whole)));
  const auto a = load_safetensors_file(folder / "whole/last.safetensors"), b = load_safetensors_file(folder / "parts/last.safetensors");
  for (const std::string& name : a.names()) CHECK((a.bytes(name) == b.bytes(name)));
  REQUIRE(resumed.state.history.size() == 2);

  options.lr = 5e-4;
  auto other = fresh_model();
  CHECK_THROWS_WITH(train_classifier(*other, train_set(), test_set(), options), ContainsSubstring("belongs to another run"));
}

TEST_CASE("training gives the same bits at 1, 2, 3 and 4 threads, by the fused and by the closed form") {
  const TemporaryFolder folder;
  const int before = num_threads();
  // 32 images of 8 × 8 tokens a step: enough for every kernel to cut its work into several parts.
  const ImageDataset train = make_shapes(96, 32, 0, Split::train), test = make_shapes(20, 32, 0, Split::test);
  TrainOptions options = small_run("");
  options.epochs = 1;
  options.batch_size = 32;
  for (const TttPath path : {TttPath::fused, TttPath::closed}) {
    std::vector<SafetensorsFile> states;  // weights, both moments of AdamW, averaged weights
    for (int threads = 1; threads <= 4; ++threads) {
      set_num_threads(threads);
      manual_seed(3);
      const auto model = create_model<float>("vit3_nano", {.num_classes = 10, .drop_path = 0.2, .path = path});
      options.out = folder / concat(static_cast<int>(path), "_", threads);
      train_classifier(*model, train, test, options);
      states.push_back(load_safetensors_file(options.out + "/training_state.safetensors"));
    }
    for (const std::string& name : states[0].names())
      for (std::size_t i = 1; i < states.size(); ++i) {
        INFO((path == TttPath::fused ? "fused" : "closed") << ", " << i + 1 << " threads, " << name);
        CHECK((states[i].bytes(name) == states[0].bytes(name)));
      }
  }
  set_num_threads(before);
}

TEST_CASE("metrics have one line per epoch with the promised keys") {
  const TemporaryFolder folder;
  auto model = fresh_model();
  train_classifier(*model, train_set(), test_set(), small_run(folder / "run"));
  const std::string text = read(folder / "run/metrics.jsonl");
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  for (const char* key : {"\"epoch\":1", "\"epoch\":2", "\"train_loss\":", "\"test_loss\":", "\"test_top1\":", "\"images_per_second\":", "\"lr\":"})
    CHECK_THAT(text, ContainsSubstring(key));
}

TEST_CASE("a loss that is no number stops the run and names the first bad op") {
  const TemporaryFolder folder;
  auto model = fresh_model();
  {
    NoGradGuard guard;
    Tensor<float> weight = model->named_parameters()[0].second->detach();
    weight.data()[0] = std::numeric_limits<float>::quiet_NaN();
  }
  CHECK_THROWS_WITH(train_classifier(*model, train_set(), test_set(), small_run(folder / "run")),
                    ContainsSubstring("ttt::conv2d: result") && ContainsSubstring("holds NaN or Inf") && ContainsSubstring("in Vit3.patch_embed.proj"));
}

TEST_CASE("weights that are no numbers have no accuracy") {
  auto model = fresh_model();
  model->train();
  for (auto& p : model->parameters()) {
    const NoGradGuard guard;
    assign(p, full<float>(p.shape(), std::numeric_limits<float>::quiet_NaN()));
  }
  CHECK_THAT(message_of<Error>([&] { evaluate(*model, test_set()); }), ContainsSubstring("ttt::evaluate: the loss is not finite: nan over 20 images"));
  CHECK(model->is_training());
}

TEST_CASE("a folder serves one run at a time") {
  const TemporaryFolder folder;
  auto model = fresh_model();
  const std::string out = folder / "run";
  std::string message;
  train_classifier(*model, train_set(), test_set(), small_run(out), [&] {
    TrainOptions second = small_run(out);
    second.overwrite = true;
    auto other = fresh_model();
    if (message.empty()) message = message_of<IoError>([&] { train_classifier(*other, train_set(), test_set(), second); });
    return false;
  });
  CHECK_THAT(message, ContainsSubstring("ttt::train: the folder is in use by another run: " + out));
  TrainOptions again = small_run(out);
  again.overwrite = true;
  train_classifier(*model, train_set(), test_set(), again);  // the first has ended
}

TEST_CASE("an output folder that cannot be written is refused before training") {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "in the way";
  auto model = fresh_model();
  CHECK_THROWS_AS(train_classifier(*model, train_set(), test_set(), small_run(folder / "file/run")), IoError);
}

TEST_CASE("a folder that holds a run is not used for another one unless that is asked for") {
  const TemporaryFolder folder;
  TrainOptions options = small_run(folder / "run");
  options.resume = true;
  auto model = fresh_model();
  CHECK_THROWS_WITH(train_classifier(*model, train_set(), test_set(), options),
                    ContainsSubstring("ttt::train: nothing to resume in " + folder.path() + "/run: "));
  CHECK_FALSE(std::filesystem::exists(folder / "run"));
  options.resume = false;
  train_classifier(*model, train_set(), test_set(), options);

  const std::string state = read(folder / "run/training_state.safetensors");
  options.seed = 1;
  model = fresh_model();
  CHECK_THROWS_WITH(train_classifier(*model, train_set(), test_set(), options),
                    "ttt::train: the output folder holds a run: " + folder.path() + "/run. Hint: resume goes on with it, overwrite starts again");
  CHECK(read(folder / "run/training_state.safetensors") == state);

  // Overwriting: the old run is whole until the new one has something to save, and then nothing of it is left.
  options.overwrite = true;
  model = fresh_model();
  const TrainResult stopped = train_classifier(*model, train_set(), test_set(), options, [&] {
    CHECK(read(folder / "run/training_state.safetensors") == state);
    return true;
  });
  CHECK(stopped.interrupted);
  CHECK(read(folder / "run/training_state.safetensors") != state);
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "run"), std::filesystem::directory_iterator()) == 1);
}

TEST_CASE("a resumed run is known by its data and its numbers in full") {
  const TemporaryFolder folder;
  TrainOptions options = small_run(folder / "run");
  auto model = fresh_model();
  train_classifier(*model, train_set(), test_set(), options, [] { return true; });
  options.resume = true;
  const auto resume = [&](const ImageDataset& train, const TrainOptions& with) {
    auto again = fresh_model();
    train_classifier(*again, train, test_set(), with, [] { return true; });
  };
  ImageDataset other = train_set();
  other.pixels[1000] ^= 1;
  CHECK_THROWS_WITH(resume(other, options), ContainsSubstring("belongs to another run: it has data "));
  other = train_set();
  std::swap(other.class_names[0], other.class_names[1]);
  CHECK_THROWS_WITH(resume(other, options), ContainsSubstring("belongs to another run: it has data "));
  TrainOptions near = options;
  near.lr = std::nextafter(near.lr, 1.0);
  CHECK_THROWS_WITH(resume(train_set(), near), ContainsSubstring("it has lr 0.001; this run has lr 0.0010000000000000002. Hint: "));
  CHECK_NOTHROW(resume(train_set(), options));
}

TEST_CASE("saved weights evaluate to the recorded accuracy") {
  const TemporaryFolder folder;
  auto model = fresh_model();
  TrainOptions options = small_run(folder / "run");
  options.ema = 0;
  const TrainResult result = train_classifier(*model, train_set(), test_set(), options);
  auto loaded = fresh_model();
  load_weights(folder / "run/last.safetensors", *loaded);
  CHECK(evaluate(*loaded, test_set()).top1 == result.state.history.back().test_top1);
}
