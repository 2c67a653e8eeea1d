#include "tttlib/data/loader.hpp"

#include <algorithm>

#include "catch.hpp"
#include "data/dataset_files.hpp"
#include "io/temporary_folder.hpp"

using namespace ttt;

namespace {

/// Everything an epoch holds, for comparing bit by bit.
struct Contents {
  std::vector<float> images;
  std::vector<std::int64_t> labels, indices, sizes;
  bool operator==(const Contents&) const = default;
};

Contents contents(const DataLoader& loader, std::int64_t epoch, std::int64_t first_batch = 0) {
  Contents all;
  for (const Batch& batch : loader.epoch(epoch, first_batch)) {
    const std::int64_t b = batch.labels.numel();
    CHECK(batch.images.shape() == Shape{b, loader.dataset().height, loader.dataset().width, 3});
    CHECK(batch.labels.shape() == Shape{b});
    CHECK(static_cast<std::int64_t>(batch.indices.size()) == b);
    all.images.insert(all.images.end(), batch.images.data(), batch.images.data() + batch.images.numel());
    all.labels.insert(all.labels.end(), batch.labels.data(), batch.labels.data() + b);
    all.indices.insert(all.indices.end(), batch.indices.begin(), batch.indices.end());
    all.sizes.push_back(b);
  }
  return all;
}

LoaderOptions random_options(int workers = 1, int prefetch = 2) {
  LoaderOptions options;
  options.batch_size = 8;
  options.shuffle = true;
  options.seed = 3;
  options.workers = workers;
  options.prefetch = prefetch;
  options.augment.crop_padding = 2;
  options.augment.flip = true;
  return options;
}

}  // namespace

