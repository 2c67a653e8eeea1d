// Spoils a safetensors file for a test:
//   edit_safetensors IN OUT [drop PREFIX | set NAME INDEX VALUE | metadata KEY OLD NEW]…
// `drop` leaves out tensors whose names start with PREFIX, `set` changes one number of an F32 or F64 tensor, `metadata`
// replaces the first OLD in the text of KEY.
#include <cstdio>
#include <cstring>

#include "tttlib/core/error.hpp"
#include "tttlib/io/safetensors.hpp"

using namespace ttt;

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const SafetensorsFile file = load_safetensors_file(words.at(0));
    Metadata metadata = file.metadata();
    std::vector<SafetensorsEntry> entries = file.entries();
    std::map<std::string, std::vector<std::uint8_t>> bytes;
    for (const auto& entry : entries) bytes[entry.name] = file.bytes(entry.name);
    for (std::size_t i = 2; i < words.size();) {
      if (words[i] == "drop") {
        const std::size_t before = entries.size();
        std::erase_if(entries, [&](const SafetensorsEntry& e) { return e.name.rfind(words.at(i + 1), 0) == 0; });
        if (entries.size() == before) fail<Error>("edit_safetensors", "nothing to drop: " + words[i + 1]);
        i += 2;
      } else if (words[i] == "set") {
        const bool is_double = file.dtype(words.at(i + 1)) == "F64";
        const std::size_t at = std::stoul(words.at(i + 2)) * (is_double ? 8 : 4);
        const double value = std::stod(words.at(i + 3));
        const float narrow = static_cast<float>(value);
        if (at >= bytes.at(words[i + 1]).size()) fail<Error>("edit_safetensors", "no such element: " + words[i + 2]);
        if (is_double) std::memcpy(bytes[words[i + 1]].data() + at, &value, 8);
        else std::memcpy(bytes[words[i + 1]].data() + at, &narrow, 4);
        i += 4;
      } else if (words[i] == "metadata") {
        std::string& text = metadata.at(words.at(i + 1));
        const std::size_t at = text.find(words.at(i + 2));
        if (at == std::string::npos) fail<Error>("edit_safetensors", "nothing to replace: " + words[i + 2]);
        text.replace(at, words[i + 2].size(), words.at(i + 3));
        i += 4;
      } else {
        fail<Error>("edit_safetensors", "unknown edit: " + words[i]);
      }
    }
    std::vector<SafetensorsItem> items;
    for (const auto& entry : entries) items.push_back({entry.name, entry.dtype, entry.shape, bytes.at(entry.name).data()});
    save_safetensors_bytes(words.at(1), items, metadata);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
