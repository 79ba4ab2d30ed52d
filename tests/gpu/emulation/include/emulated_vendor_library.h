#ifndef COTERIE_TESTS_GPU_EMULATION_INCLUDE_EMULATED_VENDOR_LIBRARY_H_
#define COTERIE_TESTS_GPU_EMULATION_INCLUDE_EMULATED_VENDOR_LIBRARY_H_

namespace coterie::emulation {

// dlopen and dlsym of the machine that is emulated: it has libcublasLt.so.13 (vendor_library.cc) unless
// TheSettings().vendor_library says no.
void* OpenSharedLibrary(const char* name);
void* SymbolOfLibrary(void* library, const char* name);

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_INCLUDE_EMULATED_VENDOR_LIBRARY_H_
