#ifndef COTERIE_TESTS_TESTING_KEPT_SPANS_H_
#define COTERIE_TESTS_TESTING_KEPT_SPANS_H_

#include <string_view>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "common/trace/trace.h"

namespace coterie::testing {

// Keeps what it is given.
class KeptSpans : public SpanSink {
 public:
  void Take(std::vector<Span> spans) override {
    MutexLock lock(&mutex_);
    for (Span& span : spans) spans_.push_back(std::move(span));
    ++n_taken_;
  }

  size_t n_taken() const {
    MutexLock lock(&mutex_);
    return n_taken_;
  }
  std::vector<Span> All() const {
    MutexLock lock(&mutex_);
    return spans_;
  }
  std::vector<Span> Named(std::string_view name) const {
    std::vector<Span> named;
    for (Span& span : All()) {
      if (span.name == name) named.push_back(std::move(span));
    }
    return named;
  }

 private:
  mutable Mutex mutex_;
  std::vector<Span> spans_ ABSL_GUARDED_BY(mutex_);
  size_t n_taken_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The attribute's value; none: null.
inline const SpanAttribute::Value* AttributeOf(const std::vector<SpanAttribute>& attributes,
                                               std::string_view key) {
  for (const SpanAttribute& attribute : attributes) {
    if (attribute.key == key) return &attribute.value;
  }
  return nullptr;
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_TESTING_KEPT_SPANS_H_
