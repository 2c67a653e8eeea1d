#pragma once
/// The runs of a study: data, one training, and all of them on several threads with their results kept in files.

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "tttlib/backend/cuda.hpp"
#include "tttlib/core/hash.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/data/cifar.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/io/atomic_file.hpp"
#include "tttlib/io/folder.hpp"
#include "tttlib/io/input_file.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/optim/schedule.hpp"
#include "tttlib/train/classifier.hpp"
#include "tttlib/train/progress.hpp"
#include "tttlib/train/study.hpp"

namespace ttt::detail {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
/// Processor time of this thread: a run's own speed, whatever else the machine does. For a GPU, whose work takes the thread no
/// time, that of the clock.
inline double run_seconds(Device device) {
  if (!device.is_cpu()) {
    synchronize(device);
    return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
  }
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// The first n images of a data set.
inline ImageDataset first_images(ImageDataset set, std::int64_t n) {
  if (set.size() <= n) return set;
  set.labels.resize(static_cast<std::size_t>(n));
  set.pixels.resize(static_cast<std::size_t>(n * set.image_bytes()));
  return set;
}

struct StudyData {
  ImageDataset train, test;
  std::string name;  // with a fingerprint of the bytes
};

TTTLIB_INLINE StudyData load_study_data(const StudyOptions& o) {
  StudyData data;
  if (o.data == "shapes") {
    data.train = make_shapes(o.images, 32, 0, Split::train);
    data.test = make_shapes(o.test_images, 32, 0, Split::test);
  } else {
    data.train = first_images(load_cifar(o.data, Split::train), o.images);
    data.test = first_images(load_cifar(o.data, Split::test), o.test_images);
  }
  Fnv pixels;
  for (const ImageDataset* set : {&data.train, &data.test}) pixels.add(set->pixels.data(), set->pixels.size());
  data.name = fmt::format("{} {} + {} images ({:016x})", o.data == "shapes" ? "shapes" : "CIFAR", data.train.size(), data.test.size(), pixels.hash);
  return data;
}

/// A fresh model of a row. Its numbers come from the one default generator, so models are made one at a time.
inline std::shared_ptr<Deit<float>> make_study_model(const StudyRow& row, const DeitOptions& backbone, std::uint64_t seed, Device device = {}) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  manual_seed(seed);
  auto model = std::make_shared<Deit<float>>(backbone, row.mixer);
  model->to(device);
  return model;
}

inline DataLoader study_loader(const StudyData& data, const StudyOptions& o, std::uint64_t seed) {
  LoaderOptions loading;
  loading.batch_size = o.batch_size;
  loading.shuffle = loading.drop_last = true;
  loading.seed = seed;
  loading.augment.flip = true;
  loading.feed(o.device);
  if (o.device.is_cpu()) loading.workers = 0;  // a run has one core
  return DataLoader(data.train, loading);
}

TTTLIB_INLINE StudyRun train_study_row(const StudyRow& row, const StudyData& data, const StudyOptions& o, std::uint64_t seed) {
  const auto model = make_study_model(row, o.backbone, seed, o.device);
  const DataLoader loader = study_loader(data, o, seed);
  AdamW<float> optimizer(param_groups(*model, {.weight_decay = o.weight_decay}), {.lr = o.lr});
  TrainStep train_step(*model, 0, o.clip_grad);
  CosineSchedule schedule;
  schedule.lr = o.lr;
  schedule.total_steps = o.epochs * loader.batches_per_epoch();
  schedule.warmup_steps = static_cast<std::int64_t>(o.warmup_share * static_cast<double>(schedule.total_steps));
  schedule.ramp = true;
  const std::int64_t parts = std::min<std::int64_t>(20, schedule.total_steps);
  StudyRun run;
  std::vector<double> sums(static_cast<std::size_t>(parts)), counts(static_cast<std::size_t>(parts));
  double last_epoch = 0;
  const double start = run_seconds(o.device);
  std::int64_t step = 0;
  for (std::int64_t epoch = 0; epoch < o.epochs && run.diverged_at < 0; ++epoch) {
    auto batches = loader.epoch(epoch);
    last_epoch = 0;
    for (const Batch& batch : batches) {
      optimizer.set_lr(schedule(step));
      const StepNumbers numbers = train_step(batch);
      if (!numbers.finite()) {
        run.diverged_at = step;
        break;
      }
      optimizer.step(numbers.scale);
      const auto part = static_cast<std::size_t>(step * parts / schedule.total_steps);
      sums[part] += numbers.loss;
      ++counts[part];
      last_epoch += numbers.loss / static_cast<double>(loader.batches_per_epoch());
      ++step;
    }
  }
  run.seconds = run_seconds(o.device) - start;
  run.images_per_second = static_cast<double>(step * o.batch_size) / run.seconds;
  for (std::size_t i = 0; i < sums.size(); ++i) run.curve.push_back(counts[i] > 0 ? sums[i] / counts[i] : std::numeric_limits<double>::quiet_NaN());
  if (run.diverged_at >= 0) return run;
  run.train_loss = last_epoch;
  const Evaluation evaluation = evaluate(*model, data.test);
  if (std::isfinite(evaluation.loss)) run.top1 = 100 * evaluation.top1;
  else run.diverged_at = step;
  return run;
}

inline nlohmann::ordered_json number_or_null(double x) { return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json(nullptr); }
inline double number_from(const nlohmann::ordered_json& j) { return j.is_null() ? std::numeric_limits<double>::quiet_NaN() : j.get<double>(); }

TTTLIB_INLINE nlohmann::ordered_json to_json(const StudyRun& run) {
  nlohmann::ordered_json j{{"top1", number_or_null(run.top1)},
                           {"train_loss", number_or_null(run.train_loss)},
                           {"images_per_second", run.images_per_second},
                           {"seconds", run.seconds}};
  if (run.diverged_at >= 0) j["diverged_at_step"] = run.diverged_at;
  for (const double loss : run.curve) j["curve"].push_back(number_or_null(loss));
  return j;
}

/// One (row, seed) of a study with the file that keeps its result.
struct StudyJob {
  std::size_t row = 0;
  std::uint64_t seed = 0;
  std::string configuration, path;
  bool done = false;
};

/// Takes a kept result; false if there is none of this configuration.
TTTLIB_INLINE bool read_study_run(const StudyJob& job, StudyRun& run) {
  if (!std::filesystem::exists(job.path)) return false;
  try {
    const std::vector<unsigned char> bytes = InputFile("study", job.path).read_all();
    const auto j = nlohmann::ordered_json::parse(bytes.begin(), bytes.end());
    if (j.at("configuration") != job.configuration || j.at("seed") != job.seed) return false;
    const auto& r = j.at("run");
    run.top1 = number_from(r.at("top1"));
    run.train_loss = number_from(r.at("train_loss"));
    run.images_per_second = r.at("images_per_second");
    run.seconds = r.at("seconds");
    run.diverged_at = r.value("diverged_at_step", std::int64_t(-1));
    run.curve.clear();
    for (const auto& loss : r.at("curve")) run.curve.push_back(number_from(loss));
    return true;
  } catch (const std::exception& e) {
    warn(concat("the kept result ", job.path, " is damaged and will be made anew: ", e.what()));
    return false;
  }
}

TTTLIB_INLINE void write_study_run(const StudyJob& job, const StudyRun& run) {
  const nlohmann::ordered_json j{{"configuration", job.configuration}, {"seed", job.seed}, {"run", to_json(run)}};
  write_file_atomically(job.path, j.dump(1) + "\n", "study");
}

/// f(0) … f(n − 1), each on one of several threads, whose kernels then stay on their own thread. The first error reaches the caller.
template <class F>
void on_threads(int threads, std::size_t n, const F& f) {
  const int before = num_threads();
  set_num_threads(1);
  std::atomic<std::size_t> next{0};
  std::exception_ptr error;
  std::mutex guard;
  const auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < n;) {
      try {
        f(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(guard);
        if (!error) error = std::current_exception();
        next = n;
      }
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& t : others) t.join();
  set_num_threads(before);
  if (error) std::rethrow_exception(error);
}

/// Everything that a row's numbers depend on, but the seed. The last entry is a fingerprint of what the fresh model says
/// about two images: a model or loss of one's own may have changed under the same name.
TTTLIB_INLINE std::string study_configuration(const StudyRow& row, const StudyData& data, const StudyOptions& o) {
  const NoGradGuard guard;
  const auto model = make_study_model(row, o.backbone, 0, o.device);
  LoaderOptions two;
  two.batch_size = 2;
  two.workers = 0;
  two.device = o.device;
  auto batches = DataLoader(first_images(data.train, 2), two).epoch(0);
  const std::vector<float> answer = (*model)(batches.next()->images).to_vector();  // [2, classes]
  const DeitOptions& b = o.backbone;
  return fmt::format("{}; {} channels, {} blocks, {} heads, patch {}; {}; {} epochs, batch {}, lr {}, decay {}, warm-up {}, clip {}{}; {:016x}",
                     row.mixer.name, b.channels, b.depth, b.heads, b.patch_size, data.name, o.epochs, o.batch_size, o.lr, o.weight_decay,
                     o.warmup_share, o.clip_grad, o.device.is_cpu() ? "" : "; on a GPU", fnv(answer.data(), answer.size() * sizeof(float)));
}

/// Seconds of one run, from two steps.
TTTLIB_INLINE double expected_seconds(const StudyRow& row, const StudyData& data, const StudyOptions& o) {
  const auto model = make_study_model(row, o.backbone, 0, o.device);
  AdamW<float> optimizer(param_groups(*model, {}), {.lr = 0});
  TrainStep train_step(*model, 0, o.clip_grad);
  auto batches = study_loader(data, o, 0).epoch(0);
  double step = 0;
  for (int i = 0; i < 2; ++i) {  // the first one fills the allocator
    const auto batch = batches.next();
    const double start = run_seconds(o.device);
    if (batch)
      if (const StepNumbers numbers = train_step(*batch); numbers.finite()) optimizer.step(numbers.scale);
    step = run_seconds(o.device) - start;
  }
  const double images = static_cast<double>(data.train.size() * o.epochs) + static_cast<double>(data.test.size()) / 3;
  return step * images / static_cast<double>(o.batch_size);
}

/// Parameters and multiply-accumulates of a row's study model and of a DeiT-S. Blocks are all alike, so two small depths tell all.
TTTLIB_INLINE void count_cost(const StudyRow& row, const StudyOptions& o, StudyOutcome& outcome) {
  const auto model = make_study_model(row, o.backbone, 0);
  const Summary summary = summarize(*model, {1, o.backbone.image_size, o.backbone.image_size, 3});
  outcome.parameters = summary.parameters;
  outcome.macs = summary.macs;
  DeitOptions deit{.channels = 384, .heads = 6, .class_token = false, .deviation = 0};
  double parameters[2], macs[2];
  for (std::int64_t depth : {1, 2}) {
    deit.depth = depth;
    const Summary s = summarize(*make_study_model(row, deit, 0), {1, 224, 224, 3});
    parameters[depth - 1] = static_cast<double>(s.parameters);
    macs[depth - 1] = static_cast<double>(s.macs);
  }
  outcome.deit_parameters = (parameters[0] + 11 * (parameters[1] - parameters[0])) / 1e6;
  outcome.deit_macs = (macs[0] + 11 * (macs[1] - macs[0])) / 1e9;
}

/// Trains whatever the cache lacks and returns every row's outcome; says before how long it will take.
TTTLIB_INLINE std::vector<StudyOutcome> run_rows(const std::vector<StudyRow>& rows, const StudyData& data, const StudyOptions& o) {
  make_folder("study", o.cache, "the folder for results");
  std::vector<StudyOutcome> outcomes(rows.size());
  std::vector<StudyJob> jobs;
  std::vector<std::string> configurations(rows.size());
  on_threads(o.jobs, rows.size(), [&](std::size_t r) {
    outcomes[r].runs.resize(static_cast<std::size_t>(o.seeds));
    configurations[r] = study_configuration(rows[r], data, o);
    count_cost(rows[r], o, outcomes[r]);
  });
  std::int64_t kept = 0;
  for (std::int64_t seed = 0; seed < o.seeds; ++seed)  // a study that is stopped early has whole seeds
    for (std::size_t r = 0; r < rows.size(); ++r) {
      StudyJob job{r, static_cast<std::uint64_t>(seed), configurations[r], ""};
      job.path = fmt::format("{}/{:016x}-seed{}.json", o.cache, fnv(configurations[r]), seed);
      job.done = read_study_run(job, outcomes[r].runs[static_cast<std::size_t>(seed)]);
      if (job.done) ++kept;
      else jobs.push_back(job);
    }
  if (kept > 0) fmt::print("{} of {} runs are taken from {}\n", kept, kept + static_cast<std::int64_t>(jobs.size()), o.cache);
  if (jobs.empty()) return outcomes;

  std::vector<double> expected(rows.size());
  double total = 0, done = 0;
  on_threads(o.jobs, rows.size(), [&](std::size_t r) {
    for (const StudyJob& job : jobs)
      if (job.row == r) return void(expected[r] = expected_seconds(rows[r], data, o));
  });
  for (const StudyJob& job : jobs) total += expected[job.row];
  fmt::print(
      "{} runs, {} at a time, will take about {}{}. Finished ones are kept in {}: after Ctrl-C the same command goes on.\n",
      jobs.size(), o.jobs, duration_string(total / o.jobs), o.device.is_cpu() ? " if as many cores are free" : "", o.cache);
  std::fflush(stdout);
  std::mutex guard;
  std::size_t count = 0;
  const auto start = Clock::now();
  on_threads(o.jobs, jobs.size(), [&](std::size_t i) {
    const StudyJob& job = jobs[i];
    const StudyRun run = train_study_row(rows[job.row], data, o, job.seed);
    write_study_run(job, run);
    const std::lock_guard<std::mutex> lock(guard);
    outcomes[job.row].runs[job.seed] = run;
    done += expected[job.row];
    const std::string result = run.diverged_at >= 0 ? fmt::format("diverged in step {}", run.diverged_at)
                                                    : fmt::format("top-1 {:.1f} %, training loss {:.3f}", run.top1, run.train_loss);
    fmt::print("  {:>3}/{}  {}, seed {}: {}, {:.0f} images/s; {} left\n", ++count, jobs.size(), rows[job.row].name, job.seed, result,
               run.images_per_second, duration_string(seconds_since(start) * (total - done) / done));
    std::fflush(stdout);
  });
  return outcomes;
}

}  // namespace ttt::detail
