// tttlib_parity: runs golden cases (inputs, outputs and gradients of a reference implementation, one safetensors file
// each) and prints how far this library is from them.
//
//   tttlib_parity [--dtype float|double] [--path fused|closed|nested] [--device cpu|cuda:N] [--perturb] FILE|DIR…
//
// One line per case with the relative error (2-norm) of outputs and of gradients; a line for each file it skips and
// why; then "N passed, N failed". Exits with 1 if a case failed or none ran.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "command_line.hpp"
#include "tttlib/core/hash.hpp"
#include "tttlib/io/safetensors.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/optim/schedule.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_scan.hpp"
#include "tttlib/ttt/ttt_block.hpp"

namespace {

using nlohmann::json;
using namespace ttt;

struct Settings {
  TttPath path = TttPath::fused;
  Device device = cpu();
  bool perturb = false;
};

/// Largest relative errors of one case so far, and what they must stay below.
class Errors {
 public:
  double output = 0, gradient = 0;
  bool has_gradient = false;
  std::string worst_gradient;
  double output_bound, gradient_bound;

  explicit Errors(bool is_double) : output_bound(is_double ? 1e-10 : 1e-5), gradient_bound(is_double ? 1e-10 : 1e-4) {}

  void add_output(double error) {
    ++compared_;
    output = std::max(output, known(error));
  }
  void add_gradient(const std::string& name, double error) {
    ++compared_;
    has_gradient = true;
    if (known(error) <= gradient) return;
    gradient = known(error);
    worst_gradient = name;
  }
  bool passed() const { return compared_ > 0 && output <= output_bound && gradient <= gradient_bound; }

