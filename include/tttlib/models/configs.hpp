#pragma once
/// The table of published sizes, and models by name.

#include <optional>

#include "tttlib/models/deit.hpp"
#include "tttlib/models/linear_pixels.hpp"
#include "tttlib/models/vit3.hpp"

namespace ttt {

/// One row: a model's name and its sizes.
struct ModelConfig {
  const char* name;
  std::int64_t image_size, patch_size, channels, depth, heads;
  const char* source;
};

inline constexpr ModelConfig model_configs[] = {
    {"vit3_pico", 32, 4, 64, 4, 2, "this project; for a first look"},
    {"vit3_nano", 32, 4, 96, 6, 3, "this project; for 32 x 32 images"},
    {"vit3_tiny", 224, 16, 192, 12, 6, "arXiv 2512.01643, ViT3-T"},
    {"vit3_small", 224, 16, 384, 12, 6, "arXiv 2512.01643, ViT3-S"},
    {"vit3_base", 224, 16, 768, 12, 12, "arXiv 2512.01643, ViT3-B"},
    {"deit_nano", 32, 4, 96, 6, 3, "this project; for 32 x 32 images"},
    {"deit_tiny", 224, 16, 192, 12, 3, "arXiv 2012.12877, DeiT-T"},
    {"deit_small", 224, 16, 384, 12, 6, "arXiv 2012.12877, DeiT-S"},
    {"linear_pixels", 32, 1, 3, 0, 1, "baseline: one linear layer on all pixels"},
};

/// What a user may change about a named model; unset values keep the table's.
struct ModelOptions {
  std::int64_t num_classes = 1000;
  std::optional<std::int64_t> image_size = {};  // any multiple of the patch; DeiT learns positions for this size, others do not care
  std::optional<std::int64_t> patch_size = {};
  double drop_path = 0;
  TttPath path = TttPath::fused;  // of deit_*: attention in blocks if fused, else with the whole matrix of weights
  bool recompute = false;  // blocks on the way back: less memory for a third more arithmetic
};

/// The row of a name. Throws Error listing the known names.
inline const ModelConfig& model_config(const std::string& name) {
  std::string known;
  for (const ModelConfig& config : model_configs) {
    if (name == config.name) return config;
    known += concat(known.empty() ? "" : ", ", config.name);
  }
  fail<Error>("create_model", concat("unknown model \"", name, "\""), "known names: " + known);
}

/// Side of the images a named model is summarised and trained at: the option, or the table's.
inline std::int64_t image_size_of(const std::string& name, const ModelOptions& options) {
  return options.image_size.value_or(model_config(name).image_size);
}

/// A freshly initialised model. Throws Error for an unknown name, ShapeError for sizes that do not fit.
template <class T = float>
std::shared_ptr<Module<T>> create_model(const std::string& name, const ModelOptions& options = {}) {
  const ModelConfig& config = model_config(name);
  const std::int64_t side = image_size_of(name, options), patch = options.patch_size.value_or(config.patch_size);
  if (options.num_classes < 1) fail<ShapeError>("create_model", concat("num_classes must be positive: ", options.num_classes));
  if (patch < 1 || side < 1 || side % patch != 0)
    fail<ShapeError>("create_model", concat("image size must be a positive multiple of the patch: image ", side, ", patch ", patch));
  if (name == "linear_pixels") return std::make_shared<LinearPixels<T>>(side, options.num_classes);
  if (name.rfind("deit_", 0) == 0)
    return std::make_shared<Deit<T>>(DeitOptions{.image_size = side,
                                                 .patch_size = patch,
                                                 .channels = config.channels,
                                                 .depth = config.depth,
                                                 .heads = config.heads,
                                                 .num_classes = options.num_classes,
                                                 .drop_path = options.drop_path,
                                                 .recompute = options.recompute},
                                     options.path == TttPath::fused ? mixers::softmax_attention<T>() : mixers::softmax_attention_by_matrix<T>());
  return std::make_shared<Vit3<T>>(Vit3Options{.patch_size = patch,
                                               .channels = config.channels,
                                               .depth = config.depth,
                                               .heads = config.heads,
                                               .num_classes = options.num_classes,
                                               .drop_path = options.drop_path,
                                               .path = options.path,
                                               .recompute = options.recompute});
}

#if defined(TTTLIB_COMPILED)
extern template std::shared_ptr<Module<float>> create_model<float>(const std::string&, const ModelOptions&);
extern template std::shared_ptr<Module<double>> create_model<double>(const std::string&, const ModelOptions&);
#endif

}  // namespace ttt
