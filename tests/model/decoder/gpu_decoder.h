#ifndef COTERIE_TESTS_MODEL_DECODER_GPU_DECODER_H_
#define COTERIE_TESTS_MODEL_DECODER_GPU_DECODER_H_

#include <bit>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "tests/model/decoder/sequences.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"

namespace coterie::testing {

// A tiny base on a GPU with an adapter in each of its first slots.
struct GpuDecoder {
  std::unique_ptr<Decoder> decoder;
  std::vector<std::unique_ptr<LoadedAdapter>> adapters;
  std::shared_ptr<std::vector<std::string>> log = std::make_shared<std::vector<std::string>>();

  AdapterSlots& slots() { return decoder->adapter_slots(); }
};

inline const std::vector<std::string>& GpuDecoderAdapters() {
  static const auto* const names = new std::vector<std::string>{
      "llama-all-linear", "llama-qv", "llama-top-layers", "llama-patterns", "llama-rslora"};
  return *names;
}

inline StatusOr<std::unique_ptr<LoadedAdapter>> LoadTinyAdapter(Decoder* decoder, const std::string& name) {
  return decoder->LoadAdapter(SourceRoot() / "tests/data/tiny-adapters" / name);
}

inline StatusOr<GpuDecoder> LoadGpuDecoder(int max_seqs, bool graphs = true) {
  static const ModelFiles& files =
      *ModelFiles::Open(SourceRoot() / "tests/data/tiny-llama").value().release();
  GpuDecoder gpu_decoder;
  CudaBackendOptions gpu;
  gpu.log = [log = gpu_decoder.log](std::string_view words) { log->emplace_back(words); };
  gpu.adapter_bytes = size_t{4} << 20;
  gpu.graphs = graphs;
  ASSIGN_OR_RETURN(std::unique_ptr<DecoderOps> ops, CreateCudaDecoderOps(gpu));
  DecoderOptions options;
  options.n_kv_blocks = 6 * max_seqs;
  options.max_batch_tokens = std::max(64, 4 * max_seqs);
  options.max_seqs = max_seqs;
  options.n_adapter_slots = 6;
  options.max_adapters_per_seq = 2;
  ASSIGN_OR_RETURN(gpu_decoder.decoder, Decoder::Create(files, std::move(ops), options));
  for (const std::string& name : GpuDecoderAdapters()) {
    ASSIGN_OR_RETURN(std::unique_ptr<LoadedAdapter> adapter,
                     LoadTinyAdapter(gpu_decoder.decoder.get(), name));
    const auto slot = static_cast<int>(gpu_decoder.adapters.size());
    FillAndWait(&gpu_decoder.slots(), slot, adapter->packed);
    RETURN_IF_ERROR(gpu_decoder.slots().Error(slot));
    gpu_decoder.adapters.push_back(std::move(adapter));
  }
  return gpu_decoder;
}

// One step of the next `n` tokens of each sequence, or, for 0, of all it has left; the bits of the logits of
// their last ones.
inline StatusOr<std::vector<uint32_t>> LastLogits(GpuDecoder* gpu,
                                                  const std::vector<TestSequence*>& sequences, int n) {
  Batch batch;
  batch.Clear();
  for (TestSequence* s : sequences) {
    AddToBatch(s, n > 0 ? n : static_cast<int>(s->tokens.size()) - s->n_done, LogitRows::kLast, &batch);
  }
  ASSIGN_OR_RETURN(const std::span<const float> logits, RunForLogits(gpu->decoder.get(), &batch));
  std::vector<uint32_t> bits;
  for (const float logit : logits) bits.push_back(std::bit_cast<uint32_t>(logit));
  return bits;
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_DECODER_GPU_DECODER_H_
