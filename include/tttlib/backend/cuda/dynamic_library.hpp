#pragma once
/// Libraries of CUDA, loaded when they are first needed: a program starts without them, and where they are not installed.

#include <dlfcn.h>

#include <string>
#include <vector>

#include "tttlib/core/error.hpp"

namespace ttt::cuda_backend {

/// Folder of the toolkit's libraries that tttlib::cuda was built with, looked into last; empty: none (src/cuda/registration.cpp).
inline std::string& toolkit_folder() {
  static std::string folder;
  return folder;
}

/// A shared library that is never closed: what it keeps may be in use until the program ends.
class DynamicLibrary {
 public:
  /// Loads the first of `files` that the system finds, or that is in `toolkit_folder()`. Throws DeviceError if there is none.
  DynamicLibrary(const char* op, const char* name, const std::vector<std::string>& files) : op_(op), name_(name) {
    std::vector<std::string> places = files;
    if (!toolkit_folder().empty())
      for (const std::string& file : files) places.push_back(toolkit_folder() + "/" + file);
    std::string first_error;
    for (const std::string& place : places) {
      handle_ = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle_) return;
      if (const char* error = dlerror(); error && first_error.empty()) first_error = error;
    }
    fail<DeviceError>(op, concat(name, " cannot be loaded: ", first_error),
                      concat("install it, or put the folder of ", files.front(), " into LD_LIBRARY_PATH"));
  }

  /// A function, for a pointer of whatever type the caller says it has.
  class Symbol {
   public:
    explicit Symbol(void* address) : address_(address) {}
    template <class Function>
    operator Function*() const {  // NOLINT: implicit on purpose
      return reinterpret_cast<Function*>(address_);
    }

   private:
    void* address_;
  };
  /// Throws DeviceError if the library has no such function.
  Symbol operator[](const char* function) const {
    void* address = dlsym(handle_, function);
    if (!address) fail<DeviceError>(op_, concat(name_, " has no function ", function), "it is older than the one this program was built with");
    return Symbol(address);
  }

 private:
  const char* op_;
  const char* name_;
  void* handle_ = nullptr;
};

}  // namespace ttt::cuda_backend
