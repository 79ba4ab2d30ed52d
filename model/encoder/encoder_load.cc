// Making an Encoder: tensors by their names in transformers' BertModel, packed for the backend.
#include <cmath>
#include <set>

#include "absl/strings/match.h"
#include "common/quoted.h"
#include "kernels/create.h"
#include "kernels/formats/dequantize.h"
#include "model/encoder/encoder.h"
#include "model/format/dequantize.h"
#include "model/format/describe.h"

namespace coterie {
namespace {

// Tokens of a pass that runs beside others. Each pass has buffers of its own, 15 KB a token with vectors of
// 384, whose memory is fetched with use.
constexpr int kSmallPassTokens = 1024;

Status CheckOptions(const EncoderOptions& options, const BertConfig& config) {
  if (options.n_passes < 1 || options.n_passes > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("EncoderOptions.n_passes is ", options.n_passes, ": expected 1 to 64"));
  }
  if (options.max_batch_tokens < config.max_tokens || options.max_batch_tokens > 1 << 20) {
    return absl::InvalidArgumentError(absl::StrCat("EncoderOptions.max_batch_tokens is ",
                                                   options.max_batch_tokens, ": expected ", config.max_tokens,
                                                   " (one text) to 1,048,576"));
  }
  return absl::OkStatus();
}

}  // namespace

class Encoder::Loader {
 public:
  Loader(const SafetensorsFile& file, Encoder* encoder) : file_(file), encoder_(encoder) {
    // A checkpoint saved with a head on top has its encoder under "bert.".
    prefix_ = file.Find("embeddings.word_embeddings.weight") == nullptr ? "bert." : "";
  }

  Status Load() {
    const BertConfig& c = encoder_->config_;
    const int64_t d = c.hidden_size;
    ASSIGN_OR_RETURN(encoder_->word_embeddings_,
                     Tensor("embeddings.word_embeddings.weight", {c.vocab_size, d}));
    ASSIGN_OR_RETURN(encoder_->position_embeddings_,
                     Values("embeddings.position_embeddings.weight", {c.n_positions, d}));
    ASSIGN_OR_RETURN(const std::vector<float> types,
                     Values("embeddings.token_type_embeddings.weight", {c.n_token_types, d}));
    // transformers adds word + type, then position; the order shows in the last bit only, and one text has
    // one type.
    for (size_t i = 0; i < encoder_->position_embeddings_.size(); ++i) {
      encoder_->position_embeddings_[i] += types[i % static_cast<size_t>(d)];
    }
    ASSIGN_OR_RETURN(encoder_->embedding_norm_, MakeNorm("embeddings.LayerNorm"));
    for (int i = 0; i < c.n_layers; ++i) {
      const std::string layer = absl::StrCat("encoder.layer.", i, ".");
      const std::string self = layer + "attention.self.";
      Layer out;
      ASSIGN_OR_RETURN(out.qkv, MakeLinear({self + "query", self + "key", self + "value"}, d, d));
      ASSIGN_OR_RETURN(out.attention_output, MakeLinear({layer + "attention.output.dense"}, d, d));
      ASSIGN_OR_RETURN(out.attention_norm, MakeNorm(layer + "attention.output.LayerNorm"));
      ASSIGN_OR_RETURN(out.up, MakeLinear({layer + "intermediate.dense"}, c.ffn_size, d));
      ASSIGN_OR_RETURN(out.down, MakeLinear({layer + "output.dense"}, d, c.ffn_size));
      ASSIGN_OR_RETURN(out.output_norm, MakeNorm(layer + "output.LayerNorm"));
      encoder_->layers_.push_back(std::move(out));
    }
    return RefuseOthers();
  }

