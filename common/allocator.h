#ifndef COTERIE_COMMON_ALLOCATOR_H_
#define COTERIE_COMMON_ALLOCATOR_H_

namespace coterie {

// Keeps what a server frees from staying with it. Call it first thing in main, before any thread starts.
//
// glibc gives every few threads an arena of their own, up to eight per core, and never gives back what lies
// below the last block in use of each: a gateway that served 3,600 publications one after the other, each on
// another thread of gRPC, had grown to 1.3 GB, five times what its neighbour needed for the same experts.
//  - at most two arenas: threads share, and what one frees the next one uses;
//  - blocks from 256 KiB on are mapped by themselves and unmapped when freed. By default that limit rises to
//    32 MiB with the first large block that is freed, and then they fragment the arenas as well.
void BoundAllocator();

// Hands free pages of all arenas back to the kernel. Milliseconds per 100 MB in use: after work that
// allocated much, not in the course of serving.
void ReturnFreeMemory();

}  // namespace coterie

#endif  // COTERIE_COMMON_ALLOCATOR_H_
