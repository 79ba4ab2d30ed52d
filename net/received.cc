#include "net/received.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message.h>
#include <google/protobuf/wire_format_lite.h>

#include <string>
#include <vector>

#include "common/check.h"
#include "common/utf8.h"

namespace coterie::net {
namespace {

namespace pb = google::protobuf;

constexpr int kMaxNesting = 32;  // of fields looked into for the sake of a message

// The path of the first field of `bytes` whose text is not UTF-8; empty where there is none or the bytes do
// not parse.
std::string FindBadText(const pb::Descriptor& type, std::string_view bytes, int nesting) {
  pb::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  while (const uint32_t tag = in.ReadTag()) {
    const pb::FieldDescriptor* field =
        type.FindFieldByNumber(pb::internal::WireFormatLite::GetTagFieldNumber(tag));
    if (pb::internal::WireFormatLite::GetTagWireType(tag) !=
        pb::internal::WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!pb::internal::WireFormatLite::SkipField(&in, tag)) return "";
      continue;
    }
    uint32_t n = 0;
    if (!in.ReadVarint32(&n)) return "";
    const auto begin = static_cast<size_t>(in.CurrentPosition());
    if (n > bytes.size() - begin) return "";
    const std::string_view value = bytes.substr(begin, n);
    in.Skip(static_cast<int>(n));
    if (field == nullptr) continue;
    if (field->type() == pb::FieldDescriptor::TYPE_STRING && !IsWellFormed(value)) return field->name();
    if (field->type() == pb::FieldDescriptor::TYPE_MESSAGE && nesting < kMaxNesting) {
      const std::string inner = FindBadText(*field->message_type(), value, nesting + 1);
      if (!inner.empty()) return absl::StrCat(field->name(), ".", inner);
    }
  }
  return "";
}

Status Malformed(const grpc::ByteBuffer& buffer, const pb::Descriptor& type) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (buffer.Dump(&slices).ok()) {
    for (const grpc::Slice& slice : slices) {
      bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
  }
  const std::string field = FindBadText(type, bytes, 0);
  if (!field.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the request is no ", type.full_name(), ": its field '",
                                                   field,
                                                   "' holds bytes that are not UTF-8; send text in UTF-8"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the request is no ", type.full_name(), ": its ", bytes.size(),
                   " bytes do not parse; send that message, serialised by protobuf"));
}

}  // namespace

Status Parse(grpc::ByteBuffer* buffer, pb::Message* message) {
  const pb::Descriptor& type = *message->GetDescriptor();
  if (buffer == nullptr || !buffer->Valid()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the call ended before its request came; send a ", type.full_name()));
  }
  bool parsed;
  {
    grpc::ProtoBufferReader reader(buffer);
    parsed = reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
  }
  Status status = parsed ? absl::OkStatus() : Malformed(*buffer, type);
  buffer->Clear();
  return status;
}

int MethodIndex(std::string_view service, std::string_view method) {
  const pb::ServiceDescriptor* found =
      pb::DescriptorPool::generated_pool()->FindServiceByName(std::string(service));
  COTERIE_CHECK(found != nullptr) << service;
  const pb::MethodDescriptor* member = found->FindMethodByName(std::string(method));
  COTERIE_CHECK(member != nullptr) << method;
  return member->index();
}

}  // namespace coterie::net
