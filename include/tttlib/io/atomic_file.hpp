#pragma once
/// Files that are replaced as a whole or not at all.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "tttlib/core/error.hpp"

namespace ttt {

namespace detail {

/// Holds back SIGXFSZ on this thread, so that writing past `ulimit -f` fails with EFBIG instead of ending the
/// process.
class FileSizeSignalBlock {
 public:
  FileSizeSignalBlock() : was_pending_(is_pending()) {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal_, &old_mask_);
  }
  ~FileSizeSignalBlock() {
    int taken = 0;
    if (!was_pending_ && is_pending()) sigwait(&signal_, &taken);
    pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
  }
  FileSizeSignalBlock(const FileSizeSignalBlock&) = delete;
  FileSizeSignalBlock& operator=(const FileSizeSignalBlock&) = delete;

 private:
  static bool is_pending() {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGXFSZ) == 1;
  }
  bool was_pending_;
  sigset_t signal_, old_mask_;
};

}  // namespace detail

/// Writes to a temporary file beside `path`, which `commit` flushes to disk and renames to `path`. Until
/// then, and on any failure, the old file stays as it is and the temporary one is removed. A link stays a link to the file, and
/// what is no file, like /dev/stdout, is written to as it is. `op` is the function that errors name.
class AtomicFile {
 public:
  /// Throws IoError if the folder is missing or not writable.
  AtomicFile(std::string op, std::string path) : op_(std::move(op)), path_(std::move(path)) {
    std::error_code error;
    const auto kind = std::filesystem::status(path_, error).type();
    const auto is_below = [this](const char* folder) { return path_.rfind(folder, 0) == 0; };
    const bool is_open_already = is_below("/dev/std") || is_below("/dev/fd/") || is_below("/proc/");  // maybe redirected to a file
    if (kind == std::filesystem::file_type::regular && !is_open_already) {
      const std::filesystem::path file = std::filesystem::canonical(path_, error);
      if (!error) path_ = file.string();
    } else if (kind != std::filesystem::file_type::not_found && kind != std::filesystem::file_type::directory &&
               kind != std::filesystem::file_type::none) {
      descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
      if (descriptor_ < 0) refuse("cannot open");
      return;
    }
    static std::atomic<unsigned> counter{0};
    do {
      temporary_ = concat(path_, ".tmp", ::getpid(), "-", counter++);
      descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) refuse("cannot create");
  }
  ~AtomicFile() { discard(); }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes. Throws IoError, for example when the disk is full.
  void write(const void* data, std::size_t bytes) {
    const detail::FileSizeSignalBlock block;
    const char* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::write(descriptor_, from, bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) refuse("cannot write");
      from += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }

  /// Puts the finished file in place of the old one. Throws IoError.
  void commit() {
    const bool in_place = temporary_.empty();
    if (!in_place && ::fsync(descriptor_) != 0) refuse("cannot write");
    if (::close(std::exchange(descriptor_, -1)) != 0) refuse("cannot write");
    if (in_place) return;
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) refuse("cannot replace");
    temporary_.clear();
    sync_folder();
  }

 private:
  [[noreturn]] void refuse(const char* what) {
    const std::string reason = std::generic_category().message(errno);
    discard();
    fail<IoError>(op_, concat(what, ": ", path_, ": ", reason));
  }

  void discard() {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    if (!temporary_.empty()) ::unlink(std::exchange(temporary_, "").c_str());
  }

  /// Makes the rename survive a power cut. Some file systems refuse; the file is complete either way.
  void sync_folder() const {
    const std::size_t slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return;
    ::fsync(descriptor);
    ::close(descriptor);
  }

  std::string op_, path_, temporary_;
  int descriptor_ = -1;
};

/// Replaces the file `path` by `bytes`, as a whole or not at all. Throws IoError naming path and reason.
inline void write_file_atomically(const std::string& path, std::string_view bytes,
                                  const std::string& op = "write_file_atomically") {
  AtomicFile file(op, path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

}  // namespace ttt
