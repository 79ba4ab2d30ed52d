#include "kernels/cuda/vendor_library.h"

#include "absl/strings/str_cat.h"

#ifdef COTERIE_EMULATED_GPU
#include "emulated_vendor_library.h"  // tests/gpu/emulation/include
#else
#include <dlfcn.h>
#endif

namespace coterie::cuda {
namespace {

#ifdef COTERIE_EMULATED_GPU
void* OpenShared(const char* name) { return emulation::OpenSharedLibrary(name); }
void* SymbolOf(void* library, const char* name) { return emulation::SymbolOfLibrary(library, name); }
#else
void* OpenShared(const char* name) { return ::dlopen(name, RTLD_NOW | RTLD_LOCAL); }
void* SymbolOf(void* library, const char* name) { return ::dlsym(library, name); }
#endif

}  // namespace

StatusOr<VendorLibrary> VendorLibrary::Open() {
  void* library = nullptr;
  const char* opened = nullptr;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    if (library != nullptr) continue;
    opened = name;
    library = OpenShared(name);
  }
  if (library == nullptr) {
    return absl::NotFoundError(
        "cuBLASLt is not on this machine (tried libcublasLt.so.13, libcublasLt.so.12 and libcublasLt.so); "
        "install the CUDA toolkit's cuBLAS, or name the folder that has it in LD_LIBRARY_PATH");
  }
  VendorLibrary f;
  const struct {
    const char* name;
    void* to;
  } symbols[] = {{"cublasLtGetVersion", &f.version},
                 {"cublasLtGetStatusName", &f.status_name},
                 {"cublasLtCreate", &f.create},
                 {"cublasLtDestroy", &f.destroy},
                 {"cublasLtMatmulDescCreate", &f.description_create},
                 {"cublasLtMatmulDescDestroy", &f.description_destroy},
                 {"cublasLtMatmulDescSetAttribute", &f.description_set},
                 {"cublasLtMatrixLayoutCreate", &f.layout_create},
                 {"cublasLtMatrixLayoutDestroy", &f.layout_destroy},
                 {"cublasLtMatrixLayoutSetAttribute", &f.layout_set},
                 {"cublasLtMatmulPreferenceCreate", &f.preference_create},
                 {"cublasLtMatmulPreferenceDestroy", &f.preference_destroy},
                 {"cublasLtMatmulPreferenceSetAttribute", &f.preference_set},
                 {"cublasLtMatmulAlgoGetHeuristic", &f.propose},
                 {"cublasLtMatmulAlgoCheck", &f.check},
                 {"cublasLtMatmulAlgoConfigGetAttribute", &f.config_get},
                 {"cublasLtMatmul", &f.matmul}};
  for (const auto& [name, to] : symbols) {
    void* const symbol = SymbolOf(library, name);
    if (symbol == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat(opened, " has no function ", name, "; install cuBLAS 12 or 13"));
    }
    *static_cast<void**>(to) = symbol;
  }
  return f;
}

Status VendorLibrary::Check(int status, std::string_view what) const {
  if (status == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cuBLASLt: ", ToAbsl(what), " gave ", status_name(status)));
}

std::string VendorLibrary::Version() const {
  const size_t number = version();
  return absl::StrCat(number / 10000, ".", number / 100 % 100, ".", number % 100);
}

}  // namespace coterie::cuda
