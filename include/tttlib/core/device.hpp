#pragma once
/// Where a tensor's storage lives.

#include <optional>
#include <ostream>
#include <string>

namespace ttt {

struct Device {
  enum class Kind : unsigned char { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;
  bool is_cpu() const { return kind == Kind::cpu; }
  friend bool operator==(Device a, Device b) { return a.kind == b.kind && a.index == b.index; }
  friend bool operator!=(Device a, Device b) { return !(a == b); }
};

inline Device cpu() { return {}; }
inline Device cuda(int index = 0) { return {Device::Kind::cuda, index}; }

inline std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index);
}
/// The device of such a name, "cuda" being cuda:0; nothing for any other text.
inline std::optional<Device> to_device(const std::string& name) {
  if (name == "cpu") return cpu();
  if (name == "cuda") return cuda();
  const std::string index = name.rfind("cuda:", 0) == 0 ? name.substr(5) : "";
  if (index.empty() || index.size() > 2 || index.find_first_not_of("0123456789") != index.npos) return {};
  return cuda(std::stoi(index));
}
inline std::ostream& operator<<(std::ostream& out, Device device) { return out << to_string(device); }

}  // namespace ttt
