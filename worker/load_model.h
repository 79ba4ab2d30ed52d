#ifndef COTERIE_WORKER_LOAD_MODEL_H_
#define COTERIE_WORKER_LOAD_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "kernels/devices/choose_device.h"
#include "model/decoder/language_model.h"
#include "model/grammar/grammar_matchers.h"
#include "worker/options.h"

namespace coterie::worker {

struct LoadedModel {
  std::string name;
  std::unique_ptr<LanguageModel> model;
  Digest tokenizer_digest;
  // Which of the model's tokens a constraint allows; null for the fake model without files, which has no
  // text.
  std::unique_ptr<GrammarMatchers> matchers;
  std::vector<std::string> warnings;  // see BaseText
};

// The model the options ask for, ready to run on `device`. The files are closed again. Takes as long as
// packing the weights does.
StatusOr<LoadedModel> LoadModel(const WorkerOptions& options, const devices::ChosenDevice& device);

// `options` with what suits the device where they leave it open.
WorkerOptions WithDefaultsFor(const devices::ChosenDevice& device, WorkerOptions options);

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_LOAD_MODEL_H_