 private:
  StatusOr<TensorView> Tensor(std::string_view name, std::vector<int64_t> shape) {
    ASSIGN_OR_RETURN(TensorView tensor, file_.Get(prefix_ + std::string(name)));
    if (tensor.shape != shape) {
      return absl::InvalidArgumentError(absl::StrCat(file_.name(), ": tensor ", Quoted(tensor.name),
                                                     " has shape ", ShapeText(tensor.shape),
                                                     ", the configuration says ", ShapeText(shape)));
    }
    used_.insert(tensor.name);
    RETURN_IF_ERROR(CheckFinite(tensor));
    return tensor;
  }
  StatusOr<std::vector<float>> Values(std::string_view name, std::vector<int64_t> shape) {
    ASSIGN_OR_RETURN(const TensorView tensor, Tensor(name, std::move(shape)));
    return DequantizeTensor(tensor);
  }
  StatusOr<Norm> MakeNorm(const std::string& name) {
    const int64_t d = encoder_->config_.hidden_size;
    Norm out;
    ASSIGN_OR_RETURN(const std::vector<float> weight, Values(name + ".weight", {d}));
    ASSIGN_OR_RETURN(out.weight, encoder_->contexts_[0]->backend->Upload(weight));
    ASSIGN_OR_RETURN(const std::vector<float> bias, Values(name + ".bias", {d}));
    ASSIGN_OR_RETURN(out.bias, encoder_->contexts_[0]->backend->Upload(bias));
    return out;
  }
  // The named layers, each [n_out, n_in], one under the other.
  StatusOr<Linear> MakeLinear(const std::vector<std::string>& names, int64_t n_out, int64_t n_in) {
    std::vector<TensorView> weights;  // of which `parts` are views
    weights.reserve(names.size());
    std::vector<HostMatrix> parts;
    std::vector<float> biases;
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(TensorView tensor, Tensor(name + ".weight", {n_out, n_in}));
      const TensorView& weight = weights.emplace_back(std::move(tensor));
      HostMatrix part;
      part.dtype = weight.dtype;
      part.n_out = n_out;
      part.n_in = n_in;
      part.data = weight.bytes.data();
      part.name = weight.name;
      // Inputs that are not whole blocks stay as they are.
      if (encoder_->options_.mode == NumericsMode::kFast && n_in % BlockElements(DType::kQ8_0) == 0) {
        part.rounded_to = DType::kQ8_0;
      }
      parts.push_back(part);
      ASSIGN_OR_RETURN(const std::vector<float> bias, Values(name + ".bias", {n_out}));
      biases.insert(biases.end(), bias.begin(), bias.end());
    }
    Linear out;
    auto packed = encoder_->contexts_[0]->backend->PackMatrix(parts);
    if (!packed.ok()) return Annotate(packed.status(), file_.name());
    out.weight = *std::move(packed);
    ASSIGN_OR_RETURN(out.bias, encoder_->contexts_[0]->backend->Upload(biases));
    encoder_->weight_bytes_ += out.weight->bytes();
    return out;
  }
  Status CheckFinite(const TensorView& tensor) const {
    std::vector<float> row(static_cast<size_t>(tensor.shape.back()));
    const int64_t n = tensor.shape.back();
    const int64_t row_bytes = RowBytes(tensor.dtype, n);
    for (int64_t begin = 0; begin < tensor.n_elements(); begin += n) {
      Dequantize(tensor.dtype, tensor.bytes.data() + begin / n * row_bytes, n, row.data());
      for (int64_t i = 0; i < n; ++i) {
        if (std::isfinite(row[static_cast<size_t>(i)])) continue;
        return absl::InvalidArgumentError(absl::StrCat(
            file_.name(), ": tensor ", Quoted(tensor.name), " has the value ", row[static_cast<size_t>(i)],
            " at ", begin + i, "; weights must be finite: fetch the file again"));
      }
    }
    return absl::OkStatus();
  }
  // The pooler and the position numbers take no part in mean pooling; any other tensor may mean another
  // model.
  Status RefuseOthers() const {
    for (const TensorView& tensor : file_.tensors()) {
      if (used_.contains(tensor.name) || absl::StrContains(tensor.name, "pooler.")) continue;
      return absl::UnimplementedError(
          absl::StrCat(file_.name(), ": tensor ", Quoted(tensor.name), " is no weight of a BERT encoder"));
    }
    for (const auto& [name, type] : file_.other_tensors()) {
      if (name == prefix_ + "embeddings.position_ids") continue;
      return absl::UnimplementedError(absl::StrCat(file_.name(), ": tensor ", Quoted(name), " of type ", type,
                                                   " is no weight of a BERT encoder"));
    }
    return absl::OkStatus();
  }

  const SafetensorsFile& file_;
  Encoder* encoder_;
  std::string prefix_;
  std::set<std::string, std::less<>> used_;
};

