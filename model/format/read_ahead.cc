#include "model/format/read_ahead.h"

namespace coterie {

ReadAhead::ReadAhead(const ModelFiles& files) : files_(files), thread_([this] { Run(); }) {}

ReadAhead::~ReadAhead() {
  {
    MutexLock lock(&mutex_);
    ended_ = true;
  }
  moved_.SignalAll();
  thread_.join();
}

void ReadAhead::At(int layer) {
  {
    MutexLock lock(&mutex_);
    layer_ = layer;
  }
  moved_.SignalAll();
}

void ReadAhead::Run() {
  for (int layer = -1; layer < files_.config().n_layers; ++layer) {
    {
      MutexLock lock(&mutex_);
      while (!ended_ && layer > layer_ + 1) moved_.Wait(&mutex_);
      if (ended_) return;
    }
    for (const WeightRole role : files_.Roles(/*per_layer=*/layer >= 0)) {
      const TensorView& tensor = files_.Get(role, layer < 0 ? 0 : layer).tensor;
      if (tensor.file != nullptr) tensor.file->ReadAhead(tensor.bytes);
    }
  }
}

}  // namespace coterie
