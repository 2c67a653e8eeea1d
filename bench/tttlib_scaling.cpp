// tttlib_scaling: time and memory of one image as images grow, ViT³ against a DeiT with softmax attention. Inner training is
// linear in the number of tokens, attention is not (ViT³ paper, the figure on efficiency).
//
//   tttlib_scaling --out bench/results/scaling        224² to 1248² (6,084 tokens); writes scaling.html, .md and .json
//   tttlib_scaling --device cuda:0 --batch 8 --out …  on a GPU
//
// Inference, one image at a time unless --batch says more. Activation memory: the most that tensors hold during a forward pass,
// beyond weights and the images.

#include <fmt/format.h>

#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "command_line.hpp"
#include "timing.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/io/atomic_file.hpp"
#include "tttlib/io/folder.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/train/report.hpp"

using namespace ttt;

namespace {

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d", std::localtime(&now))};
}

struct Point {
  double milliseconds = 0, mebibytes = 0;
};

/// Per image.
Point measure(Module<float>& model, std::int64_t side, std::int64_t batch, int repeat, Device device) {
  const NoGradGuard guard;
  const Tensor<float> image = randn<float>({batch, side, side, 3}, device);  // [B, H, W, 3]
  HostAllocator& host = HostAllocator::instance();
  model.to(device);
  model(image);
  device.is_cpu() ? host.reset_peak() : reset_cuda_peak(device.index);
  const std::size_t before = device.is_cpu() ? host.bytes_in_use() : cuda_memory(device.index).in_use;
  const double seconds = median_seconds(repeat, [&] { model(image); }, device);
  const std::size_t peak = device.is_cpu() ? host.peak_bytes() : cuda_memory(device.index).peak;
  device.is_cpu() ? host.release_cached() : release_cuda_memory(device.index);
  return {1e3 * seconds / double(batch), static_cast<double>(peak - before) / double(batch << 20)};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Time and memory against image size", "tttlib_scaling");
  std::string size = "tiny", out = "bench/results/scaling";
  std::vector<std::int64_t> sides{224, 448, 672, 896, 1248};
  int threads = num_threads(), repeat = 5, batch = 1;
  Device device;
  app.add_option("--size", size, "Size of both models")->check(CLI::IsMember({"tiny", "small"}))->capture_default_str();
  app.add_option("--sides", sides, "Sides of the images, multiples of 16")->check(program::whole(16, 8192))->capture_default_str();
  app.add_option("--threads", threads)->check(program::whole(1, 1024))->capture_default_str();
  program::add_device(app, device);
  program::add_dtype(app);
  app.add_option("--repeat", repeat, "Timed passes, of which the median counts")->check(program::whole(1, 1000))->capture_default_str();
  app.add_option("--batch", batch, "Images at a time")->check(program::whole(1, 4096))->capture_default_str();
  app.add_option("--out", out, "Files to write, without their endings")->capture_default_str();
  return program::run(app, argc, argv, [&] {
    set_num_threads(threads);
    fmt::print("computed on {}\n", describe(device));
    const std::string vit3 = "vit3_" + size, deit = "deit_" + size;
    const ModelConfig& config = model_config(deit);
    const std::vector<std::string> names{vit3, deit + ", attention in blocks", deit + ", whole matrix"};
    std::vector<ReportLine> time(names.size()), memory(names.size());
    ReportTable table{.caption = "One image, forward", .columns = {"image", "tokens"}, .rows = {}};
    for (std::size_t m = 0; m < names.size(); ++m) {
      time[m].name = memory[m].name = names[m];
      table.columns.insert(table.columns.end(), {names[m] + ": ms per image", "MiB"});
    }
    table.columns.insert(table.columns.end(), {"whole matrix / " + vit3 + ": time", "memory"});
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    std::string summary;
    for (const std::int64_t side : sides) {
      const std::int64_t tokens = (side / config.patch_size) * (side / config.patch_size);
      table.rows.push_back({fmt::format("{0} × {0}", side), std::to_string(tokens)});
      nlohmann::ordered_json row{{"side", side}, {"tokens", tokens}};
      std::vector<Point> points;
      for (std::size_t m = 0; m < names.size(); ++m) {
        manual_seed(0);
        std::shared_ptr<Module<float>> model;
        if (m == 2)
          model = std::make_shared<Deit<float>>(DeitOptions{.image_size = side, .channels = config.channels, .depth = config.depth, .heads = config.heads},
                                                mixers::softmax_attention_by_matrix<float>());
        else model = create_model<float>(m == 0 ? vit3 : deit, {.image_size = side});
        model->eval();
        points.push_back(measure(*model, side, batch, repeat, device));
        time[m].x.push_back(static_cast<double>(tokens)), memory[m].x.push_back(static_cast<double>(tokens));
        time[m].y.push_back(points[m].milliseconds), memory[m].y.push_back(points[m].mebibytes);
        table.rows.back().insert(table.rows.back().end(), {fmt::format("{:.1f}", points[m].milliseconds), fmt::format("{:.1f}", points[m].mebibytes)});
        row[names[m]] = {{"milliseconds", points[m].milliseconds}, {"activation_mebibytes", points[m].mebibytes}};
      }
      const double faster = points[2].milliseconds / points[0].milliseconds, smaller = points[2].mebibytes / points[0].mebibytes;
      table.rows.back().insert(table.rows.back().end(), {fmt::format("{:.2f}", faster), fmt::format("{:.1f}", smaller)});
      rows.push_back(row);
      summary = fmt::format("At {0} × {0}, {1} is {2:.1f} times as fast as {3} with the whole matrix and needs {4:.1f} % of its activation memory.", side, vit3,
                            faster, deit, 100 / smaller);
      std::string line;
      for (const std::string& cell : table.rows.back()) line += fmt::format("{:>12}", cell);
      fmt::print("{}\n", line);
    }
    fmt::print("{}\n", summary);

    if (const std::string folder = std::filesystem::path(out).parent_path().string(); !folder.empty()) make_folder("tttlib_scaling", folder);
    Report report("Linear in tokens", "Inner training touches every token a fixed number of times; softmax attention compares every token with every other. "
                                      "Time and memory of one image as it grows, forward, on this machine.");
    report.result(summary);
    report.chart({.title = "Time", .x_label = "tokens", .y_label = "ms per image", .lines = time, .log_x = true, .log_y = true});
    report.chart({.title = "Activation memory", .x_label = "tokens", .y_label = "MiB", .lines = memory, .log_x = true, .log_y = true});
    report.table(table);
    const std::string precision = to_string(matmul_precision()), date = today(),
                      version = fmt::format("tttlib {}.{}.{}", TTTLIB_VERSION_MAJOR, TTTLIB_VERSION_MINOR, TTTLIB_VERSION_PATCH);
    report.run(argc, argv, 0);
    report.fact("Device", describe(device));
    report.fact("Threads", std::to_string(threads));
    report.fact("Products", precision);
    report.fact("Date", date);
    report.write(out + ".html");
    const std::string machine = device.is_cpu() ? fmt::format("{} threads, {}", threads, machine_name()) : describe(device);
    std::string text = fmt::format("# Linear in tokens\n\n{}\nForward, in batches of {} image{}, products of {}, {}, {}, {}, medians of {}; ms and MiB are "
                                   "per image.\n\n|", summary, batch, batch == 1 ? "" : "s", precision, machine, version, date, repeat);
    for (const std::string& name : table.columns) text += " " + name + " |";
    text += "\n|";
    for (std::size_t c = 0; c < table.columns.size(); ++c) text += "---|";
    for (const auto& cells : table.rows) {
      text += "\n|";
      for (const std::string& cell : cells) text += " " + cell + " |";
    }
    write_file_atomically(out + ".md", text + "\n", "tttlib_scaling");
    const nlohmann::ordered_json numbers{{"machine", machine_name()}, {"device", describe(device)}, {"threads", threads}, {"batch", batch},
                                         {"dtype", precision},        {"version", version},         {"date", date},       {"rows", rows}};
    write_file_atomically(out + ".json", numbers.dump(1) + "\n", "tttlib_scaling");
    return 0;
  });
}
