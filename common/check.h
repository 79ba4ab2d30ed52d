#ifndef COTERIE_COMMON_CHECK_H_
#define COTERIE_COMMON_CHECK_H_

#include <sstream>

// CHECK states an invariant of our own code; it stays on in every build and ends the process with the place
// and the message. What a caller, a file or a peer can get wrong is an absl::Status instead.
namespace coterie::internal {

class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Gives both arms of the conditional in COTERIE_CHECK the type void.
struct Voidify {
  void operator&(std::ostream&) {}
};

}  // namespace coterie::internal

#define COTERIE_CHECK(condition)                 \
  (condition) ? (void)0                          \
              : ::coterie::internal::Voidify() & \
                    ::coterie::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()
#define COTERIE_CHECK_EQ(a, b) COTERIE_CHECK((a) == (b)) << (a) << " vs " << (b) << ": "
#define COTERIE_CHECK_LE(a, b) COTERIE_CHECK((a) <= (b)) << (a) << " vs " << (b) << ": "
#define COTERIE_CHECK_LT(a, b) COTERIE_CHECK((a) < (b)) << (a) << " vs " << (b) << ": "

#endif  // COTERIE_COMMON_CHECK_H_
