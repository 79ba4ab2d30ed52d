#ifndef COTERIE_COMMON_MAPPING_GUARD_H_
#define COTERIE_COMMON_MAPPING_GUARD_H_

#include <cstddef>

namespace coterie {

// Keeps a process alive when a file that it has mapped is truncated, or its disk fails. The kernel raises
// SIGBUS for a page that is not there any more, whose default is death. While mappings are guarded, a handler
// of ours puts zeros in place of the rest of such a mapping and notes it; faults anywhere else go where they
// went before. Whoever reads a mapping asks afterwards whether it was whole. Thread-safe.

inline constexpr int kMaxGuardedMappings = 1024;

// Begins to guard a mapping of `n_bytes` at `data` (as mmap returned it), and returns its number; -1 when
// kMaxGuardedMappings are guarded already.
int GuardMapping(const void* data, size_t n_bytes);
// False once a part of the mapping was not there.
bool MappingIsWhole(int guard);
// Before the mapping is unmapped.
void UnguardMapping(int guard);

}  // namespace coterie

#endif  // COTERIE_COMMON_MAPPING_GUARD_H_
