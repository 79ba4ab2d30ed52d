#ifndef COTERIE_GATEWAY_GRPC_EXPERT_RECEIVER_H_
#define COTERIE_GATEWAY_GRPC_EXPERT_RECEIVER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/digest.h"
#include "coterie/v1/expert.pb.h"
#include "model/store/expert_store.h"

namespace coterie::gateway {

// The messages of one Publish, Check or PublishMany on their way into the store. Not thread-safe.
class ExpertReceiver {
 public:
  enum class Purpose { kPublish, kCheck };
  // `store` must outlive this. What is only checked is never committed, and changes nothing of the store.
  explicit ExpertReceiver(ExpertStore* store, Purpose purpose = Purpose::kPublish)
      : store_(store), purpose_(purpose) {}

  // A header or a chunk. What is wrong with one expert refuses that one and is returned; the rest of its
  // chunks is passed over, and the next header begins the next expert. After a message that belongs to none
  // (a chunk before any header), or when the store takes no upload, broken() says so and nothing will be
  // published.
  Status Take(const v1::PublishExpertRequest& message);
  bool broken() const { return broken_; }
  // The last expert is whole.
  Status End() { return FinishExpert(); }

  struct Outcome {
    std::string name;  // of the header
    bool canary = false;
    StatusOr<PublishResult> result;
  };
  // Publishes what is whole, in one generation: an outcome for each header, in order. After End, once.
  std::vector<Outcome> Commit();

 private:
  // What the header promised of one file, and what has come.
  struct File {
    std::string name;
    uint64_t size_bytes = 0;
    std::string sha256;
    uint64_t received_bytes = 0;
    std::unique_ptr<Hasher> hasher = std::make_unique<Hasher>();
  };
  struct Header {
    std::string name;
    std::optional<double> canary_share;
  };

  // What a header asks of the store that only a commit would find out.
  Status CheckCommit(const v1::PublishExpertRequest::Header& header) const;
  Status Begin(const v1::PublishExpertRequest::Header& header);
  Status TakeChunk(const v1::PublishExpertRequest::Chunk& chunk);
  Status CheckWhole();
  Status FinishExpert();
  Status RefuseExpert(const Status& why);

  ExpertStore* const store_;
  const Purpose purpose_;
  std::unique_ptr<ExpertStore::Upload> upload_;
  std::vector<Header> headers_;
  std::vector<File> files_;  // of the last header
  bool open_ = false;        // the last header's expert is still coming
  bool broken_ = false;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_EXPERT_RECEIVER_H_