 private:
  /// NaN is the worst error, and stays it.
  static double known(double error) { return std::isnan(error) ? std::numeric_limits<double>::infinity() : error; }
  int compared_ = 0;
};

/// |value − expected| / |expected|, absolute where nothing is expected.
double relative_error(double value, double expected) { return std::abs(value - expected) / (expected != 0 ? std::abs(expected) : 1); }

/// Whether the case has gradients. A file with one half of them is damaged, and must not pass on outputs alone.
bool has_gradients(const SafetensorsFile& file) {
  const auto names = file.names();
  const bool gradients = std::any_of(names.begin(), names.end(), [](const std::string& n) { return n.rfind("grad.", 0) == 0; });
  if (file.contains("cotangent.y") != gradients)
    fail<IoError>("parity", gradients ? "the file has gradients but no cotangent.y that they belong to" : "the file has a cotangent.y but no gradients");
  return gradients;
}

/// Element i of the tensor `name` by the fill rule: splitmix64 of FNV-1a(salt/name), uniform in [−1, 1), scaled.
template <class T>
Tensor<T> filled(const std::string& salt, const std::string& name, const Shape& shape, double scale, double shift) {
  const std::uint64_t hash = fnv(salt + "/" + name);
  Tensor<T> y(shape);
  for (std::int64_t i = 0; i < y.numel(); ++i) {
    std::uint64_t z = hash + static_cast<std::uint64_t>(i + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    const double u = static_cast<double>(z >> 40) / 16777216.0 * 2 - 1;
    y.data()[i] = static_cast<T>(u * scale + shift);
  }
  return y;
}

/// A parameter by the fill rule's table.
template <class T>
Tensor<T> filled_parameter(const std::string& salt, const std::string& name, const Shape& shape) {
  const std::string last = name.substr(name.rfind('.') + 1);
  double scale = 0.1, shift = 0;
  if (last == "running_var") shift = 1;
  else if (last == "w1" || last == "w2") scale = std::sqrt(3.0 / static_cast<double>(shape.back()));
  else if (last == "w3") scale = std::sqrt(3.0 / 9.0);
  else if (shape.size() > 1) scale = std::sqrt(3.0 / static_cast<double>(numel(shape) / shape[0]));
  else if (last == "weight") shift = 1;
  return filled<T>(salt, name, shape, scale, shift);
}

/// Moves one weight by 1 %: the largest.
template <class T>
void perturb_largest(Tensors<T>& weights) {
  T* largest = nullptr;
  for (Tensor<T>& w : weights)
    for (std::int64_t i = 0; i < w.numel(); ++i)
      if (!largest || std::abs(w.data()[i]) > std::abs(*largest)) largest = w.data() + i;
  if (largest) *largest *= static_cast<T>(1.01);
}

/// Puts the file's parameters (or filled ones) into a module.
template <class T>
void load_parameters(Module<T>& module, const SafetensorsFile& file) {
  const auto names = file.names();
  const bool stored = std::any_of(names.begin(), names.end(), [](const std::string& n) { return n.rfind("param.", 0) == 0; });
  StateDict<T> state;
  if (stored) {
    for (const std::string& name : names)
      if (name.rfind("param.", 0) == 0) state.emplace_back(name.substr(6), file.get<T>(name));
  } else {
    const auto salt = file.metadata().find("salt");
    if (salt == file.metadata().end()) fail<IoError>("parity", "neither param.* tensors nor a salt to fill them from");
    for (const auto& entry : module.state_dict())
      state.emplace_back(entry.first, filled_parameter<T>(salt->second, entry.first, entry.second.shape()));
  }
  module.load_state_dict(state);
}

/// Moves one weight of a module by 1 %: the one that the size of its output depends on most, to first order. In a model
/// with a thousand outputs most weights matter less than rounding in float does.
template <class T>
void perturb_module(Module<T>& module, const Tensor<T>& x) {
  GradModeGuard recording(true);
  const Tensor<T> y = module(x);
  y.backward(y.detach());  // the gradient of ½‖y‖²
  T* weight = nullptr;
  T effect = 0;
  for (const auto& entry : module.named_parameters()) {
    if (!entry.second->grad().defined()) continue;
    Tensor<T> w = entry.second->detach();  // a view of the parameter
    const std::vector<T> g = entry.second->grad().to_vector();
    for (std::size_t i = 0; i < g.size(); ++i)
      if (const T e = std::abs(w.data()[i] * g[i]); e > effect) effect = e, weight = w.data() + i;
  }
  if (!weight) fail<Error>("parity", "no weight reaches the output");
  *weight *= static_cast<T>(1.01);
  module.zero_grad();
}

/// Output, and if the file holds a cotangent all gradients, of a module on an input that `prepare` turns into what
/// the module takes; `finish` turns the result into the file's layout.
template <class T, class Prepare, class Finish>
Errors run_module(Module<T>& module, const SafetensorsFile& file, const Settings& settings, Tensor<T> x, const Prepare& prepare,
                  const Finish& finish) {
  if (settings.perturb) perturb_module(module, prepare(x));
  module.to(settings.device);
  x = x.to(settings.device);
  Errors errors(std::is_same_v<T, double>);
  const bool with_gradients = has_gradients(file);
  GradModeGuard recording(with_gradients);
  if (with_gradients) x.requires_grad();
  const Tensor<T> y = finish(module(prepare(x)));
  errors.add_output(relative_error(y, file.get<double>("output.y")));
  if (!with_gradients) return errors;
  y.backward(file.get<T>("cotangent.y").to(settings.device));
  std::map<std::string, Tensor<T>> leaves{{"grad.input.x", x}};
  for (auto& entry : module.named_parameters()) leaves["grad.param." + entry.first] = *entry.second;
  for (const std::string& name : file.names()) {
    if (name.rfind("grad.", 0) != 0) continue;
    const auto found = leaves.find(name);
    if (found == leaves.end()) fail<Error>("parity", "the model has nothing called " + name);
    if (!found->second.grad().defined()) fail<Error>("parity", "no gradient arrived at " + name);
    errors.add_gradient(name.substr(5), relative_error(found->second.grad(), file.get<double>(name)));
  }
  return errors;
}

template <class T>
Errors run_ttt_block(const SafetensorsFile& file, const json& config, const Settings& settings) {
  TttBlock<T> block(config.at("dim"), config.at("num_heads"),
                    {.qkv_bias = config.at("qkv_bias"), .rope = config.at("rope"), .path = settings.path});
  load_parameters(block, file);
  const Tensor<T> x = file.get<T>("input.x");  // [B, N, C]
  const Shape grid{x.size(0), config.at("height").get<std::int64_t>(), config.at("width").get<std::int64_t>(), x.size(2)};
  return run_module(block, file, settings, x, [&](const Tensor<T>& t) { return reshape(t, grid); },
                    [&](const Tensor<T>& t) { return reshape(t, x.shape()); });
}

template <class T>
Errors run_vit3(const SafetensorsFile& file, const json& config, const Settings& settings) {
  Vit3Options o;
  o.patch_size = config.at("patch_size");
  o.channels = config.at("embed_dim");
  o.depth = config.at("depth");
  o.heads = config.at("num_heads");
  o.num_classes = config.at("num_classes");
  o.mlp_ratio = config.at("mlp_ratio");
  o.path = settings.path;
  Vit3<T> model(o);
  load_parameters(model, file);
  const std::int64_t side = config.at("img_size");
  Tensor<T> x = file.get<T>("input.x");  // [B, 3, side, side], or a corner of it when the input is filled
  const Shape full{x.size(0), 3, side, side};
  if (x.shape() != full) {
    const Tensor<T> whole = filled<T>(file.metadata().at("salt"), "input.x", full, 1.7, 0);
    Tensor<T> corner = whole;
    for (std::int64_t axis = 0; axis < 4; ++axis) corner = slice(corner, axis, 0, x.size(axis));
    if (relative_error(corner, file.get<double>("input.x")) > 1e-6)
      fail<Error>("parity", "the filled input does not reproduce the corner stored in the file");
    x = whole;
  }
  return run_module(model, file, settings, x, [](const Tensor<T>& t) { return from_nchw(t); }, [](const Tensor<T>& t) { return t; });
}

/// One TTT layer without projections, by nested differentiation.
template <class T>
Errors run_inner_training(const SafetensorsFile& file, const json& config, const Settings& settings) {
  const InnerModel<T> model = inner::make<T>(config.at("inner_model"), {.width = config.at("head_dim"),
                                                                        .ratio = config.at("ratio"),
                                                                        .grid_height = config.at("height"),
                                                                        .grid_width = config.at("width")});
  InnerOptions<T> options;
  options.loss = losses::find<T>(config.at("loss"));
  options.rate = config.at("lr");
  options.epochs = config.at("epochs");
  options.batches = config.at("num_batches");
  options.clip = config.at("clip");
  const bool dynamic = config.at("dynamic_lr");
  std::vector<std::string> names{"input.q", "input.k", "input.v"};
  if (dynamic) names.push_back("input.lr_logits");
  const std::size_t inputs = names.size();
  for (const InnerParameter& p : model.parameters) names.push_back("param." + p.name);
  Tensors<T> xs;
  for (const std::string& name : names) xs.push_back(file.get<T>(name));
  if (settings.perturb) {
    Tensors<T> weights(xs.begin() + static_cast<std::ptrdiff_t>(inputs), xs.end());
    perturb_largest(weights);
  }
  for (Tensor<T>& x : xs) x = x.to(settings.device);
  const auto layer = [&](const Tensors<T>& x) {
    InnerOptions<T> o = options;
    if (dynamic) o.token_rates = {sigmoid(x[3])};                                               // [B, H, N]
    const Tensors<T> w0(x.begin() + static_cast<std::ptrdiff_t>(inputs), x.end());              // [H, …] each
    return inner_scan(model, w0, x[0], x[1], x[2], o).output;                                   // [B, H, N, d]
  };
  Errors errors(std::is_same_v<T, double>);
  errors.add_output(relative_error(layer(xs), file.get<double>("output.y")));
  if (!has_gradients(file)) return errors;
  const Tensors<T> gradients = vjp(layer, xs, file.get<T>("cotangent.y").to(settings.device));
  for (std::size_t i = 0; i < xs.size(); ++i) {
    // The sign of an error passes nothing on to the values: exactly nothing, whatever rounding left in the file.
    const bool nothing = options.loss.name() == "mae" && names[i] == "input.v";
    errors.add_gradient(names[i], nothing ? (amax(abs(gradients[i])).item() == 0 ? 0 : 1)
                                          : relative_error(gradients[i], file.get<double>("grad." + names[i])));
  }
  return errors;
}

/// Names after a prefix, in the file's order.
std::vector<std::string> names_after(const SafetensorsFile& file, const std::string& prefix) {
  std::vector<std::string> names;
  for (const std::string& name : file.names())
    if (name.rfind(prefix, 0) == 0) names.push_back(name.substr(prefix.size()));
  return names;
}

template <class T>
void run_optimizer(const SafetensorsFile& file, const std::string& key, const json& config, const Settings& settings, Errors& errors) {
  std::vector<ParamGroup<T>> groups(2);
  groups[0].weight_decay = config.at("weight_decay");
  std::vector<std::pair<std::string, Tensor<T>>> parameters;
  for (const std::string& name : names_after(file, key + ".start.")) {
    Tensor<T> p = file.get<T>(key + ".start." + name);
    if (settings.perturb && parameters.empty()) {
      Tensors<T> first{p};
      perturb_largest(first);
    }
    p = p.to(settings.device);
    p.requires_grad();
    parameters.emplace_back(name, p);
    groups[p.dim() > 1 ? 0 : 1].parameters.emplace_back(name, p);
  }
  std::unique_ptr<Optimizer<T>> optimizer;
  if (config.contains("betas"))
    optimizer = std::make_unique<AdamW<T>>(groups, AdamWOptions{config.at("lr"), config.at("betas")[0], config.at("betas")[1], config.at("eps")});
  else
    optimizer = std::make_unique<Sgd<T>>(groups, SgdOptions{config.at("lr"), config.at("momentum"), config.at("nesterov")});
  for (int step = 0; file.contains(concat(key, ".after", step, ".", parameters.at(0).first)); ++step) {
    Tensors<T> all;
    for (auto& entry : parameters) {
      entry.second.set_grad(file.get<T>(concat(key, ".grad", step, ".", entry.first)).to(settings.device));
      all.push_back(entry.second);
    }
    if (config.contains("clip_grad_norm")) {
      const double norm = clip_grad_norm(all, config.at("clip_grad_norm"));
      const double expected = file.get<double>(key + ".grad_norms").to_vector().at(static_cast<std::size_t>(step));
      errors.add_output(relative_error(norm, expected));
    }
    optimizer->step();
    for (auto& entry : parameters)
      errors.add_output(relative_error(entry.second.detach(), file.get<double>(concat(key, ".after", step, ".", entry.first))));
  }
}

template <class T>
Errors run_optim_and_loss(const SafetensorsFile& file, const json& config, const Settings& settings) {
  Errors errors(std::is_same_v<T, double>);
  for (const auto& entry : config.items()) {
    if (!names_after(file, entry.key() + ".start.").empty()) {
      run_optimizer<T>(file, entry.key(), entry.value(), settings, errors);
    } else if (entry.key() == "schedule.cosine") {
      const json& c = entry.value();
      const CosineSchedule schedule{c.at("lr"), c.at("lr_min"), c.at("warmup_lr_init"), c.at("total_steps"), c.at("warmup_steps")};
      const std::vector<double> expected = file.get<double>("schedule.cosine").to_vector();
      for (std::size_t i = 0; i < expected.size(); ++i)
        errors.add_output(relative_error(schedule(static_cast<std::int64_t>(i)), expected[i]));
    } else {
      fail<Error>("parity", "nothing known about config entry " + entry.key());
    }
  }
  if (!file.contains("cross_entropy.logits")) return errors;
  Tensor<T> logits = file.get<T>("cross_entropy.logits");
  if (settings.perturb) {
    Tensors<T> all{logits};
    perturb_largest(all);
  }
  logits = logits.to(settings.device);
  const Tensor<std::int64_t> labels = file.get<std::int64_t>("cross_entropy.labels").to(settings.device);
  const Tensor<T> soft = file.get<T>("cross_entropy.soft_targets").to(settings.device);
  const auto check = [&](const std::string& name, const auto& loss) {
    const auto result = value_and_grad(loss)(logits);
    errors.add_output(relative_error(reshape(result.first, file.shape("cross_entropy." + name)), file.get<double>("cross_entropy." + name)));
    errors.add_gradient("cross_entropy." + name, relative_error(result.second, file.get<double>("cross_entropy." + name + ".grad")));
  };
  check("hard", [&](const Tensor<T>& x) { return cross_entropy(x, labels); });
  check("smooth", [&](const Tensor<T>& x) { return cross_entropy(x, labels, {.label_smoothing = 0.1}); });
  check("soft", [&](const Tensor<T>& x) { return cross_entropy(x, soft); });
  return errors;
}

/// Runs one file, or says in `skipped` why not.
template <class T>
Errors run_case(const SafetensorsFile& file, const Settings& settings, std::string& skipped) {
  const auto kind = file.metadata().find("case"), text = file.metadata().find("config");
  if (kind == file.metadata().end() || text == file.metadata().end()) {
    skipped = "no case and config in the metadata";
    return Errors(true);
  }
  const json config = json::parse(text->second);
  if (kind->second == "ttt_block") return run_ttt_block<T>(file, config, settings);
  if (kind->second == "vit3") return run_vit3<T>(file, config, settings);
  if (kind->second == "inner_training") return run_inner_training<T>(file, config, settings);
  if (kind->second == "optim_and_loss") return run_optim_and_loss<T>(file, config, settings);
  skipped = "case " + kind->second + " is not known to this version";
  return Errors(true);
}

/// The safetensors files among the arguments, folders opened one level deep, in order of name.
std::vector<std::string> files_of(const std::vector<std::string>& arguments) {
  std::vector<std::string> files;
  for (const std::string& argument : arguments) {
    if (!std::filesystem::exists(argument)) fail<IoError>("parity", "no such file or folder: " + argument);
    if (!std::filesystem::is_directory(argument)) {
      files.push_back(argument);
      continue;
    }
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(argument))
      if (entry.path().extension() == ".safetensors") found.push_back(entry.path().string());
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

int run(const std::vector<std::string>& arguments, bool in_double, const Settings& settings) {
  int passed = 0, failed = 0;
  for (const std::string& path : files_of(arguments)) {
    const std::string name = std::filesystem::path(path).stem().string();
    std::string skipped;
    try {
      const SafetensorsFile file = load_safetensors_file(path);
      const Errors errors = in_double ? run_case<double>(file, settings, skipped) : run_case<float>(file, settings, skipped);
      if (!skipped.empty()) {
        std::printf("skip  %-44s %s\n", name.c_str(), skipped.c_str());
        continue;
      }
      std::printf("%s  %-44s outputs %.1e (at most %.0e)", errors.passed() ? "ok  " : "FAIL", name.c_str(), errors.output, errors.output_bound);
      if (errors.has_gradient)
        std::printf("  gradients %.1e (at most %.0e)%s%s", errors.gradient, errors.gradient_bound,
                    errors.worst_gradient.empty() ? "" : ", worst ", errors.worst_gradient.c_str());
      std::printf("\n");
      ++(errors.passed() ? passed : failed);
    } catch (const std::exception& e) {
      std::printf("FAIL  %-44s %s\n", name.c_str(), e.what());
      ++failed;
    }
    std::fflush(stdout);
  }
  if (passed + failed == 0) std::printf("no case ran\n");
  std::printf("on %s, in %s precision\n", describe(settings.device).c_str(), in_double ? "double" : "single");
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares tttlib with golden cases of a reference implementation", "tttlib_parity");
  std::string dtype = "double", path = "fused";
  std::vector<std::string> arguments;
  Settings settings;
  app.add_option("--dtype", dtype, "Precision to compute in")->check(CLI::IsMember({"float", "double"}))->capture_default_str();
  app.add_option("--path", path, "How the inner step is computed")->check(CLI::IsMember({"fused", "closed", "nested"}))->capture_default_str();
  program::add_device(app, settings.device);
  app.add_flag("--perturb", settings.perturb, "Move one weight of every case by 1 %: each case must then fail");
  app.add_option("files", arguments, "Case files, or folders of them")->required();
  return program::run(app, argc, argv, [&] {
    settings.path = ttt_path(path);
    return run(arguments, dtype == "double", settings);
  });
}
