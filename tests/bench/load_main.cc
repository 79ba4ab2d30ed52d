// How long a base takes from its file to its first token, beside the time that reading the file takes at
// best, as one JSON object.
//
//   bench_load FILE.gguf [--shape=8b --dtype=Q4_1] [--rounds=N] [--weights=as-is|q8_0|q4_1]
//
// A file that is not there is made, of random weights of that shape and type; it needs as much memory while
// it is made. Each round reads and loads it with nothing of it in the page cache, and then with all of it. A
// file is read by all cores at once: into a buffer that is used again, and into memory that stays, which is
// the least that any loader without mapped weights does.
#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "common/file_descriptor.h"
#include "common/on_all_cores.h"
#include "kernels/cpu/aligned_buffer.h"
#include "model/decoder/decoder.h"
#include "model/decoder/memory_plan.h"
#include "tests/bench/harness.h"
#include "tests/bench/made_model.h"
#include "tests/model/decoder/sequences.h"

namespace coterie::bench {
namespace {

constexpr size_t kReadBytes = size_t{4} << 20;

struct Flags {
  std::string file;
  std::string shape = "8b";
  std::string dtype = "Q4_1";
  int rounds = 3;
  BackendFlags backend;
  WeightsFlag weights;
};

Status MakeFile(const Flags& flags) {
  ASSIGN_OR_RETURN(const ModelConfig config, ShapeNamed(flags.shape));
  ASSIGN_OR_RETURN(const DType dtype, DTypeNamed(flags.dtype));
  ASSIGN_OR_RETURN(const std::unique_ptr<MadeModel> made, MadeModel::Make(config, dtype));
  return made->Write(flags.file);
}

StatusOr<FileDescriptor> OpenFile(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoStatus(errno, "cannot open", path);
  return fd;
}

// Only pages that are nowhere mapped and on the disk go.
Status LeavePageCache(const std::string& path) {
  ASSIGN_OR_RETURN(const FileDescriptor fd, OpenFile(path));
  if (::fsync(fd.get()) != 0) return ErrnoStatus(errno, "cannot flush", path);
  if (const int error = ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED); error != 0) {
    return ErrnoStatus(error, "cannot drop the pages of", path);
  }
  return absl::OkStatus();
}

// Reads the whole file on all cores; to[i] is where its i-th piece goes.
StatusOr<double> SecondsToRead(const std::string& path, const std::function<uint8_t*(size_t)>& to) {
  const Clock::time_point start = Clock::now();
  ASSIGN_OR_RETURN(const FileDescriptor fd, OpenFile(path));
  const size_t bytes = std::filesystem::file_size(path);
  const auto n = static_cast<int64_t>((bytes + kReadBytes - 1) / kReadBytes);
  RETURN_IF_ERROR(OnAllCores(n, [&](int64_t i) -> Status {
    const size_t begin = static_cast<size_t>(i) * kReadBytes;
    const size_t end = std::min(bytes, begin + kReadBytes);
    uint8_t* const memory = to(begin);
    for (size_t at = begin; at < end;) {
      const ssize_t n_read = ::pread(fd.get(), memory + (at - begin), end - at, static_cast<off_t>(at));
      if (n_read <= 0) return ErrnoStatus(n_read < 0 ? errno : EIO, "cannot read", path);
      at += static_cast<size_t>(n_read);
    }
    return absl::OkStatus();
  }));
  return Seconds(start);
}

StatusOr<double> SecondsToReadAgain(const std::string& path) {
  return SecondsToRead(path, [](size_t) {
    thread_local std::vector<uint8_t> buffer(kReadBytes);
    return buffer.data();
  });
}

StatusOr<double> SecondsToReadAndKeep(const std::string& path) {
  const cpu::AlignedBuffer memory(std::filesystem::file_size(path), cpu::AlignedBuffer::Pages::kLater);
  if (memory.data() == nullptr) return absl::ResourceExhaustedError("no memory to read the file into");
  return SecondsToRead(path, [&](size_t begin) { return memory.data() + begin; });
}

uint64_t PeakMb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024 / 1'000'000;
  }
  return 0;
}
void ForgetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