StatusOr<std::unique_ptr<Encoder::PassContext>> Encoder::MakeContext(int n_threads, int max_tokens,
                                                                     Device::Pages pages) const {
  auto context = std::make_unique<PassContext>();
  CpuBackendOptions backend;
  backend.mode = options_.mode;
  backend.n_threads = n_threads;
  ASSIGN_OR_RETURN(context->backend, CreateCpuEncoderOps(backend));
  context->max_tokens = max_tokens;
  const auto allocate = [&](int columns, std::unique_ptr<DeviceBuffer>* to) -> Status {
    ASSIGN_OR_RETURN(*to, context->backend->Allocate(
                              static_cast<size_t>(max_tokens) * static_cast<size_t>(columns), pages));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(allocate(config_.hidden_size, &context->x));
  RETURN_IF_ERROR(allocate(3 * config_.hidden_size, &context->qkv));
  RETURN_IF_ERROR(allocate(config_.hidden_size, &context->attended));
  RETURN_IF_ERROR(allocate(config_.ffn_size, &context->ffn));
  RETURN_IF_ERROR(allocate(config_.hidden_size, &context->pooled));
  return context;
}

StatusOr<std::unique_ptr<Encoder>> Encoder::Load(const std::filesystem::path& folder,
                                                 const EncoderOptions& options) {
  auto out = std::unique_ptr<Encoder>(new Encoder());
  out->options_ = options;
  ASSIGN_OR_RETURN(out->config_, ReadBertConfig(folder));
  const BertConfig& c = out->config_;
  RETURN_IF_ERROR(CheckOptions(options, c));
  ASSIGN_OR_RETURN(out->tokenizer_, Tokenizer::FromFolder(folder));
  if (out->tokenizer_->vocab_size() > static_cast<size_t>(c.vocab_size)) {
    return absl::InvalidArgumentError(absl::StrCat(folder.string(), ": the tokenizer has ids up to ",
                                                   out->tokenizer_->vocab_size() - 1, ", the encoder has ",
                                                   c.vocab_size, " embeddings"));
  }
  EncodeOptions with_specials;
  with_specials.add_special = true;
  ASSIGN_OR_RETURN(const std::vector<int32_t> nothing, out->tokenizer_->Encode("", with_specials));
  if (nothing.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder.string(), ": the tokenizer adds no [CLS] and [SEP]: an empty text would have no tokens"));
  }
  for (int i = 0; i < (options.n_passes == 1 ? 1 : options.n_passes + 1); ++i) {
    ASSIGN_OR_RETURN(
        out->contexts_.emplace_back(),
        i == 0 ? out->MakeContext(options.n_threads, options.max_batch_tokens, Device::Pages::kNow)
               : out->MakeContext(1, std::clamp(kSmallPassTokens, c.max_tokens, options.max_batch_tokens),
                                  Device::Pages::kWhenUsed));
  }
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::OpenFolder(folder));
  RETURN_IF_ERROR(Loader(file, out.get()).Load());

  Hasher hasher;
  hasher.UpdateField("coterie encoder 1").UpdateField(out->tokenizer_->digest().ToBytes());
  for (const int n : {c.n_layers, c.hidden_size, c.n_heads, c.ffn_size, c.max_tokens}) {
    hasher.UpdateU64(static_cast<uint64_t>(n));
  }
  hasher.UpdateField(absl::StrCat(c.layer_norm_eps));
  for (const TensorView& tensor : file.tensors()) {
    hasher.UpdateField(tensor.name).UpdateField(DTypeName(tensor.dtype)).UpdateU64(tensor.bytes.size());
    hasher.Update(tensor.bytes.data(), tensor.bytes.size());
  }
  out->digest_ = hasher.Finish();
  for (const TensorView& tensor : file.tensors()) {
    if (tensor.file != nullptr) RETURN_IF_ERROR(tensor.file->CheckWhole());
  }
  if (out->word_embeddings_.file != nullptr) out->word_embeddings_.file->DropPages();
  return out;
}

}  // namespace coterie
