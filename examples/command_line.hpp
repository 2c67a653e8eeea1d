#pragma once
// What the programs share: options that say what they take, and one place where everything that can go wrong ends as
// one line on stderr and exit code 1.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "tttlib/backend/cuda.hpp"
#include "tttlib/backend/precision.hpp"
#include "tttlib/core/error.hpp"

namespace program {

/// Takes whole numbers from `low` to `high`. Stricter than CLI11's own checks: what it cannot hold would wrap.
inline CLI::Validator whole(std::int64_t low, std::int64_t high = std::numeric_limits<std::int64_t>::max()) {
  const bool open = high == std::numeric_limits<std::int64_t>::max();
  const std::string range = open ? ttt::concat(low, " or more") : ttt::concat("from ", low, " to ", high);
  return CLI::Validator(
      [=](const std::string& text) {
        std::int64_t value = 0;
        const char* end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, value);
        if (error == std::errc::result_out_of_range && open && stop == end) return "is too large: " + text;
        return error == std::errc() && stop == end && value >= low && value <= high ? "" : "must be a whole number, " + range + ": " + text;
      },
      range);
}

/// Takes finite numbers from `low` to `high`, the ends included.
inline CLI::Validator number(double low, double high = std::numeric_limits<double>::max()) {
  const bool open = high == std::numeric_limits<double>::max();
  const std::string range = open ? ttt::concat(low, " or more") : ttt::concat("from ", low, " to ", high);
  return CLI::Validator(
      [=](const std::string& text) {
        char* stop = nullptr;
        const double value = std::strtod(text.c_str(), &stop);
        return !text.empty() && *stop == '\0' && value >= low && value <= high ? "" : "must be a number, " + range + ": " + text;
      },
      range);
}
/// Takes finite numbers above zero.
inline CLI::Validator positive() {
  return CLI::Validator(
      [](const std::string& text) {
        char* stop = nullptr;
        const double value = std::strtod(text.c_str(), &stop);
        return !text.empty() && *stop == '\0' && value > 0 && std::isfinite(value) ? "" : "must be a number above 0: " + text;
      },
      "above 0");
}

/// --dtype: what the operands of matrix products are rounded to. Takes effect as it is read.
inline CLI::Option* add_dtype(CLI::App& app) {
  const auto choose = [](const std::string& name) {
    ttt::set_matmul_precision(name == "bf16" ? ttt::MatmulPrecision::bfloat16 : ttt::MatmulPrecision::float32);
  };
  return app.add_option_function<std::string>("--dtype", choose, "Operands of matrix products; weights, sums and the inner step are always float32")
      ->check(CLI::IsMember({"float32", "bf16"}))
      ->default_str("float32");
}

/// --device: where the program computes, cpu unless it says otherwise. A device that this program cannot use ends it, with
/// the reason.
inline CLI::Option* add_device(CLI::App& app, ttt::Device& device, const std::string& what = "Where to compute") {
  const CLI::Validator named([](const std::string& name) { return ttt::to_device(name) ? "" : "must be cpu, cuda or cuda:N: " + name; },
                             "cpu, cuda or cuda:N");
  const auto choose = [&device](const std::string& name) {
    device = ttt::to_device(name).value();
    ttt::require_device("cuda", device);
  };
  return app.add_option_function<std::string>("--device", choose, what)->check(named)->default_str("cpu");
}

/// --device for a program that can use several: their names with commas between.
inline CLI::Option* add_devices(CLI::App& app, std::vector<ttt::Device>& devices, const std::string& what) {
  const auto choose = [&devices](const std::string& names) {
    devices.clear();
    for (std::size_t begin = 0; begin <= names.size();) {
      const std::size_t end = std::min(names.find(',', begin), names.size());
      const auto device = ttt::to_device(names.substr(begin, end - begin));
      if (!device) throw CLI::ValidationError("--device", "must be cpu, cuda or cuda:N, or several with commas between: " + names);
      ttt::require_device("cuda", *device);
      devices.push_back(*device);
      begin = end + 1;
    }
  };
  return app.add_option_function<std::string>("--device", choose, what)->type_name("cpu, cuda or cuda:N")->default_str("cpu");
}
/// "cuda:0 (NAME), cuda:1 (NAME)".
inline std::string describe(const std::vector<ttt::Device>& devices) {
  std::string text;
  for (const ttt::Device device : devices) text += (text.empty() ? "" : ", ") + ttt::describe(device);
  return text;
}

/// One line on stderr, whatever line breaks the message has; 1, the exit code.
inline int report(std::string message) {
  for (std::size_t at; (at = message.find('\n')) != std::string::npos;)
    message.replace(at, std::max<std::size_t>(message.find_first_not_of("\n ", at), at + 1) - at, " ");
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", message.c_str());
  return 1;
}

/// Reads the command line and runs `body`, which returns the exit code.
template <class Body>
int run(CLI::App& app, int argc, char** argv, const Body& body) {
  int code = 0;
  try {
    app.parse(argc, argv);
    code = body();
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
  } catch (const CLI::ParseError& e) {
    return report(ttt::concat("ttt::", app.get_name(), ": ", e.what(), ". Hint: --help lists the options"));
  } catch (const std::bad_alloc&) {
    return report(ttt::concat("ttt::", app.get_name(), ": not enough memory. Hint: smaller images, fewer of them, or a smaller model"));
  } catch (const std::exception& e) {
    return report(e.what());
  }
  // A full disk or a closed pipe behind the standard output shows only now.
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) return report(ttt::concat("ttt::", app.get_name(), ": cannot write to the standard output"));
  return code;
}

}  // namespace program
