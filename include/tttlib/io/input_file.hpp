#pragma once
/// A file opened for reading, with errors that name the path and the system's reason.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tttlib/core/error.hpp"

namespace ttt {

/// A regular file opened for reading. `op` is the public function that error messages name.
class InputFile {
 public:
  /// Throws IoError if the path cannot be opened or is not a regular file.
  InputFile(std::string op, std::string path) : op_(std::move(op)), path_(std::move(path)) {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail<IoError>(op_, "cannot open: " + path_ + ": " + reason(errno));
    struct stat info {};
    if (::fstat(descriptor_, &info) == 0 && S_ISREG(info.st_mode)) {
      size_ = static_cast<std::uint64_t>(info.st_size);
      return;
    }
    ::close(descriptor_);
    fail<IoError>(op_, "not a regular file: " + path_);
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& op() const { return op_; }
  const std::string& path() const { return path_; }
  /// Bytes in the file when it was opened.
  std::uint64_t size() const { return size_; }

  /// Reads exactly `bytes` bytes from `offset` on; several threads may do so at once.
  /// Throws IoError if the file ends earlier or cannot be read.
  void read(std::uint64_t offset, void* out, std::uint64_t bytes) const {
    auto* to = static_cast<unsigned char*>(out);
    for (std::uint64_t done = 0; done < bytes;) {
      const ssize_t n = ::pread(descriptor_, to + done, bytes - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail<IoError>(op_, "cannot read: " + path_ + ": " + reason(errno));
      if (n == 0)
        fail<IoError>(op_, concat("file ended early: ", path_, ", wanted ", bytes, " bytes from byte ",
                                  offset, " on, got ", done));
      done += static_cast<std::uint64_t>(n);
    }
  }

  /// The whole file.
  std::vector<unsigned char> read_all() const {
    std::vector<unsigned char> bytes(size_);
    read(0, bytes.data(), bytes.size());
    return bytes;
  }

 private:
  static std::string reason(int error) { return std::generic_category().message(error); }

  std::string op_, path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace ttt
