// Shows what the TTT layers of a trained ViT³ do with one image.
//
//   visualize --weights runs/demo/best.safetensors --model vit3_pico             an image of the built-in shapes
//   visualize --weights … --data cifar-10-batches-bin --index 7 --token 3 4      a CIFAR-10 test image, the token in row 3, column 4
//   visualize --weights … --image cat.jpg                                        a picture of your own
//
// Every block trains an inner model per head on the image's keys and values. Three questions, three pictures:
//   gradient_magnitude.png  which tokens move the inner weights: G_i = ‖∂ℓ_i/∂W‖ at W0, for every head
//   implicit_attention.png  whose values reach the chosen token's answer: ‖∂o_i/∂v_j‖ through the inner step
//   kernels.png             the convolution head's kernels before and after the inner step
// Writes them and report.html into --out.

#include <fmt/format.h>

#include <cmath>

#include "command_line.hpp"
#include "tttlib/data/augment.hpp"
#include "tttlib/data/cifar.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/io/folder.hpp"
#include "tttlib/io/heat_map.hpp"
#include "tttlib/io/safetensors.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/softmax.hpp"
#include "tttlib/train/report.hpp"
#include "tttlib/train/training_state.hpp"
#include "tttlib/ttt/explain.hpp"

using namespace ttt;

namespace {

constexpr Color mark{228, 60, 48};
constexpr int gap = 10, line = 22, margin = 110;  // between pictures, of text, for the rows' names

using Map = std::vector<double>;  // one number per token, or per entry of a kernel

/// Maps in rows and columns, each row with its name.
struct Sheet {
  std::vector<std::string> columns, rows;
  std::vector<std::vector<Map>> maps;  // [rows][columns]
};

/// From the least number to the largest as 0 to 1.
Map stretched(Map map) {
  const auto [low, high] = std::minmax_element(map.begin(), map.end());
  const double from = *low, span = *high - *low;
  for (double& x : map) x = span > 0 ? (x - from) / span : 0;
  return map;
}

struct TokenAt {
  int row = 0, column = 0;
};

/// Every row begins with the image itself, where `token` is framed as in its maps.
Image draw_tokens(const Sheet& sheet, const Image& image, int grid_height, int grid_width, const TokenAt* token) {
  const int cell = std::max(2, 112 / std::max(grid_height, grid_width)), width = cell * grid_width, height = cell * grid_height;
  const Image thumbnail = resize(image, width, height);
  const int columns = static_cast<int>(sheet.columns.size()) + 1;
  Image page(margin + columns * (width + gap), line + static_cast<int>(sheet.rows.size()) * (height + gap));
  fill_rectangle(page, 0, 0, page.width, page.height, paper_color);
  const auto frame = [&](int x, int y) {
    if (!token) return;
    x += token->column * cell, y += token->row * cell;
    for (const auto& [dx, dy, w, h] : {std::array{0, 0, cell, 2}, {0, cell - 2, cell, 2}, {0, 0, 2, cell}, {cell - 2, 0, 2, cell}})
      fill_rectangle(page, x + dx, y + dy, w, h, mark);
  };
  for (int c = 0; c < columns; ++c)
    draw_text(page, margin + c * (width + gap), 2, c == 0 ? "image" : sheet.columns[static_cast<std::size_t>(c) - 1], ink_color, 2);
  for (std::size_t r = 0; r < sheet.rows.size(); ++r) {
    const int y = line + static_cast<int>(r) * (height + gap);
    draw_text(page, 4, y + height / 2 - 8, sheet.rows[r], ink_color, 2);
    for (int row = 0; row < height; ++row) std::copy_n(thumbnail.at(0, row), 3 * width, page.at(margin, y + row));
    frame(margin, y);
    for (int c = 1; c < columns; ++c) {
      const int x = margin + c * (width + gap);
      draw_heat_map(page, x, y, stretched(sheet.maps[r][static_cast<std::size_t>(c) - 1]), grid_width, cell, heat_color);
      frame(x, y);
    }
  }
  return page;
}

/// Two rows per block, before and after its inner step; a block's colours have one scale.
Image draw_kernels(const Sheet& sheet) {
  constexpr int cell = 6, size = 3 * cell, step = size + 4, label = 2 * margin - 24;
  Image page(label + static_cast<int>(sheet.maps[0].size()) * step, gap + static_cast<int>(sheet.rows.size()) / 2 * (2 * step + gap));
  fill_rectangle(page, 0, 0, page.width, page.height, paper_color);
  for (std::size_t r = 0; r < sheet.rows.size(); ++r) {
    const int y = gap + static_cast<int>(r / 2) * (2 * step + gap) + static_cast<int>(r % 2) * step;
    double largest = 0;
    for (std::size_t both = r - r % 2; both < r - r % 2 + 2; ++both)
      for (const Map& kernel : sheet.maps[both])
        for (const double w : kernel) largest = std::max(largest, std::abs(w));
    draw_text(page, 4, y + 2, sheet.rows[r], ink_color, 2);
    for (std::size_t c = 0; c < sheet.maps[r].size(); ++c)
      draw_heat_map(page, label + static_cast<int>(c) * step, y, sheet.maps[r][c], 3, cell, [&](double w) { return signed_color(largest > 0 ? w / largest : 0); });
  }
  return page;
}

/// The rows of x along its first axis: [n, m] -> n × m numbers.
std::vector<Map> rows_of(const Tensor<float>& x) {
  std::vector<Map> rows;
  for (std::int64_t i = 0; i < x.size(0); ++i) {
    const std::vector<float> values = select(x, 0, i).to_vector();
    rows.emplace_back(values.begin(), values.end());
  }
  return rows;
}

/// ‖w − w0‖ over ‖w0‖ in percent, all weights of all heads together: [1, H, …] and [H, …] each.
double change_percent(const Tensors<float>& w, const Tensors<float>& w0) {
  double moved = 0, size = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    moved += static_cast<double>(sum(square(sub(select(w[i], 0, 0), w0[i]))).item());
    size += static_cast<double>(sum(square(w0[i])).item());
  }
  return 100 * std::sqrt(moved / size);
}

