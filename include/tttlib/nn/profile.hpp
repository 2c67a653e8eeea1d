#pragma once
/// Where the time goes, module by module: forward, and in the sweep back.
///
///   Profile profile;
///   { const ProfileGuard watch(profile); loss(model(x)).backward(); }
///   std::printf("%s", to_string(profile).c_str());
///   write_file_atomically("trace.json", chrome_trace(profile));     // chrome://tracing, ui.perfetto.dev

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "tttlib/autograd/node.hpp"
#include "tttlib/backend/cuda.hpp"

namespace ttt {

/// What this thread ran, in order: while `path` ran without changing, forward or inside of a sweep.
struct ProfileSpan {
  Trail path;
  bool sweep = false;
  double start = 0, end = 0;  // seconds since the profile began
};
struct Profile {
  std::vector<ProfileSpan> spans;
};

/// Writes down every module and `Scope` of this thread as long as it lives. With the GPU that they run on as `device`, it
/// waits for each, so that the times are those of the kernels and not of asking for them.
class ProfileGuard {
 public:
  explicit ProfileGuard(Profile& profile, Device device = {})
      : profile_(profile), device_(device), outer_(std::exchange(trail_watcher(), &watch_)) {}
  ~ProfileGuard() {
    note(current_trail());
    trail_watcher() = outer_;
  }
  ProfileGuard(const ProfileGuard&) = delete;
  ProfileGuard& operator=(const ProfileGuard&) = delete;

 private:
  void note(const Trail& before) {
    try {
      synchronize(device_);
    } catch (const Error&) {  // the op that comes next will say it; here a destructor may be calling
    }
    const double now = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    profile_.spans.push_back({before, in_sweep(), last_, now});
    last_ = now;
  }

  Profile& profile_;
  const Device device_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  double last_ = 0;
  TrailWatcher watch_ = [this](const Trail& before) { note(before); };
  TrailWatcher* outer_;
};

namespace detail {
/// "model.blocks.3.attn" -> its names from the outermost on; time outside of all modules is "(other)".
inline std::vector<std::string> trail_parts(const Trail& trail) {
  if (!trail) return {"(other)"};
  std::vector<std::string> parts(1);
  for (const char c : *trail)
    if (c == '.') parts.emplace_back();
    else parts.back() += c;
  return parts;
}

struct ProfileTree {
  std::string name;
  double forward = 0, sweep = 0;  // with everything inside
  std::vector<ProfileTree> inside = {};

  ProfileTree& at(const std::string& part) {
    for (ProfileTree& child : inside)
      if (child.name == part) return child;
    inside.push_back({part});
    return inside.back();
  }
  void add(const std::vector<std::string>& parts, bool in_sweep, double seconds, std::size_t depth = 0) {
    (in_sweep ? sweep : forward) += seconds;
    if (depth < parts.size()) at(parts[depth]).add(parts, in_sweep, seconds, depth + 1);
  }
  void print(std::string& text, double total, int depth, int max_depth) const {
    const double all = forward + sweep;
    text += fmt::format("{:<44}{:>12.2f}{:>12.2f}{:>8.1f}\n", std::string(static_cast<std::size_t>(2 * depth), ' ') + name, 1e3 * forward, 1e3 * sweep,
                        100 * all / total);
    if (depth < max_depth)
      for (const ProfileTree& child : inside) child.print(text, total, depth + 1, max_depth);
  }
};
}  // namespace detail

/// A tree of modules with milliseconds forward and backward and their share of all, down to `max_depth` levels. Blocks of
/// one kind, named by numbers, are added up.
inline std::string to_string(const Profile& profile, int max_depth = 5) {
  detail::ProfileTree all{"all"};
  for (const ProfileSpan& span : profile.spans) {
    std::vector<std::string> parts = detail::trail_parts(span.path);
    for (std::string& part : parts)
      if (!part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; })) part = "*";
    all.add(parts, span.sweep, span.end - span.start);
  }
  std::string text = fmt::format("{:<44}{:>12}{:>12}{:>8}\n", "module", "forward, ms", "back, ms", "%");
  all.print(text, all.forward + all.sweep, 0, max_depth);
  return text;
}

/// The same as a timeline for chrome://tracing or ui.perfetto.dev (the trace event format, JSON).
inline std::string chrome_trace(const Profile& profile) {
  std::string text = "[";
  std::vector<std::string> open;
  const auto event = [&](char phase, std::string name, double at) {
    for (char& c : name)
      if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' ') c = '_';
    text += fmt::format("{}{{\"name\":\"{}\",\"ph\":\"{}\",\"ts\":{:.3f},\"pid\":0,\"tid\":0}}", text.size() > 1 ? ",\n" : "", name, phase, 1e6 * at);
  };
  for (const ProfileSpan& span : profile.spans) {
    std::vector<std::string> parts = detail::trail_parts(span.path);
    parts.insert(parts.begin(), span.sweep ? "backward" : "forward");
    std::size_t same = 0;
    while (same < std::min(open.size(), parts.size()) && open[same] == parts[same]) ++same;
    for (; open.size() > same; open.pop_back()) event('E', open.back(), span.start);
    for (; open.size() < parts.size(); open.push_back(parts[open.size()])) event('B', parts[open.size()], span.start);
  }
  for (; !open.empty(); open.pop_back()) event('E', open.back(), profile.spans.back().end);
  return text + "]\n";
}

}  // namespace ttt
