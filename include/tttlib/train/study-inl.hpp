#pragma once
/// The options of a study, and a study from its command line to its page.

#include <cerrno>
#include <cstdlib>

#include "tttlib/train/study_report-inl.hpp"

namespace ttt {

namespace detail {

TTTLIB_INLINE std::int64_t read_count(const std::string& option, const std::string& text) {
  char* end = nullptr;
  errno = 0;
  const long long n = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || n < 1) fail<Error>("study", concat("a number of at least 1 is needed: ", option, " ", text));
  return n;
}

TTTLIB_INLINE Device read_device(const std::string& option, const std::string& text) {
  const std::optional<Device> device = to_device(text);
  if (!device) fail<Error>("study", concat("cpu, cuda or cuda:N is needed: ", option, " ", text));
  require_device("cuda", *device);
  return *device;
}

/// Options from the command line. Throws Error for one that is unknown, has no value, or a value that makes no sense.
TTTLIB_INLINE StudyOptions read_study_options(int argc, const char* const* argv, const Study& study) {
  StudyOptions o;
  o.out = "runs/insights/" + study.name;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  o.jobs = std::max(1, cores);
  std::vector<std::string> words(argv + 1, argv + argc);
  for (const std::string& word : words) o.quick = o.quick || word == "--quick";
  if (o.quick) o.images = 600, o.test_images = 500, o.epochs = 1, o.seeds = 2;  // before the others, which may change them
  bool jobs_given = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string name = words[i], value;
    if (name == "--quick") continue;
    if (name == "--help" || name == "-h") {
      o.help = true;
      continue;
    }
    const std::size_t equal = name.find('=');
    const bool known = [&] {
      for (const char* option : {"--data", "--out", "--cache", "--images", "--epochs", "--seeds", "--jobs", "--only", "--device"})
        if (name.substr(0, equal) == option) return true;
      return false;
    }();
    if (!known)
      fail<Error>("study", concat("unknown option ", name),
                  "known options: --data --out --cache --images --epochs --seeds --jobs --only --device --quick --help");
    if (equal != std::string::npos) {
      value = name.substr(equal + 1);
      name = name.substr(0, equal);
    } else {
      if (i + 1 == words.size()) fail<Error>("study", concat("a value is missing after ", name));
      value = words[++i];
    }
    if (name == "--data") o.data = value;
    else if (name == "--out") o.out = value;
    else if (name == "--cache") o.cache = value;
    else if (name == "--images") o.images = read_count(name, value);
    else if (name == "--epochs") o.epochs = read_count(name, value);
    else if (name == "--seeds") o.seeds = read_count(name, value);
    else if (name == "--jobs") o.jobs = static_cast<int>(std::min<std::int64_t>(read_count(name, value), 1024)), jobs_given = true;
    else if (name == "--device") o.device = read_device(name, value);
    else o.only.push_back(value);
  }
  if (!o.device.is_cpu() && !jobs_given) o.jobs = 1;  // runs side by side would wait for each other's kernels
  if (o.images < o.batch_size) fail<Error>("study", concat("at least one batch of images is needed: --images ", o.images, ", batch ", o.batch_size));
  return o;
}

TTTLIB_INLINE std::string study_help(const Study& study, const StudyOptions& o) {
  return fmt::format(
      "{}\n\n  --data DIR    CIFAR-10 binary files, or \"shapes\" for the built-in images (shapes)\n  --seeds N     runs of every row ({})\n  "
      "--epochs N    passes over the training images ({})\n  --images N    training images, the first ones ({})\n  --jobs N      runs at the same "
      "time, one core each ({}); on a GPU 1\n  --device D    cpu, cuda or cuda:N: where the runs are (cpu)\n  --only ROW    this row only; may be repeated\n  --quick       {} seeds on {} images: shows the page, proves "
      "nothing\n  --out DIR     for {}.json and report.html ({})\n  --cache DIR   where finished runs are kept and found again ({})\n",
      study.title, o.seeds, o.epochs, o.images, o.jobs, 2, 600, study.name, o.out, o.cache);
}

/// The rows asked for. Throws Error for a name that no row has, listing those there are.
TTTLIB_INLINE std::vector<StudyRow> chosen_rows(const Study& study, const std::vector<std::string>& only) {
  if (only.empty()) return study.rows;
  std::string known;
  for (const StudyRow& row : study.rows) known += (known.empty() ? "" : ", ") + row.name;
  for (const std::string& name : only)
    if (std::none_of(study.rows.begin(), study.rows.end(), [&](const StudyRow& row) { return row.name == name; }))
      fail<Error>("study", concat("unknown row \"", name, "\""), "known names: " + known);
  std::vector<StudyRow> rows;
  for (const StudyRow& row : study.rows)
    if (std::find(only.begin(), only.end(), row.name) != only.end()) rows.push_back(row);
  return rows;
}

}  // namespace detail

TTTLIB_INLINE int run_study(int argc, const char* const* argv, const Study& study) {
  try {
    StudyOptions o = detail::read_study_options(argc, argv, study);
    if (o.help) return fmt::print("{}", detail::study_help(study, o)), 0;
    const std::vector<StudyRow> rows = detail::chosen_rows(study, o.only);  // complains before anything is done
    const detail::StudyData data = detail::load_study_data(o);
    o.backbone.num_classes = static_cast<std::int64_t>(data.train.class_names.size());
    make_folder("study", o.out);

    Report report(study.title, study.lesson);
    StudyPage page(report, o.out, o.quick);
    fmt::print("{}\n", study.title);
    std::vector<ReportTable> mechanism;
    if (study.mechanism) {
      manual_seed(0);
      page.heading("The mechanism");
      study.mechanism(page);
      mechanism = page.tables();
    }
    page.heading("The experiment");
    page.paragraph(fmt::format(
        "{} rows, {} {} each, the same for all rows: {} training images of {} for {} {}, accuracy on {} others. Backbone: a DeiT of {} blocks, "
        "{} channels, {} heads on {} × {} tokens. {}; {} run side by side.",
        rows.size(), o.seeds, o.seeds == 1 ? "seed" : "seeds", data.train.size(), o.data == "shapes" ? "the built-in shapes" : "CIFAR", o.epochs, o.epochs == 1 ? "epoch" : "epochs",
        data.test.size(), o.backbone.depth, o.backbone.channels, o.backbone.heads, o.backbone.image_size / o.backbone.patch_size,
        o.backbone.image_size / o.backbone.patch_size, o.device.is_cpu() ? "Every run has one core" : "The runs are on " + describe(o.device), o.jobs));
    const detail::StudyFindings findings = detail::find_out(study, rows, data, o);
    detail::show_experiment(page, study, findings, o);
    report.result(findings.result);
    report.run(argc, argv, 0);
    report.fact("Data", data.name);
    report.fact("Device", describe(o.device));
    report.fact("Seeds", fmt::format("0 to {}", o.seeds - 1));
    report.fact(
        "Training",
        fmt::format(
            "AdamW, peak rate {}, weight decay {}, batches of {}, cosine after a warm-up over {:.0f} % of the steps, gradients clipped at norm {}",
            o.lr, o.weight_decay, o.batch_size, 100 * o.warmup_share, o.clip_grad));
    report.write(o.out + "/report.html");
    write_file_atomically(o.out + "/" + study.name + ".json",
                          detail::to_json(study, findings, o, data, mechanism, command_line(argc, argv)).dump(1) + "\n", "study");
    fmt::print("\n{}\nwritten to {}: report.html (open it in a browser), {}.json\n", findings.result, o.out, study.name);
    return 0;
  } catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

}  // namespace ttt
