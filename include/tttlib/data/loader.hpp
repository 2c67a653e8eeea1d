#pragma once
/// Batches of a data set, shuffled and augmented by worker threads.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "tttlib/core/parallel.hpp"
#include "tttlib/core/upload.hpp"
#include "tttlib/data/augment.hpp"
#include "tttlib/data/dataset.hpp"
#include "tttlib/data/prefetch.hpp"

namespace ttt {

struct LoaderOptions {
  std::int64_t batch_size = 64;
  bool shuffle = false;
  bool drop_last = false;  ///< leave out the last batch if it is not full
  std::uint64_t seed = 0;
  int workers = 1;   ///< threads that make batches; 0 makes them when they are asked for
  int prefetch = 2;  ///< batches made ahead
  AugmentOptions augment = {};
  Device device = {};  ///< where images and labels go; workers copy them there while the model computes
  int rank = 0, ranks = 1;  ///< makes part `rank` of each batch, which `ranks` share equally

  /// Batches on `to`, and for a GPU as many workers as there are threads, up to 8: one could not keep up with it.
  LoaderOptions& feed(Device to) {
    device = to;
    if (!to.is_cpu()) workers = std::min(8, num_threads()), prefetch = workers + 1;
    return *this;
  }
};

struct Batch {
  Tensor<float> images;               // [B, H, W, 3]
  Tensor<std::int64_t> labels;        // [B]
  std::vector<std::int64_t> indices;  // [B], positions in the data set
};

/// Makes batches that depend on data, options and epoch alone: workers, prefetch and the place to begin at
/// change nothing. Copies share the data.
class DataLoader {
  struct Source {
    std::shared_ptr<const ImageDataset> dataset;
    LoaderOptions options;
    Normalizer normalize;
  };

 public:
  /// The batches of one epoch from some batch on; may outlive the loader. Meant for one pass by one thread.
  class Epoch {
   public:
    Epoch(const DataLoader& loader, std::int64_t epoch, std::int64_t first_batch)
        : prefetcher_(std::make_unique<Prefetcher<Batch>>(
              first_batch, loader.batches_per_epoch(), loader.options().workers, loader.options().prefetch,
              [source = loader.source_, order = loader.order(epoch), epoch](std::int64_t batch) {
                return make_batch(*source, order, epoch, batch);
              })) {}

    /// The next batch, or nothing after the last.
    std::optional<Batch> next() { return prefetcher_->next(); }

    class Iterator {
     public:
      using iterator_category = std::input_iterator_tag;
      using value_type = Batch;
      using difference_type = std::ptrdiff_t;
      using pointer = Batch*;
      using reference = Batch&;

      explicit Iterator(Epoch* epoch) : epoch_(epoch) { ++*this; }
      Batch& operator*() { return *batch_; }
      Batch* operator->() { return &*batch_; }
      Iterator& operator++() {
        if (epoch_) batch_ = epoch_->next();
        if (!batch_) epoch_ = nullptr;
        return *this;
      }
      friend bool operator==(const Iterator& a, const Iterator& b) { return a.epoch_ == b.epoch_; }
      friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

     private:
      Epoch* epoch_;
      std::optional<Batch> batch_;
    };
    Iterator begin() { return Iterator(this); }
    Iterator end() { return Iterator(nullptr); }

   private:
    std::unique_ptr<Prefetcher<Batch>> prefetcher_;
  };

  /// Throws Error for options out of range, an empty data set, or pixels, labels and sizes that do not agree.
  DataLoader(ImageDataset dataset, const LoaderOptions& options)
      : DataLoader(std::make_shared<const ImageDataset>(std::move(dataset)), options) {}
  /// The same for data that others have too.
  DataLoader(std::shared_ptr<const ImageDataset> dataset, const LoaderOptions& options) {
    if (!dataset) fail<Error>("DataLoader", "no data set: the pointer is null");
    check(*dataset, options);
    const Normalizer normalize(*dataset);
    source_ = std::make_shared<const Source>(Source{std::move(dataset), options, normalize});
  }

  const ImageDataset& dataset() const { return *source_->dataset; }
  const LoaderOptions& options() const { return source_->options; }