Status CheckAnswers(Decoder* decoder) {
  testing::TestSequence sequence;
  sequence.tokens = {1, 2, 3};
  sequence.UseBlocks(0, 3);
  Batch batch;
  batch.Clear();
  testing::AddToBatch(&sequence, 3, testing::LogitRows::kLast, &batch);
  ASSIGN_OR_RETURN(const std::span<const float> logits, testing::RunForLogits(decoder, &batch));
  for (const float logit : logits) {
    if (!std::isfinite(logit)) return absl::InternalError("a logit is not a finite number");
  }
  return absl::OkStatus();
}

struct Loaded {
  double seconds = 0, first_token_seconds = 0;
  double resident_mb = 0, peak_mb = 0, planned_mb = 0;
};

StatusOr<Loaded> Load(const Flags& flags) {
  Loaded loaded;
  ForgetPeak();
  const double before = ResidentMb();
  const Clock::time_point start = Clock::now();
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(flags.file));
  ASSIGN_OR_RETURN(std::unique_ptr<DecoderOps> backend, CreateCpuDecoderOps(flags.backend.Options()));
  DecoderOptions options;
  options.n_kv_blocks = 64;
  options.float_weights = flags.weights.FloatWeights();
  ASSIGN_OR_RETURN(const MemoryPlan plan, PlanMemory(*files, options, *backend));
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder,
                   Decoder::Create(*files, std::move(backend), options));
  loaded.seconds = Seconds(start);
  loaded.resident_mb = ResidentMb() - before;
  loaded.peak_mb = static_cast<double>(PeakMb()) - before;
  loaded.planned_mb = static_cast<double>(plan.bytes_at_start()) / 1e6;
  RETURN_IF_ERROR(CheckAnswers(decoder.get()));
  loaded.first_token_seconds = Seconds(start);
  return loaded;
}

Status Run(const Flags& flags) {
  if (!std::filesystem::exists(flags.file)) RETURN_IF_ERROR(MakeFile(flags));
  std::map<std::string, std::vector<double>> results;
  for (int round = 0; round < flags.rounds; ++round) {
    for (const std::string cache : {"cold", "warm"}) {
      const bool cold = cache == "cold";
      const auto add = [&](const std::string& name, double value) {
        results[cache + "_" + name].push_back(value);
      };
      if (cold) RETURN_IF_ERROR(LeavePageCache(flags.file));
      ASSIGN_OR_RETURN(const double read, SecondsToReadAgain(flags.file));
      if (cold) RETURN_IF_ERROR(LeavePageCache(flags.file));
      ASSIGN_OR_RETURN(const double kept, SecondsToReadAndKeep(flags.file));
      if (cold) RETURN_IF_ERROR(LeavePageCache(flags.file));
      ASSIGN_OR_RETURN(const Loaded loaded, Load(flags));
      add("read_seconds", read);
      add("read_and_keep_seconds", kept);
      add("load_seconds", loaded.seconds);
      add("first_token_seconds", loaded.first_token_seconds);
      add("load_to_read", loaded.seconds / read);
      add("load_to_read_and_keep", loaded.seconds / kept);
      add("resident_mb", loaded.resident_mb);
      add("peak_mb", loaded.peak_mb);
      add("planned_mb", loaded.planned_mb);
    }
  }
  std::printf("{\"file_mb\": %.1f, \"rounds\": %d",
              static_cast<double>(std::filesystem::file_size(flags.file)) / 1e6, flags.rounds);
  for (const auto& [name, values] : results) std::printf(",\n \"%s\": %.4g", name.c_str(), Median(values));
  std::printf("}\n");
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::Flags values;
  coterie::FlagSet flags("bench_load", "From a base's file to its first token, beside reading the file.");
  flags.Positionals("FILE.gguf", 1, 1);
  flags.String("shape", &values.shape, "NAME", "of a file that is made: tiny, 135m, 1b, 8b or 70b");
  flags.String("dtype", &values.dtype, "TYPE", "of its matrices: Q4_1, BF16 and the like");
  flags.Int("rounds", &values.rounds, 1, 100, "N", "times over all cases; medians are printed");
  values.backend.Declare(&flags);
  values.weights.Declare(&flags);
  return coterie::bench::Main(&flags, argc, argv, [&] {
    values.file = flags.positionals()[0];
    return coterie::bench::Run(values);
  });
}