/// What the blocks say, ready to be drawn.
struct Explanation {
  Sheet magnitude, attention, kernels;
  ReportTable training{.caption = "The inner training of every block, mean over its heads",
                       .columns = {"block", "heads", "inner loss before", "after", "change of the weights, %"}};
  Tensor<float> logits;  // [1, classes]
};

/// images: [1, H, W, 3].
Explanation explain(Vit3<float>& model, const Tensor<float>& images, const std::function<std::int64_t(std::int64_t h, std::int64_t w)>& choose_token) {
  const NoGradGuard guard;
  Explanation e;
  Tensor<float> x = (*model.patch_embed)(images);  // [1, h, w, C]
  const std::int64_t token = choose_token(x.size(1), x.size(2));
  for (std::size_t i = 0; i < model.blocks->size(); ++i) {
    auto& block = dynamic_cast<Vit3Layer<float>&>((*model.blocks)[i]);
    const auto heads = block.attn->tasks((*block.norm1)(add(x, (*block.cpe)(x))));
    const std::string name = concat("block ", i + 1);
    std::vector<Map> magnitude, attention;
    Tensors<float> after;  // the trained weights, in the end those of the convolution
    for (const InnerTask<float>* task : {&heads.glu, &heads.conv}) {
      for (Map& map : rows_of(select(gradient_magnitude(*task), 0, 0))) magnitude.push_back(std::move(map));
      const Tensor<float> reach = norm(value_jacobian(*task, token), {-2, -1});  // [1, H, N]
      for (Map& map : rows_of(select(reach, 0, 0))) attention.push_back(std::move(map));
      const Tensors<float> before = expand_per_image(task->w0, 1);
      after = inner_train(task->model, task->w0, task->k, task->v, task->options);
      e.training.rows.push_back({concat(i + 1), task->model.name, fmt::format("{:.4f}", mean(inner_loss(*task, before)).item()),
                                 fmt::format("{:.4f}", mean(inner_loss(*task, after)).item()),
                                 fmt::format("{:.1f}", change_percent(after, task->w0))});
    }
    e.magnitude.maps.push_back(magnitude), e.magnitude.rows.push_back(name);
    e.attention.maps.push_back(attention), e.attention.rows.push_back(name);
    const Tensor<float> w0 = heads.conv.w0[0];  // [1, d, 1, 3, 3]
    for (const Tensor<float>& kernels : {w0, after[0]}) e.kernels.maps.push_back(rows_of(reshape(kernels, {w0.size(1), 9})));
    e.kernels.rows.insert(e.kernels.rows.end(), {name + " before", name + " after"});
    x = block(x);
  }
  for (std::size_t c = 0; c + 1 < e.magnitude.maps[0].size(); ++c) e.magnitude.columns.push_back(concat("head ", c + 1));
  e.magnitude.columns.push_back("conv");
  e.attention.columns = e.magnitude.columns;
  e.logits = model(images);
  return e;
}

