// What the sanitizers of this binary are told; TSAN_OPTIONS and ASAN_OPTIONS of the environment come on top.
#if defined(__SANITIZE_THREAD__)
// A death test sees a report by the process that ends. Lanes are many threads of short memory: little history
// each.
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() {
  return "halt_on_error=1:history_size=1:second_deadlock_stack=0";
}
#endif
