#ifndef COTERIE_TESTS_COMM_BACKENDS_H_
#define COTERIE_TESTS_COMM_BACKENDS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/comm/communicator.h"
#include "kernels/comm/in_process_rendezvous.h"
#include "tests/comm/buffer.h"

namespace coterie::comm_testing {

inline constexpr absl::Duration kLong = absl::Seconds(120);  // a deadline that is never reached

// One kind of communicator, as the tests need it: members of a group are threads of this process.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual StatusOr<std::unique_ptr<Communicator>> Join(const CommunicatorOptions& options) = 0;
  // What a call may work on, freed with the last reference.
  virtual std::shared_ptr<Buffer> Allocate(size_t n_bytes) { return AllocateOnHost(n_bytes); }
  Allocator allocator() {
    return [this](size_t n_bytes) { return Allocate(n_bytes); };
  }
  // For calls of one member; streams are made once per member and kept.
  virtual CallOptions Call(int rank, absl::Duration timeout) { return {.timeout = timeout}; }
  // What was done wrong with the backend so far, in words; "" where nothing was.
  virtual std::string Misuse() { return ""; }

  InProcessRendezvous& rendezvous() { return *rendezvous_; }

 protected:
  std::shared_ptr<InProcessRendezvous> rendezvous_ = std::make_shared<InProcessRendezvous>();
};

// "in_process", "gloo" and "nccl" (over the stand-in); with an emulated GPU also "gloo_staged", on its
// memory.
std::vector<std::string> BackendNames();

// One of these. None where the build found no Gloo: skip the test.
std::unique_ptr<Backend> MakeBackend(const std::string& name);

// "m0", "m1", ...
std::vector<std::string> Names(int n_members);
CommunicatorOptions Member(const std::string& group, uint64_t epoch, int rank, int n_members);

// Calls member(rank) for each on a thread of its own; returns when all have.
void OnThreads(int n_members, const std::function<void(int rank)>& member);

// Forms a group; every member's place holds its communicator. Fails the test where one has none.
std::vector<std::unique_ptr<Communicator>> Form(Backend* backend, const std::string& group, uint64_t epoch,
                                                int n_members);

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_BACKENDS_H_
