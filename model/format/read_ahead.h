#ifndef COTERIE_MODEL_FORMAT_READ_AHEAD_H_
#define COTERIE_MODEL_FORMAT_READ_AHEAD_H_

#include <thread>

#include "common/mutex.h"
#include "model/format/model_files.h"

namespace coterie {

// Asks the kernel for the pages of a base's files before whoever goes through its layers touches them, so
// that the disk works while the cores do: for the layer in hand and the one behind it, never for more, since
// the page cache may have no room. A thread of its own asks, because the kernel lets those who ask wait while
// the disk's queue is full. It begins with the weights that stand once and the first layer.
class ReadAhead {
 public:
  // `files` must outlive it.
  explicit ReadAhead(const ModelFiles& files);
  ~ReadAhead();  // lets what was asked for come
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // Layer `layer` is next in hand.
  void At(int layer);

 private:
  void Run();

  const ModelFiles& files_;
  Mutex mutex_;
  CondVar moved_;
  int layer_ ABSL_GUARDED_BY(mutex_) = -1;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_READ_AHEAD_H_
