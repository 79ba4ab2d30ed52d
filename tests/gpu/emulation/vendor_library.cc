// The calls of cuBLASLt that kernels/cuda makes, as plain loops over the matrices. Late as all work of a
// stream, and as strict as the real one may be: about alignment, about memory, about what was created. Its
// sums depend on the number of rows, and so does the split sum that it would rather propose, so that nobody
// takes it for invariant.
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "emulated_vendor_library.h"
#include "machine.h"

namespace coterie::emulation {
namespace {

// As its header has them.
enum Status : int { kSuccess = 0, kInvalidValue = 7, kExecutionFailed = 13, kNotSupported = 15 };
enum Type : int { kReal32F = 0, kRealBf16 = 14 };
constexpr int kCompute32F = 68, kTransposed = 1;
constexpr uint64_t kMark = 0x436f746572696531;  // of an algorithm that was proposed here

struct Object {
  virtual ~Object() = default;
};
struct Handle : Object {
  int device = 0;
};
struct Description : Object {
  int transpose_a = 0;
};
struct Layout : Object {
  int type = 0;
  uint64_t rows = 0, columns = 0;
  int64_t pitch = 0;
  size_t element_bytes() const { return type == kReal32F ? 4 : 2; }
  size_t bytes() const {
    return columns == 0 ? 0 : ((columns - 1) * static_cast<uint64_t>(pitch) + rows) * element_bytes();
  }
};
struct Preference : Object {
  size_t workspace_bytes = 0;
  uint32_t reductions = 7;
  std::array<uint32_t, 4> alignment = {256, 256, 256, 256};
};

struct Algorithm {
  uint64_t mark = 0;
  uint64_t rows_of_w = 0, k = 0;
  int64_t splits = 1;
  uint64_t workspace_bytes = 0;
  std::array<uint16_t, 4> alignment = {};
};
static_assert(sizeof(Algorithm) <= 64);
struct Proposal {
  uint64_t algorithm[8];
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

std::set<Object*>& Objects() {
  static auto& objects = *new std::set<Object*>;
  return objects;
}

template <class T>
int Create(void** to, T made) {
  const std::lock_guard lock(TheMachine().mutex);
  auto* const object = new T(std::move(made));
  Objects().insert(object);
  TheMachine().counts.library_objects = Objects().size();
  *to = object;
  return kSuccess;
}
int Destroy(void* which) {
  const std::lock_guard lock(TheMachine().mutex);
  auto* const object = static_cast<Object*>(which);
  if (Objects().erase(object) == 0) Fault("cuBLASLt is to destroy what it has not made, or did already");
  TheMachine().counts.library_objects = Objects().size();
  delete object;
  return kSuccess;
}
template <class T>
T& Live(void* which, const char* what) {
  auto* const object = static_cast<Object*>(which);
  T* const found = Objects().contains(object) ? dynamic_cast<T*>(object) : nullptr;
  if (found == nullptr) Fault(std::string("cuBLASLt is given no ") + what + ", or one that was destroyed");
  return *found;
}
template <class T>
int Read(const void* value, size_t bytes, T* to) {
  if (bytes != sizeof(T)) return kInvalidValue;
  std::memcpy(to, value, bytes);
  return kSuccess;
}

size_t Version() { return 130000; }
const char* StatusName(int status) {
  return status == kInvalidValue      ? "CUBLAS_STATUS_INVALID_VALUE"
         : status == kExecutionFailed ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                      : "CUBLAS_STATUS_NOT_SUPPORTED";
}
int CreateHandle(void** handle) {
  Handle made;
  made.device = CurrentDevice();
  return Create(handle, made);
}
int CreateDescription(void** description, int compute, int scale) {
  if (compute != kCompute32F || scale != kReal32F) return kNotSupported;
  return Create(description, Description());
}
int SetDescription(void* description, int attribute, const void* value, size_t bytes) {
  const std::lock_guard lock(TheMachine().mutex);
  if (attribute != 3) return kInvalidValue;
  return Read(value, bytes, &Live<Description>(description, "product").transpose_a);
}
int CreateLayout(void** layout, int type, uint64_t rows, uint64_t columns, int64_t pitch) {
  if ((type != kReal32F && type != kRealBf16) || pitch < static_cast<int64_t>(rows)) return kInvalidValue;
  Layout made;
  made.type = type;
  made.rows = rows;
  made.columns = columns;
  made.pitch = pitch;
  return Create(layout, made);
}
int SetLayout(void* layout, int attribute, const void* value, size_t bytes) {
  const std::lock_guard lock(TheMachine().mutex);
  if (attribute != 3) return kInvalidValue;
  return Read(value, bytes, &Live<Layout>(layout, "layout").columns);
}
int CreatePreference(void** preference) { return Create(preference, Preference()); }
int SetPreference(void* preference, int attribute, const void* value, size_t bytes) {
  const std::lock_guard lock(TheMachine().mutex);
  Preference& p = Live<Preference>(preference, "preference");
  if (attribute == 1) return Read(value, bytes, &p.workspace_bytes);
  if (attribute == 3) return Read(value, bytes, &p.reductions);
  if (attribute < 5 || attribute > 8) return kInvalidValue;
  return Read(value, bytes, &p.alignment[static_cast<size_t>(attribute - 5)]);
}

// A product as its layouts say; column-major, as all here.
struct Product {
  Layout a, b, d;
};
// False where the sizes do not go together.
bool ReadProduct(void* handle, void* description, void* a, void* b, void* c, void* d, Product* to) {
  Live<Handle>(handle, "handle");
  const Description& operation = Live<Description>(description, "product");
  *to = {Live<Layout>(a, "layout of A"), Live<Layout>(b, "layout of B"), Live<Layout>(d, "layout of D")};
  const Layout& old = Live<Layout>(c, "layout of C");
  if (operation.transpose_a != kTransposed) Fault("emulated are products of a transposed A only");
  if (to->a.type != kRealBf16 || to->b.type != kRealBf16) Fault("emulated are products of bfloat16 only");
  return to->a.rows == to->b.rows && to->d.rows == to->a.columns && to->d.columns == to->b.columns &&
         to->d.columns > 0 && old.type == to->d.type && old.rows == to->d.rows &&
         old.columns == to->d.columns && old.pitch == to->d.pitch;
}
// Rows of operands have to be whole pieces of 16 bytes.
bool Supports(const Product& p, const std::array<uint32_t, 4>& alignment) {
  return p.a.pitch % 8 == 0 && p.b.pitch % 8 == 0 && alignment[0] >= 16 && alignment[1] >= 16 &&
         alignment[2] == alignment[3] && alignment[3] >= p.d.element_bytes();
}

int Propose(void* handle, void* description, void* a, void* b, void* c, void* d, void* preference, int most,
            Proposal* found, int* n_found) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  ++machine.counts.library_searches;
  const Preference& p = Live<Preference>(preference, "preference");
  Product product;
  *n_found = 0;
  if (!ReadProduct(handle, description, a, b, c, d, &product)) return kInvalidValue;
  if (!Supports(product, p.alignment)) return kNotSupported;
  const auto propose = [&](int64_t splits, uint64_t workspace, int state) {
    if (*n_found == most || workspace > p.workspace_bytes) return;
    Algorithm algorithm;
    algorithm.mark = kMark;
    algorithm.rows_of_w = product.a.columns;
    algorithm.k = product.a.rows;
    algorithm.splits = splits;
    algorithm.workspace_bytes = workspace;
    for (size_t i = 0; i < 4; ++i) algorithm.alignment[i] = static_cast<uint16_t>(p.alignment[i]);
    Proposal& one = found[(*n_found)++];
    one = {};
    std::memcpy(one.algorithm, &algorithm, sizeof algorithm);
    one.workspace_bytes = workspace;
    one.state = state;
  };
  if (p.reductions != 0) propose(4, size_t{2} << 20, kSuccess);
  propose(1, 0, kNotSupported);  // the real one lists such, too
  propose(1, size_t{1} << 20, kSuccess);
  propose(1, 0, kSuccess);
  return kSuccess;
}

// The algorithm; its mark is 0 where it was not proposed for such weights.
Algorithm AlgorithmOf(const void* words, const Product& product) {
  Algorithm algorithm;
  std::memcpy(&algorithm, words, sizeof algorithm);
  if (algorithm.mark != kMark) Fault("cuBLASLt is given an algorithm that it did not propose");
  if (algorithm.rows_of_w != product.a.columns || algorithm.k != product.a.rows) algorithm.mark = 0;
  return algorithm;
}

int Check(void* handle, void* description, void* a, void* b, void* c, void* d, const void* words,
          Proposal* result) {
  const std::lock_guard lock(TheMachine().mutex);
  Product product;
  if (!ReadProduct(handle, description, a, b, c, d, &product)) return kInvalidValue;
  const Algorithm algorithm = AlgorithmOf(words, product);
  if (algorithm.mark == 0) return kNotSupported;
  *result = {};
  std::memcpy(result->algorithm, words, sizeof result->algorithm);
  result->workspace_bytes = algorithm.workspace_bytes;
  return kSuccess;
}

int GetConfig(const void* words, int attribute, void* value, size_t bytes, size_t* written) {
  Algorithm algorithm;
  std::memcpy(&algorithm, words, sizeof algorithm);
  const uint32_t answer =
      attribute == 2 ? static_cast<uint32_t>(algorithm.splits) : (algorithm.splits > 1 ? 2u : 0u);
  if ((attribute != 2 && attribute != 3) || bytes != sizeof answer) return kInvalidValue;
  std::memcpy(value, &answer, sizeof answer);
  *written = sizeof answer;
  return kSuccess;
}

// Memory of the device that a product reads or writes.
struct Place {
  const char* name;
  const void* at;
  size_t bytes;
  uint32_t alignment;
};
void CheckPlace(const Place& place) {
  const Allocation* const found = TheMachine().arena.Find(place.at, place.bytes);
  if (found == nullptr || found->pinned) {
    Fault(std::string("cuBLASLt: ") + place.name + " is no device memory of " + std::to_string(place.bytes) +
          " bytes");
  }
  if (reinterpret_cast<uintptr_t>(place.at) % place.alignment != 0) {
    Fault(std::string("cuBLASLt: ") + place.name + " is not aligned to the " +
          std::to_string(place.alignment) + " bytes that its algorithm was proposed for");
  }
}
bool Overlap(const Place& one, const Place& other) {
  const auto first = reinterpret_cast<uintptr_t>(one.at), second = reinterpret_cast<uintptr_t>(other.at);
  return one.bytes > 0 && other.bytes > 0 && first < second + other.bytes && second < first + one.bytes;
}

float FromBf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Sum over k in pieces, whose length depends on the number of rows, each in eight interleaved sums.
float Sum(const uint16_t* a, const uint16_t* b, uint64_t k, uint64_t piece) {
  float total = 0;
  for (uint64_t begin = 0; begin < k; begin += piece) {
    const uint64_t end = std::min(k, begin + piece);
    std::array<float, 8> sums = {};
    uint64_t i = begin;
    for (; i + 8 <= end; i += 8) {
      for (uint64_t j = 0; j < 8; ++j) sums[j] += FromBf16(a[i + j]) * FromBf16(b[i + j]);
    }
    for (; i < end; ++i) sums[0] += FromBf16(a[i]) * FromBf16(b[i]);
    for (const float sum : sums) total += sum;
  }
  return total;
}

void Compute(const Product& p, const Algorithm& algorithm, float alpha, const void* a, const void* b,
             float beta, void* d, void* workspace) {
  // What it leaves there is nobody's.
  if (workspace != nullptr) std::memset(workspace, 0xFF, algorithm.workspace_bytes);
  const uint64_t piece = algorithm.splits > 1 ? p.a.rows / static_cast<uint64_t>(algorithm.splits) + 1
                         : p.d.columns < 128  ? 128
                                              : 64;
  for (uint64_t column = 0; column < p.d.columns; ++column) {
    const auto* const of_b = static_cast<const uint16_t*>(b) + column * static_cast<uint64_t>(p.b.pitch);
    for (uint64_t row = 0; row < p.d.rows; ++row) {
      const auto* const of_a = static_cast<const uint16_t*>(a) + row * static_cast<uint64_t>(p.a.pitch);
      const uint64_t at = column * static_cast<uint64_t>(p.d.pitch) + row;
      const float sum = alpha * Sum(of_a, of_b, p.a.rows, piece);
      if (p.d.type == kReal32F) {
        float& to = static_cast<float*>(d)[at];
        to = beta == 0 ? sum : sum + beta * to;
      } else {
        uint16_t& to = static_cast<uint16_t*>(d)[at];
        to = ToBf16(beta == 0 ? sum : sum + beta * FromBf16(to));
      }
    }
  }
}

int Matmul(void* handle, void* description, const void* alpha, const void* a, void* a_layout, const void* b,
           void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
           const void* words, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  Product product;
  if (!ReadProduct(handle, description, a_layout, b_layout, c_layout, d_layout, &product)) {
    return kInvalidValue;
  }
  const Algorithm algorithm = AlgorithmOf(words, product);
  if (algorithm.mark == 0) return kNotSupported;
  if (algorithm.workspace_bytes > workspace_bytes) return kInvalidValue;
  if (c != d) Fault("emulated are products whose C is their D");
  if (Live<Handle>(handle, "handle").device != CurrentDevice() ||
      (stream != nullptr && stream->device != CurrentDevice())) {
    Fault("cuBLASLt: a handle, a stream and the thread's device that are not the same");
  }
  if (machine.lost) return kExecutionFailed;
  if (machine.fail_product_after >= 0 && machine.fail_product_after-- == 0) return kExecutionFailed;
  const std::vector<Place> places = {
      {"A", a, product.a.bytes(), algorithm.alignment[0]},
      {"B", b, product.b.bytes(), algorithm.alignment[1]},
      {"D", d, product.d.bytes(), algorithm.alignment[3]},
      {"its workspace", workspace, workspace == nullptr ? 0 : workspace_bytes, 16},
  };
  for (const Place& place : places) {
    if (place.bytes > 0) CheckPlace(place);
  }
  for (const size_t i : {size_t{2}, size_t{3}}) {
    for (size_t j = 0; j < i; ++j) {
      if (Overlap(places[i], places[j])) {
        Fault(std::string("cuBLASLt: ") + places[i].name + " overlaps " + places[j].name);
      }
    }
  }
  ++machine.counts.library_products;
  if (algorithm.splits > 1) ++machine.counts.library_split_sums;
  const float alpha_value = *static_cast<const float*>(alpha), beta_value = *static_cast<const float*>(beta);
  machine.Enqueue(stream, {TaskKind::kKernel, [=] {
                             Compute(product, algorithm, alpha_value, a, b, beta_value, d, workspace);
                           }});
  return kSuccess;
}

}  // namespace

void* OpenSharedLibrary(const char* name) {
  static int library = 0;
  return TheSettings().vendor_library && std::string_view(name) == "libcublasLt.so.13" ? &library : nullptr;
}

void* SymbolOfLibrary(void*, const char* name) {
  const struct {
    const char* name;
    void* function;
  } symbols[] = {
      {"cublasLtGetVersion", reinterpret_cast<void*>(Version)},
      {"cublasLtGetStatusName", reinterpret_cast<void*>(StatusName)},
      {"cublasLtCreate", reinterpret_cast<void*>(CreateHandle)},
      {"cublasLtDestroy", reinterpret_cast<void*>(Destroy)},
      {"cublasLtMatmulDescCreate", reinterpret_cast<void*>(CreateDescription)},
      {"cublasLtMatmulDescDestroy", reinterpret_cast<void*>(Destroy)},
      {"cublasLtMatmulDescSetAttribute", reinterpret_cast<void*>(SetDescription)},
      {"cublasLtMatrixLayoutCreate", reinterpret_cast<void*>(CreateLayout)},
      {"cublasLtMatrixLayoutDestroy", reinterpret_cast<void*>(Destroy)},
      {"cublasLtMatrixLayoutSetAttribute", reinterpret_cast<void*>(SetLayout)},
      {"cublasLtMatmulPreferenceCreate", reinterpret_cast<void*>(CreatePreference)},
      {"cublasLtMatmulPreferenceDestroy", reinterpret_cast<void*>(Destroy)},
      {"cublasLtMatmulPreferenceSetAttribute", reinterpret_cast<void*>(SetPreference)},
      {"cublasLtMatmulAlgoGetHeuristic", reinterpret_cast<void*>(Propose)},
      {"cublasLtMatmulAlgoCheck", reinterpret_cast<void*>(Check)},
      {"cublasLtMatmulAlgoConfigGetAttribute", reinterpret_cast<void*>(GetConfig)},
      {"cublasLtMatmul", reinterpret_cast<void*>(Matmul)},
  };
  for (const auto& symbol : symbols) {
    if (std::string_view(symbol.name) == name) return symbol.function;
  }
  return nullptr;
}

void FailProductAfter(int n) { TheMachine().fail_product_after = n; }

}  // namespace coterie::emulation
