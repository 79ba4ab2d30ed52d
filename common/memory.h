#ifndef COTERIE_COMMON_MEMORY_H_
#define COTERIE_COMMON_MEMORY_H_

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/status.h"

namespace coterie {

// How much more memory this process can use before the system ends it, and what says so.
struct MemoryRoom {
  uint64_t bytes = 0;
  std::string limit;  // for people: "memory.max of cgroup /a/b (512 MB)"
};

// The least of: what the machine has available, and what the limits of this process's control group and of
// all that it is nested in leave (version 1 and 2; memory.high counts, too). Page cache counts as free: the
// kernel gives it up. Everything is read below `root`, for tests. Without any of these files: 2^63 bytes.
MemoryRoom AvailableMemory(const std::filesystem::path& root = "/");

// ResourceExhausted, naming `what`, both numbers and the limit, unless there is room for `bytes` more. The
// kernel would not refuse: it hands out addresses and ends the process when they are used.
Status CheckMemoryFor(uint64_t bytes, const std::string& what);

// "1.5 GB", "512 MB", "12 KB": rounded to the nearest, for messages.
std::string MemoryText(uint64_t bytes);

}  // namespace coterie

#endif  // COTERIE_COMMON_MEMORY_H_
