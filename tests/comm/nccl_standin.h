#ifndef COTERIE_TESTS_COMM_NCCL_STANDIN_H_
#define COTERIE_TESTS_COMM_NCCL_STANDIN_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/comm/nccl_abi.h"
#include "tests/comm/buffer.h"

// A stand-in for NCCL's C interface among the threads of one process. Collectives run where their stream has
// come to them, over the in-process communicator. It is not kind: what may take time does, an abort returns
// before the stream's kernel has ended, members that do different things hang, and a lost member now hangs
// the others and now is a remote error. And it watches: what is done wrong with it, it remembers.
//
// Streams, events and memory are those of a device with a thread for each stream (standin_device.cc), or of
// the emulated GPU where the build has it (emulated_device.cc).
namespace coterie::comm_testing {

nccl::Calls StandInCalls();

// Memory that calls may work on. Freed with the last reference; a call that is under way then is misuse.
std::shared_ptr<Buffer> AllocateOnStandIn(size_t n_bytes);

nccl::Stream CreateStream();
// When all that stands in it is done.
void DestroyStream(nccl::Stream stream);
void RunOnStream(nccl::Stream stream, std::function<void()> kernel);
// A moment in which streams may go on: those of the emulated GPU do when somebody asks them.
void LetStreamsRun();

// What was done wrong since the last time, a line each, and communicators that are still there if
// `all_should_be_gone`.
std::string TakeMisuse(bool all_should_be_gone);

// The next call of any communicator of this thread fails so, by its asynchronous error. Once.
void FailNext(nccl::Result result);
// What this thread takes NCCL's version to be.
void SetVersion(int version);

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_NCCL_STANDIN_H_
