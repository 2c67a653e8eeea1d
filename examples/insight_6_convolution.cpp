// Insight 6: a convolution as inner model brings back the neighbourhood.
//
// A model of single tokens (glu) lets a token speak to the others only through the trained weights: near and far are the
// same to it, so the layer is global and blind to place. A convolution is trained on the whole image as well, so it is as
// global, and its answer at a place also mixes the queries around it. The depthwise one costs next to nothing and does best.
// (ViT³ paper, section 3.)
//
// The picture shows how far one changed key, and one changed token, reaches.

#include "insights/example_tokens.hpp"
#include "tttlib/io/heat_map.hpp"
#include "tttlib/ttt/inner_train.hpp"

using namespace insights;

namespace {

constexpr std::int64_t side = 13, d = 16, centre = side * side / 2;
constexpr int cell = 14, gap = 24, title = 26, map_size = cell * static_cast<int>(side);

void draw_map(Image& image, int column, int row, const std::string& name, const std::vector<double>& change) {
  const int left = gap + column * (map_size + gap), top = title + row * (map_size + title + 8);
  draw_text(image, left, top - 20, name, ink_color, 2);
  const auto color = [](double size) { return heat_color(std::log10(std::max(size, 1e-12)) / 4 + 1); };  // 1e-4 and less to 1
  draw_heat_map(image, left, top, change, static_cast<int>(side), cell, color);
}

/// How far a change in the middle of the grid reaches in the output.
void mechanism(StudyPage& page) {
  const Tensor<double> x = example_features(1, side, d);                                         // [1, N, d]
  const Tensors<double> w{example_projection(d), example_projection(d), example_projection(d)};  // W_Q, W_K, W_V: [d, d]
  Tensor<double> other = clone(x);                                                               // [1, N, d], another token in the middle
  for (std::int64_t c = 0; c < d; ++c) other.data()[centre * d + c] = -x.data()[centre * d + c];
  const auto tokens = [&](const Tensor<double>& from) { return Tokens{project(from, w[0], 1), project(from, w[1], 1), project(from, w[2], 1)}; };
  const Tokens before = tokens(x), changed = tokens(other);  // [1, 1, N, d]
  const std::vector<std::pair<std::string, InnerModel<double>>> models{
      {"glu", inner::glu<double>(d)}, {"conv3x3", inner::conv3x3<double>(d, side, side)}, {"dwconv3x3", inner::dwconv3x3<double>(d, side, side)}};

  page.paragraph(
      "Above: only the key in the middle is changed, so it can act through the trained weights alone. Every token feels it a little, near or far. "
      "Below: the whole token is changed, with its query. With glu that shows at its own place only; a convolution hands it to the neighbours as "
      "well.");
  ReportTable table{.caption = "Change of the output, % of its mean size",
                    .columns = {"inner model", "changed", "in the middle", "its 8 neighbours", "all others", "near over far"},
                    .rows = {}};
  Image image(gap + 3 * (map_size + gap), 2 * (map_size + title + 8));
  fill_rectangle(image, 0, 0, image.width, image.height, paper_color);
  for (int m = 0; m < 3; ++m) {
    const auto& [name, model] = models[static_cast<std::size_t>(m)];
    const double deviation = m == 0 ? 1 / std::sqrt(double(d)) : m == 1 ? 1 / std::sqrt(9.0 * d) : 1.0 / 3;
    const Tensors<double> w0 = model.initial_weights(1, deviation);  // [1, …] each
    const InnerModel<double>& f = model;
    const auto layer = [&](const Tokens& t) { return f(t.q, inner_train(f, w0, t.k, t.v)); };  // [1, 1, N, d]
    const Tensor<double> plain = layer(before);                                                // [1, 1, N, d]
    const double size = mean(norm(plain, {-1})).item();
    for (int whole = 0; whole < 2; ++whole) {
      const Tokens now = whole ? changed : Tokens{before.q, changed.k, before.v};
      const std::vector<double> change = div(norm(sub(layer(now), plain), {-1}), full<double>({1}, size)).to_vector();  // [N]
      double near = 0, far = 0;
      for (std::int64_t i = 0; i < side * side; ++i) {
        const std::int64_t dy = i / side - centre / side, dx = i % side - centre % side;
        if (i != centre) (std::abs(dy) <= 1 && std::abs(dx) <= 1 ? near : far) += change[static_cast<std::size_t>(i)];
      }
      near /= 8, far /= static_cast<double>(side * side - 9);
      draw_map(image, m, whole, name + (whole ? ", token" : ", key"), change);
      table.rows.push_back({name, whole ? "token" : "key", fmt::format("{:.2f}", 100 * change[static_cast<std::size_t>(centre)]),
                            fmt::format("{:.2f}", 100 * near), fmt::format("{:.2f}", 100 * far), fmt::format("{:.1f}", near / far)});
    }
  }
  write_png(page.folder() + "/reach.png", image);
  page.picture(page.folder() + "/reach.png",
               "Six maps of 13 by 13 tokens. With a changed key the change is spread over all maps, no stronger near the middle. With a changed "
               "token the glu map has one bright cell in the middle, the maps of the convolutions a bright square of three by three.",
               "How far a change in the middle reaches: dark 0.01 % of the output's mean size or less, yellow 100 %.");
  page.table(table);
}

}  // namespace

int main(int argc, char** argv) {
  Study study{.name = "insight_6",
              .title = "Insight 6: a convolution as inner model brings back the neighbourhood",
              .lesson =
                  "A model of single tokens is global and blind to place. A convolution, trained on the same keys and values, is as global and "
                  "also mixes what lies side by side. The depthwise one costs next to nothing.",
              .column = "inner model"};
  study.rows = {{.name = "fc", .mixer = mixer("fc"), .paper = 79.1},
                {.name = "l2", .mixer = mixer("mlp_l2"), .paper = 78.9, .paper_cost = "23.5 M, 4.58 G"},
                {.name = "glu", .mixer = mixer("glu"), .paper = 79.7},
                {.name = "conv3x3", .mixer = mixer("conv3x3"), .paper = 79.9, .paper_cost = "25.5 M, 5.27 G"},
                {.name = "dwconv3x3", .mixer = mixer("dwconv3x3"), .paper = 80.1, .paper_cost = "22.9 M, 4.25 G"}};
  study.claims = {{"dwconv3x3", "glu"}, {"conv3x3", "glu"}, {"dwconv3x3", "fc"},     {"conv3x3", "fc"},
                  {"dwconv3x3", "l2"},  {"conv3x3", "l2"},  {"dwconv3x3", "conv3x3"}};
  study.mechanism = mechanism;
  study.remark = "The rows fc, l2 and glu are those of insight 5, for comparison.";
  return run_study(argc, argv, study);
}