TEST_CASE("without shuffling a loader gives the data set in order") {
  const ImageDataset dataset = counting_dataset(10);
  const DataLoader loader(dataset, {.batch_size = 4});
  CHECK(loader.batches_per_epoch() == 3);
  const Contents all = contents(loader, 0);
  CHECK(all.sizes == std::vector<std::int64_t>{4, 4, 2});
  CHECK(all.indices == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(all.labels == dataset.labels);
  for (std::size_t i = 0; i < all.images.size(); ++i)
    REQUIRE(all.images[i] ==
            (static_cast<float>(dataset.pixels[i]) / 255.0f - dataset.mean[i % 3]) / dataset.stddev[i % 3]);
  CHECK(contents(loader, 1) == all);
}

TEST_CASE("drop_last leaves out the batch that is not full") {
  const DataLoader loader(counting_dataset(10), {.batch_size = 4, .drop_last = true});
  CHECK(loader.batches_per_epoch() == 2);
  CHECK(contents(loader, 0).sizes == std::vector<std::int64_t>{4, 4});
  CHECK(DataLoader(counting_dataset(8), {.batch_size = 4, .drop_last = true}).batches_per_epoch() == 2);
}

TEST_CASE("shuffling permutes, by seed and epoch") {
  const ImageDataset dataset = counting_dataset(100);
  LoaderOptions options = random_options();
  const DataLoader loader(dataset, options);
  const Contents first = contents(loader, 0);
  std::vector<std::int64_t> sorted = first.indices;
  std::sort(sorted.begin(), sorted.end());
  for (std::int64_t i = 0; i < 100; ++i) REQUIRE(sorted[static_cast<std::size_t>(i)] == i);
  for (std::size_t i = 0; i < 100; ++i) REQUIRE(first.labels[i] == first.indices[i] % 10);
  CHECK(contents(loader, 0) == first);
  CHECK(contents(loader, 1).indices != first.indices);
  options.seed = 4;
  CHECK(contents(DataLoader(dataset, options), 0).indices != first.indices);
}

TEST_CASE("every position is equally likely after shuffling") {
  const ImageDataset dataset = counting_dataset(5, 1, 1);
  int counts[5][5] = {};
  const DataLoader loader(dataset, {.batch_size = 5, .shuffle = true, .workers = 0});
  const int epochs = 5000;
  for (int e = 0; e < epochs; ++e) {
    const Batch batch = *loader.epoch(e).next();
    for (std::size_t i = 0; i < 5; ++i) ++counts[i][batch.indices[i]];
  }
  for (const auto& row : counts)
    for (int count : row) CHECK(std::abs(count - epochs / 5) < 142);  // five standard deviations
}

TEST_CASE("batches do not depend on workers or prefetch") {
  const ImageDataset dataset = counting_dataset(101);
  const Contents expected = contents(DataLoader(dataset, random_options(0)), 7);
  for (int workers : {1, 2, 3, 8})
    for (int prefetch : {1, 2, 16})
      CHECK(contents(DataLoader(dataset, random_options(workers, prefetch)), 7) == expected);
}

TEST_CASE("ranks get equal parts of every batch, in its order") {
  const auto dataset = std::make_shared<const ImageDataset>(counting_dataset(44));
  LoaderOptions options = random_options();
  options.drop_last = true;
  const Contents whole = contents(DataLoader(dataset, options), 1);
  for (const int ranks : {1, 2, 4}) {
    Contents together;
    std::vector<DataLoader::Epoch> epochs;
    for (int rank = 0; rank < ranks; ++rank) {
      options.rank = rank;
      options.ranks = ranks;
      const DataLoader loader(dataset, options);
      CHECK(loader.batches_per_epoch() == 5);
      epochs.push_back(loader.epoch(1));
    }
    for (int batch = 0; batch < 5; ++batch)
      for (DataLoader::Epoch& epoch : epochs) {
        const std::optional<Batch> part = epoch.next();
        REQUIRE(part);
        CHECK(part->labels.numel() == 8 / ranks);
        together.images.insert(together.images.end(), part->images.data(), part->images.data() + part->images.numel());
        together.labels.insert(together.labels.end(), part->labels.data(), part->labels.data() + part->labels.numel());
        together.indices.insert(together.indices.end(), part->indices.begin(), part->indices.end());
      }
    CHECK(together.images == whole.images);
    CHECK(together.labels == whole.labels);
    CHECK(together.indices == whole.indices);
  }
}

TEST_CASE("an epoch can be entered in the middle") {
  const DataLoader loader(counting_dataset(101), random_options(2));
  const Contents whole = contents(loader, 2);
  const Contents rest = contents(loader, 2, 5);
  CHECK(rest.indices == std::vector<std::int64_t>(whole.indices.begin() + 40, whole.indices.end()));
  CHECK(rest.images == std::vector<float>(whole.images.begin() + 40 * 72, whole.images.end()));
  CHECK(contents(loader, 2, loader.batches_per_epoch()).sizes.empty());
}

TEST_CASE("an epoch may be left early, and may outlive its loader") {
  for (int taken = 0; taken < 4; ++taken) {
    const DataLoader loader(counting_dataset(1000), random_options(3, 4));
    int count = 0;
    for (const Batch& batch : loader.epoch(0)) {
      CHECK(batch.images.defined());
      if (++count > taken) break;
    }
  }
  auto epoch = DataLoader(counting_dataset(20), random_options()).epoch(0);
  int batches = 0;
  while (epoch.next()) ++batches;
  CHECK(batches == 3);
}

TEST_CASE("a batch stays valid after the next one and the loader are gone") {
  std::vector<Batch> kept;
  for (const Batch& batch : DataLoader(counting_dataset(20), random_options()).epoch(0))
    kept.push_back(batch);
  REQUIRE(kept.size() == 3);
  const Contents expected = contents(DataLoader(counting_dataset(20), random_options()), 0);
  CHECK(std::equal(kept[0].images.data(), kept[0].images.data() + 8 * 72, expected.images.begin()));
  CHECK(kept[2].indices[3] == expected.indices[19]);
}

TEST_CASE("a loader refuses options and data that cannot work") {
  const auto complaint = [](const ImageDataset& dataset, const LoaderOptions& options) {
    return message_of<Error>([&] { DataLoader(dataset, options); });
  };
  const ImageDataset dataset = counting_dataset(10);
  CHECK(complaint(dataset, {.batch_size = 0}) == "ttt::DataLoader: batch_size must be positive: 0");
  CHECK(complaint(dataset, {.workers = -1}) == "ttt::DataLoader: workers must not be negative: -1");
  CHECK(complaint(dataset, {.prefetch = 0}) == "ttt::DataLoader: prefetch must be positive: 0");
  CHECK(complaint(dataset, {.augment = {.crop_padding = -4}}) ==
        "ttt::DataLoader: crop_padding must not be negative: -4");
  CHECK(complaint(dataset, {.batch_size = 4, .rank = 2, .ranks = 2}) == "ttt::DataLoader: no such rank: 2 of 2");
  CHECK(complaint(dataset, {.batch_size = 4, .rank = 0, .ranks = 3}) ==
        "ttt::DataLoader: batches of 4 images cannot be shared equally by 3 ranks");
  CHECK(message_of<Error>([] { DataLoader(nullptr, {}); }) == "ttt::DataLoader: no data set: the pointer is null");
  CHECK(complaint({}, {}) == "ttt::DataLoader: the data set is empty");
  CHECK(complaint(dataset, {.batch_size = 11, .drop_last = true}) ==
        "ttt::DataLoader: drop_last leaves no batch: 10 images, batch_size 11");
  ImageDataset broken = dataset;
  broken.pixels.pop_back();
  CHECK(complaint(broken, {}) ==
        "ttt::DataLoader: pixels and labels do not agree: 719 bytes, 10 labels, height 4, width 6");
  broken = dataset;
  broken.stddev[1] = 0;
  CHECK(complaint(broken, {}) == "ttt::DataLoader: stddev must be positive: 0");

  const DataLoader loader(dataset, {.batch_size = 4});
  CHECK(message_of<Error>([&] { loader.epoch(0, 4); }) ==
        "ttt::DataLoader::epoch: no such place: epoch 0, first_batch 4 of 3");
  CHECK(message_of<Error>([&] { loader.epoch(-1); }) ==
        "ttt::DataLoader::epoch: no such place: epoch -1, first_batch 0 of 3");
}
