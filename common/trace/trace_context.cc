#include "common/trace/trace_context.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/random.h"

namespace coterie {
namespace {

constexpr size_t kMaxStateBytes = 512;  // that the specification wants to be handed on
constexpr size_t kMaxStateMembers = 32;

int LowerHexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// False unless `hex` is exactly as long as `bytes` wants, in lower case.
template <size_t n>
bool ReadHex(std::string_view hex, std::array<uint8_t, n>* bytes) {
  if (hex.size() != 2 * n) return false;
  for (size_t i = 0; i < n; ++i) {
    const int high = LowerHexDigit(hex[2 * i]), low = LowerHexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*bytes)[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

template <size_t n>
std::string WriteHex(const std::array<uint8_t, n>& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex(2 * n, '0');
  for (size_t i = 0; i < n; ++i) {
    hex[2 * i] = kDigits[bytes[i] >> 4];
    hex[2 * i + 1] = kDigits[bytes[i] & 15];
  }
  return hex;
}

template <typename Id>
std::optional<Id> IdFromHex(std::string_view hex) {
  Id id;
  if (!ReadHex(hex, &id.bytes) || !id) return std::nullopt;
  return id;
}

template <typename Id>
Id DrawId() {
  Id id;
  do {
    for (size_t i = 0; i < Id::kBytes; i += sizeof(uint64_t)) {
      const uint64_t bits = DrawSeed();
      std::memcpy(id.bytes.data() + i, &bits, sizeof(bits));
    }
  } while (!id);
  return id;
}

bool IsTraceState(std::string_view state) {
  if (state.size() > kMaxStateBytes) return false;
  if (static_cast<size_t>(std::count(state.begin(), state.end(), ',')) >= kMaxStateMembers) return false;
  // Members are the business of who wrote them; that nothing else can be smuggled along is ours.
  return std::all_of(state.begin(), state.end(), [](char c) { return (c >= ' ' && c <= '~') || c == '\t'; });
}

}  // namespace

std::string TraceId::ToHex() const { return WriteHex(bytes); }
std::optional<TraceId> TraceId::FromHex(std::string_view hex) { return IdFromHex<TraceId>(hex); }
TraceId TraceId::Draw() { return DrawId<TraceId>(); }

std::string SpanId::ToHex() const { return WriteHex(bytes); }
std::optional<SpanId> SpanId::FromHex(std::string_view hex) { return IdFromHex<SpanId>(hex); }
SpanId SpanId::Draw() { return DrawId<SpanId>(); }

std::string TraceContext::ToTraceParent() const {
  return absl::StrCat("00-", trace.ToHex(), "-", span.ToHex(), sampled ? "-01" : "-00");
}

TraceContext ReadTraceContext(std::string_view traceparent, std::string_view tracestate) {
  // version "-" trace "-" span "-" flags; a later version may have more behind another "-".
  constexpr size_t kTrace = 3, kSpan = 36, kFlags = 53, kEnd = 55;
  if (traceparent.size() < kEnd) return {};
  if (traceparent[kTrace - 1] != '-' || traceparent[kSpan - 1] != '-' || traceparent[kFlags - 1] != '-') {
    return {};
  }
  std::array<uint8_t, 1> version{}, flags{};
  if (!ReadHex(traceparent.substr(0, 2), &version) || version[0] == 0xff) return {};
  if (!ReadHex(traceparent.substr(kFlags, 2), &flags)) return {};
  if (traceparent.size() > kEnd && (version[0] == 0 || traceparent[kEnd] != '-')) return {};
  const auto trace = TraceId::FromHex(traceparent.substr(kTrace, 2 * TraceId::kBytes));
  const auto span = SpanId::FromHex(traceparent.substr(kSpan, 2 * SpanId::kBytes));
  if (!trace || !span) return {};
  TraceContext context{*trace, *span, (flags[0] & 1) != 0, ""};
  if (IsTraceState(tracestate)) context.state = tracestate;
  return context;
}

}  // namespace coterie