  std::int64_t batches_per_epoch() const {
    const std::int64_t size = options().batch_size, n = dataset().size();
    return options().drop_last ? n / size : (n + size - 1) / size;
  }

  /// The batches of epoch number `epoch`, from batch `first_batch` on. Throws Error if either is out of
  /// range.
  Epoch epoch(std::int64_t epoch, std::int64_t first_batch = 0) const {
    if (epoch < 0 || first_batch < 0 || first_batch > batches_per_epoch())
      fail<Error>("DataLoader::epoch", concat("no such place: epoch ", epoch, ", first_batch ", first_batch,
                                              " of ", batches_per_epoch()));
    return Epoch(*this, epoch, first_batch);
  }

 private:
  static void check(const ImageDataset& dataset, const LoaderOptions& options) {
    const auto refuse = [](const std::string& what) { fail<Error>("DataLoader", what); };
    if (options.batch_size < 1) refuse(concat("batch_size must be positive: ", options.batch_size));
    if (options.rank < 0 || options.rank >= options.ranks) refuse(concat("no such rank: ", options.rank, " of ", options.ranks));
    if (options.batch_size % options.ranks != 0)
      refuse(concat("batches of ", options.batch_size, " images cannot be shared equally by ", options.ranks, " ranks"));
    if (options.workers < 0) refuse(concat("workers must not be negative: ", options.workers));
    if (options.prefetch < 1) refuse(concat("prefetch must be positive: ", options.prefetch));
    if (options.augment.crop_padding < 0)
      refuse(concat("crop_padding must not be negative: ", options.augment.crop_padding));
    if (dataset.size() == 0) refuse("the data set is empty");
    if (dataset.height < 1 || dataset.width < 1 ||
        static_cast<std::int64_t>(dataset.pixels.size()) != dataset.size() * dataset.image_bytes())
      refuse(concat("pixels and labels do not agree: ", dataset.pixels.size(), " bytes, ", dataset.size(),
                    " labels, height ", dataset.height, ", width ", dataset.width));
    for (float s : dataset.stddev)
      if (!(s > 0)) refuse(concat("stddev must be positive: ", s));
    if (options.drop_last && dataset.size() < options.batch_size)
      refuse(
          concat("drop_last leaves no batch: ", dataset.size(), " images, batch_size ", options.batch_size));
  }

  /// The data set's positions in the order of an epoch (Fisher–Yates).
  std::vector<std::int64_t> order(std::int64_t epoch) const {
    std::vector<std::int64_t> result(static_cast<std::size_t>(dataset().size()));
    std::iota(result.begin(), result.end(), std::int64_t(0));
    if (!options().shuffle) return result;
    const std::uint64_t stream = data_stream(DataDraw::shuffle, epoch);
    for (std::int64_t i = dataset().size() - 1; i > 0; --i)
      std::swap(result[static_cast<std::size_t>(i)],
                result[static_cast<std::size_t>(draw_below(i + 1, options().seed, stream, i))]);
    return result;
  }

  static Batch make_batch(const Source& source, const std::vector<std::int64_t>& order, std::int64_t epoch,
                          std::int64_t number) {
    const ImageDataset& data = *source.dataset;
    const LoaderOptions& options = source.options;
    const std::int64_t share = options.batch_size / options.ranks;
    const std::int64_t begin = std::min(number * options.batch_size + options.rank * share, data.size());
    const std::int64_t end = std::min(begin + share, data.size());
    Batch batch;
    batch.indices.assign(order.begin() + begin, order.begin() + end);
    batch.images = host_tensor<float>({end - begin, data.height, data.width, 3}, options.device);
    batch.labels = host_tensor<std::int64_t>({end - begin}, options.device);
    float* out = batch.images.data();
    for (std::size_t i = 0; i < batch.indices.size(); ++i, out += data.image_bytes()) {
      const std::int64_t index = batch.indices[i];
      source.normalize(data.image_data(index), draw_augmentation(options.augment, options.seed, epoch, index),
                       out);
      batch.labels.data()[i] = data.labels[static_cast<std::size_t>(index)];
    }
    batch.images = upload(batch.images, options.device);
    batch.labels = upload(batch.labels, options.device);
    return batch;
  }

  std::shared_ptr<const Source> source_;
};

}  // namespace ttt