/// One labelled picture with the statistics of its data set.
ImageDataset load_picture(const std::string& data, const std::string& file, std::int64_t index, std::int64_t side) {
  constexpr std::int64_t most_shapes = 10000;  // all of them up to the chosen one are painted
  ImageDataset set;
  if (data != "shapes") set = load_cifar(data, Split::test);
  else if (!file.empty()) set = make_shapes(1, 32, 0, Split::test);  // for its classes, mean and deviation
  else if (index < most_shapes) set = make_shapes(index + 1, static_cast<int>(side), 0, Split::test);
  else fail<ShapeError>("visualize", concat("--index must be below ", most_shapes, " for the built-in shapes: ", index));
  if (file.empty() && index >= set.size()) fail<ShapeError>("visualize", concat("--index must be below ", set.size(), ": ", index));
  Image picture;
  if (file.empty()) {
    picture = set.image(index);
    set.labels = {set.labels[static_cast<std::size_t>(index)]};
  } else {
    const Image whole = read_image(file);
    const int shorter = std::min(whole.width, whole.height), left = (whole.width - shorter) / 2, top = (whole.height - shorter) / 2;
    Image square(shorter, shorter);
    for (int row = 0; row < shorter; ++row) std::copy_n(whole.at(left, top + row), 3 * shorter, square.at(0, row));
    picture = resize(square, static_cast<int>(side), static_cast<int>(side));
    set.labels.clear();
  }
  set.height = picture.height, set.width = picture.width;
  set.pixels = picture.pixels;
  return set;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Shows what the TTT layers of a trained ViT³ do with one image", "visualize");
  std::string weights, model_name = "vit3_nano", data = "shapes", file, out = "runs/visualize";
  std::int64_t index = 0;
  std::optional<std::int64_t> image_size, patch_size;
  std::vector<std::int64_t> token;
  Device device;
  app.add_option("--weights", weights, "Weights of a trained model, such as runs/…/best.safetensors")->required();
  app.add_option("--model", model_name, "Its name")->capture_default_str();
  app.add_option("--data", data, "Folder of CIFAR-10 or CIFAR-100 binary files, or \"shapes\"")->capture_default_str();
  app.add_option("--index", index, "Which of its test images")->check(program::whole(0, 1000000))->capture_default_str();
  app.add_option("--image", file, "A PNG or JPEG file instead; its middle is brought to the model's size");
  app.add_option("--image-size", image_size, "Side of that picture, or of the shapes; default: the model's")->check(program::whole(1, 8192));
  app.add_option("--patch-size", patch_size, "Side of the patches; default: the model's")->check(program::whole(1, 8192));
  app.add_option("--token", token, "Row and column, from 0, of the token whose answer is looked at; default: the middle")->expected(2)->check(program::whole(0, 8192));
  program::add_device(app, device);
  program::add_dtype(app);
  app.add_option("--out", out, "Output folder")->capture_default_str();

  return program::run(app, argc, argv, [&] {
    const SafetensorsFile stored = load_safetensors_file(weights);
    ModelOptions options{.image_size = image_size, .patch_size = patch_size};
    const std::int64_t side = image_size_of(model_name, options);
    if (stored.contains("head.weight") && stored.shape("head.weight").size() == 2) options.num_classes = stored.shape("head.weight")[0];
    const auto model = std::dynamic_pointer_cast<Vit3<float>>(create_model<float>(model_name, options));
    if (!model) fail<Error>("visualize", "the model trains nothing inside: --model " + model_name, "a vit3 model has TTT layers");
    load_weights(weights, *model);
    model->to(device);
    model->eval();

    const ImageDataset picture = load_picture(data, file, index, side);
    Tensor<float> images(Shape{1, picture.height, picture.width, 3});  // [1, H, W, 3]
    Normalizer normalize(picture);
    normalize(picture.image_data(0), {}, images.data());
    TokenAt at;
    Shape grid;
    const Explanation e = explain(*model, images.to(device), [&](std::int64_t h, std::int64_t w) {
      grid = {h, w};
      const std::int64_t row = token.empty() ? h / 2 : token[0], column = token.empty() ? w / 2 : token[1];
      if (row >= h || column >= w) fail<ShapeError>("visualize", concat("no such token: --token ", row, " ", column, ", grid ", h, " x ", w));
      at = {static_cast<int>(row), static_cast<int>(column)};
      return row * w + column;
    });

    const std::vector<float> probabilities = softmax(e.logits).to_vector();  // [classes]
    if (!std::isfinite(probabilities[0])) fail<Error>("visualize", "the model's answer is no number", concat("look for NaN or infinity in ", weights));

    make_folder("visualize", out);
    const Image image = picture.image(0);
    const int h = static_cast<int>(grid[0]), w = static_cast<int>(grid[1]);
    const int enlarged = std::max(1, 256 / image.width);
    write_png(out + "/image.png", resize(image, enlarged * image.width, enlarged * image.height));
    write_png(out + "/gradient_magnitude.png", draw_tokens(e.magnitude, image, h, w, nullptr));
    write_png(out + "/implicit_attention.png", draw_tokens(e.attention, image, h, w, &at));
    write_png(out + "/kernels.png", draw_kernels(e.kernels));

    const auto best = static_cast<std::size_t>(std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin());
    const auto name_of = [&](std::size_t c) { return picture.class_names.size() == probabilities.size() ? picture.class_names[c] : concat("class ", c); };
    const std::string result = concat("The model says ", name_of(best), fmt::format(" ({:.1f} %)", 100 * probabilities[best]),
                                      picture.labels.empty() ? "." : concat("; the label is ", name_of(static_cast<std::size_t>(picture.labels[0])), "."));
    const std::string where = concat("row ", at.row, ", column ", at.column);
    Report report(concat("What ", model_name, " does with one image"),
                  "Every block trains an inner model per head on this image's keys and values, in one step, and then answers its queries. Which tokens "
                  "move the inner weights, whose values reach an answer, and what the step does to the weights.");
    report.result(result);
    report.picture(out + "/image.png", "The image, enlarged");
    report.heading("Which tokens move the inner weights");
    report.picture(out + "/gradient_magnitude.png", concat("A map of ", h, " by ", w, " tokens for every block and head beside the image"),
                   "Size of every token's share of the inner gradient, G_i = ‖∂ℓ_i/∂W‖ at W0. Each map goes from its least value, dark, to its largest, yellow.");
    report.heading("Whose values reach the chosen token");
    report.picture(out + "/implicit_attention.png", concat("A map of ", h, " by ", w, " tokens for every block and head; the token in ", where, " is framed"),
                   concat("Implicit attention of the framed token i (", where, "): ‖∂o_i/∂v_j‖ for every token j, differentiated through the inner step. "
                          "Softmax attention would have its weights here; a TTT layer never computes such a map. Scale as above."));
    report.heading("What the inner step does to the weights");
    report.table(e.training);
    report.picture(out + "/kernels.png", "For every block two rows of 3 by 3 kernels, one per channel: before and after the inner step",
                   "Kernels of the convolution head, one per channel, before and after the inner step on this image: blue negative, red positive, one scale per block.");
    report.run(argc, argv, 0);
    report.fact("Device", describe(device));
    report.fact("Image", file.empty() ? concat("test image ", index, " of ", data) : file);
    report.write(out + "/report.html");
    std::printf("%s\ncomputed on %s\nwritten to %s: report.html (open it in a browser), gradient_magnitude.png, implicit_attention.png, kernels.png\n",
                result.c_str(), describe(device).c_str(), out.c_str());
    return 0;
  });
}
