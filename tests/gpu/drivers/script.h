#ifndef COTERIE_TESTS_GPU_DRIVERS_SCRIPT_H_
#define COTERIE_TESTS_GPU_DRIVERS_SCRIPT_H_

#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

// What the stand-ins for the driver's libraries say: the file driver.txt beside the library, read anew at
// each call, so that a test can change it. See stand_in_driver.h for its lines. Only the standard library:
// this is loaded into processes that have their own of everything else.
namespace stand_in {

using Words = std::map<std::string, std::string>;

struct Script {
  Words all;                   // of the lines that are no device's
  std::vector<Words> devices;  // those that the driver shows and those that it hides

  static Script Read() {
    Script script;
    Dl_info info = {};
    if (::dladdr(reinterpret_cast<const void*>(&Script::Read), &info) == 0) return script;
    const std::string path = info.dli_fname;
    std::ifstream file(path.substr(0, path.rfind('/')) + "/driver.txt");
    for (std::string line; std::getline(file, line);) {
      std::istringstream stream(line);
      Words words;
      std::string first, word;
      stream >> first;
      while (stream >> word) {
        const size_t equals = word.find('=');
        if (equals != std::string::npos) words[word.substr(0, equals)] = word.substr(equals + 1);
      }
      if (first == "device") {
        script.devices.push_back(words);
      } else {
        script.all.insert(words.begin(), words.end());
      }
    }
    return script;
  }
};

inline std::string Text(const Words& words, const std::string& key, const std::string& otherwise) {
  const auto found = words.find(key);
  return found == words.end() ? otherwise : found->second;
}
inline int64_t Number(const Words& words, const std::string& key, int64_t otherwise) {
  const auto found = words.find(key);
  return found == words.end() ? otherwise : std::stoll(found->second);
}

inline void SleepMs(int64_t milliseconds) {
  if (milliseconds > 0) std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// Copies a text into a caller's buffer, cut to it.
inline void Copy(const std::string& text, char* to, size_t n_bytes) {
  if (n_bytes == 0) return;
  const size_t n = text.size() < n_bytes - 1 ? text.size() : n_bytes - 1;
  text.copy(to, n);
  to[n] = '\0';
}

}  // namespace stand_in

#endif  // COTERIE_TESTS_GPU_DRIVERS_SCRIPT_H_
