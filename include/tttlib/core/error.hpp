#pragma once
/// Errors, warnings and the module trail that both print.
/// Format: `ttt::<op>: <broken rule>: <values>[. Hint: <action>]`, then `  in <module path>`.
/// No formatting library here: CUDA sources include this file.

#include <cstdio>
#include <functional>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "tttlib/core/config.hpp"

namespace ttt {

/// Base of every exception of the library; `op()` is the public function that refused.
class Error : public std::runtime_error {
 public:
  Error(std::string op, const std::string& message) : std::runtime_error(message), op_(std::move(op)) {}
  const std::string& op() const { return op_; }

 private:
  std::string op_;
};
struct ShapeError : Error { using Error::Error; };
struct DTypeError : Error { using Error::Error; };
struct DeviceError : Error { using Error::Error; };
struct GradError : Error { using Error::Error; };
struct IoError : Error { using Error::Error; };

/// Concatenates anything that has `operator<<` or `to_string` into a string.
template <class... Parts>
TTT_COLD std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Path of the module or step that is running on this thread, e.g. "vit3.blocks.3.attn.inner_step"; null outside.
using Trail = std::shared_ptr<const std::string>;
inline Trail& current_trail() {
  thread_local Trail trail;
  return trail;
}

/// Called when another module or step begins to run on this thread, with the one before; null when nobody watches.
using TrailWatcher = std::function<void(const Trail& before)>;
inline TrailWatcher*& trail_watcher() {
  thread_local TrailWatcher* watcher = nullptr;
  return watcher;
}
inline void set_trail(Trail next) {
  if (trail_watcher()) (*trail_watcher())(current_trail());
  current_trail() = std::move(next);
}

/// Names a module or a step for as long as it lives; errors, anomaly reports and the graph dump print the path.
class Scope {
 public:
  explicit Scope(const std::string& name) : outer_(current_trail()) {
    set_trail(std::make_shared<const std::string>(outer_ ? *outer_ + "." + name : name));
  }
  ~Scope() { set_trail(std::move(outer_)); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Trail outer_;
};

/// Throws an `E` with the library's message format; `what` is "<broken rule>: <values that clash>".
template <class E>
[[noreturn]] TTT_COLD void fail(std::string_view op, const std::string& what, std::string_view hint = "") {
  std::string message = "ttt::" + std::string(op) + ": " + what;
  if (!hint.empty()) message += ". Hint: " + std::string(hint);
  if (current_trail()) message += "\n  in " + *current_trail();
  throw E(std::string(op), message);
}

/// `make()`, which takes memory by the standard library; Error where that has none left. `size` says for what.
template <class Make>
auto within_memory(const char* op, const std::string& size, const Make& make) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {
  }
  fail<Error>(op, "out of memory: " + size);
}

/// The function that receives warnings; assign to it to redirect or silence them. Default: one line on stderr.
inline std::function<void(const std::string&)>& warning_handler() {
  static std::function<void(const std::string&)> handler = [](const std::string& message) {
    std::fprintf(stderr, "ttt: warning: %s\n", message.c_str());
  };
  return handler;
}

/// Reports something the caller should know that is not an error.
inline void warn(const std::string& message) { warning_handler()(message); }

}  // namespace ttt
