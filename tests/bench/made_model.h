#ifndef COTERIE_TESTS_BENCH_MADE_MODEL_H_
#define COTERIE_TESTS_BENCH_MADE_MODEL_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/status.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/dtype.h"
#include "model/format/model_config.h"
#include "model/format/model_files.h"

namespace coterie::bench {

// Shapes of bases that people serve: "135m" (SmolLM2), "1b" (Llama 3.2), "8b" and "70b" (Llama 3), and
// "tiny", which an emulated GPU computes in a moment. Embeddings are tied in all of them: a step reads the
// head alone, so that nothing but the loading time depends on it. InvalidArgument names the shapes there are.
StatusOr<ModelConfig> ShapeNamed(std::string_view name);
// "BF16" and the like; InvalidArgument names the types there are.
StatusOr<DType> DTypeNamed(std::string_view name);

// A base that was never trained, in memory as a GGUF file would stand there: random weights whose products
// neither vanish nor overflow (deviation 1 / sqrt(n_in)). For figures about speed and for counts of bytes;
// the same seed gives the same weights on any number of threads.
class MadeModel {
 public:
  // `dtype`: of every matrix, but that the embedding of a Q4_K model is Q6_K, as converters have it.
  // InvalidArgument where rows are no whole number of blocks; ResourceExhausted where memory is short.
  static StatusOr<std::unique_ptr<MadeModel>> Make(const ModelConfig& config, DType dtype, uint64_t seed = 1);

  // The same without the weights, which are all zero: for plans of models that no machine here could hold.
  static StatusOr<std::unique_ptr<MadeModel>> Outline(const ModelConfig& config, DType dtype);

  // The first `n_layers` layers between embedding and head. Valid until the next call, and as long as this
  // lives: a Decoder needs it no longer than until it was created.
  StatusOr<std::unique_ptr<ModelFiles>> Files(int n_layers);

  // Writes all of it as a GGUF file, without a tokenizer.
  Status Write(const std::filesystem::path& path);

  const ModelConfig& config() const { return config_; }
  DType dtype() const { return dtype_; }
  DType embedding_dtype() const { return dtype_ == DType::kQ4_K ? DType::kQ6_K : dtype_; }
  size_t bytes() const { return memory_.n_bytes(); }

 private:
  MadeModel(const ModelConfig& config, DType dtype) : config_(config), dtype_(dtype) {}
  DType TypeOf(WeightRole role) const;
  int64_t BytesOf(WeightRole role) const;
  // The bytes of a file with the first `n_layers` layers.
  std::span<const uint8_t> Bytes(int n_layers);
  // Metadata and the list of tensors, as long as the alignment wants.
  std::string Header(int n_layers) const;
  void Fill(uint64_t seed);

  const ModelConfig config_;
  const DType dtype_;
  size_t data_at_ = 0;         // where the tensors begin; a header ends there
  cpu::AlignedBuffer memory_;  // [room for the longest header, tensors]
};

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_MADE_MODEL_H_
