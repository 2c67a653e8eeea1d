#pragma once
/// Progress on a terminal: one line that rewrites itself; plain lines when the output is not a terminal.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

namespace ttt {

/// "1:02:03", "4:05" or "12 s".
inline std::string duration_string(double seconds) {
  const long total = static_cast<long>(seconds + 0.5);
  char text[32];
  if (total >= 3600) std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
  else if (total >= 60) std::snprintf(text, sizeof text, "%ld:%02ld", total / 60, total % 60);
  else std::snprintf(text, sizeof text, "%ld s", total);
  return text;
}

/// What a progress line shows besides the share done.
struct ProgressNumbers {
  double loss = 0, lr = 0, images_per_second = 0, seconds_left = 0;
};

class ProgressBar {
 public:
  explicit ProgressBar(std::FILE* out = stdout) : out_(out), terminal_(isatty(fileno(out)) != 0) {}

  /// Redraws at most ten times a second; on a plain output writes nothing.
  void update(const std::string& title, std::int64_t done, std::int64_t total, const ProgressNumbers& numbers) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || (done < total && now - drawn_ < std::chrono::milliseconds(100))) return;
    drawn_ = now;
    constexpr int width = 24;
    const int filled = total > 0 ? static_cast<int>(done * width / total) : width;
    std::string bar;
    for (int i = 0; i < width; ++i) bar += i < filled ? "█" : "░";
    std::fprintf(out_, "\r\033[K%s %s %3ld %%  loss %.4f  lr %.2e  %.0f images/s  %s left", title.c_str(), bar.c_str(),
                 total > 0 ? static_cast<long>(100 * done / total) : 100L, numbers.loss, numbers.lr,
                 numbers.images_per_second, duration_string(numbers.seconds_left).c_str());
    std::fflush(out_);
    open_ = true;
  }

  /// Replaces the bar by a line that stays.
  void line(const std::string& text) {
    if (open_) std::fprintf(out_, "\r\033[K");
    open_ = false;
    std::fprintf(out_, "%s\n", text.c_str());
    std::fflush(out_);
  }

 private:
  std::FILE* out_;
  bool terminal_, open_ = false;
  std::chrono::steady_clock::time_point drawn_{};
};

}  // namespace ttt
