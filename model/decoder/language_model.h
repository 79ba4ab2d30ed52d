#ifndef COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_
#define COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "kernels/decoder_ops.h"

namespace coterie {

struct LanguageModelInfo {
  int vocab_size = 0;
  int context_length = 0;  // most positions a sequence may have
  int n_kv_blocks = 0;     // blocks of kKvBlockTokens tokens this model was given room for
  size_t weight_bytes = 0;
  int n_rounded_matrices = 0;  // of floats in the files, rounded when they were loaded
  size_t kv_bytes = 0;
  std::vector<int32_t> eos_token_ids;
  int steps_in_flight = 1;       // 1 or 2: how many may be launched and not collected
  int n_seats = 0;               // RowSampling::seat is below this
  Digest base_digest;            // configuration and weights of the frozen base
  std::string numerics_class;    // equal classes give equal bits
  bool batch_invariant = false;  // see Device
  std::vector<GateKind> gates;   // that sequences may have
  std::string device_name;       // for people
};

// An adapter ready for use in steps, with what keeps its memory alive. Immutable.
struct LoadedAdapter {
  Digest digest;
  std::shared_ptr<const PackedAdapter> packed;
  int first_layer = 0;  // lowest layer it changes: KV below it is the base's
  size_t bytes = 0;
  bool from_packed = false;  // copied from a packed file rather than read, checked and packed
  // Writes the packed file for the next cold load; null where there is nothing to write. Slow: the thread
  // that loaded the adapter calls it once the adapter was handed on. It needs nothing else of this struct.
  std::function<void()> keep;
};

// A launched step. Steps are numbered from 1 in the order of their launch.
using StepTicket = uint64_t;

// What the engine runs: tokens in, tokens out. Decoder is one; FakeModel, whose next token is a hash of
// adapter, position and token, lets the whole cluster be tested without arithmetic. One thread calls Launch
// and Collect; others may call LoadAdapter at the same time.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const LanguageModelInfo& info() const = 0;

  // Reads, checks and packs the adapter in `folder` (PEFT format). Where the folder is named by the digest of
  // the adapter, as in a store, may copy its packed file instead. Slow: never on the thread of the steps.
  // FailedPrecondition naming the field when it does not fit this base.
  virtual StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) = 0;

  // The slots from which steps read adapters.
  virtual AdapterSlots& adapter_slots() = 0;

  // Starts a step: writes the KV of its tokens and samples its logit rows. Where the device works by itself,
  // returns before the step is computed. The batch may be changed afterwards; the slots it names must not,
  // until the step was collected. Steps are computed in the order of their launch; at most
  // info().steps_in_flight of them may be launched and not collected. InvalidArgument, and nothing launched,
  // where the batch exceeds the limits of the model; Unavailable when the device was lost.
  virtual StatusOr<StepTicket> Launch(const Batch& batch) = 0;
  // Waits for the oldest step that was not collected yet; `ticket` is its ticket. The result belongs to the
  // model and is valid until the next Launch. After an error the step has no results. Unavailable says that
  // the device was lost: nothing else is asked of the model then, not even the steps still in flight.
  virtual StatusOr<StepResult> Collect(StepTicket ticket) = 0;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_DECODER_LANGUAGE_MODEL_H_
