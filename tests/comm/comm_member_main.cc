// One member of a group over Gloo, as a process that a test can lose:
//   comm_member <folder> <group> <rank> <members> <timeout in ms> <step> <signal>
// At its step of that number it says "reached" and sends itself the signal. Otherwise it ends with a line
// that says how it went.
#include <signal.h>

#include <cstdio>
#include <cstdlib>

#include "kernels/comm/gloo.h"
#include "tests/comm/file_rendezvous.h"
#include "tests/comm/script.h"

int main(int argc, char** argv) {
  using coterie::CommunicatorOptions;
  using coterie::Status;
  using coterie::StatusOr;
  namespace comm_testing = coterie::comm_testing;
  if (argc != 8) return 2;
  const absl::Duration timeout = absl::Milliseconds(std::atoi(argv[5]));
  const int lose_at = std::atoi(argv[6]), signal_number = std::atoi(argv[7]);
  CommunicatorOptions options{
      .group = argv[2], .epoch = 1, .rank = std::atoi(argv[3]), .form_timeout = timeout};
  for (int rank = 0; rank < std::atoi(argv[4]); ++rank) options.members.push_back(absl::StrCat("m", rank));
  int step = 0;
  options.on_step = [&](std::string_view) {
    if (step++ != lose_at) return;
    std::puts("reached");
    std::fflush(stdout);
    raise(signal_number);
  };
  StatusOr<std::unique_ptr<coterie::Communicator>> member = coterie::CreateGlooCommunicator(
      {.address = "127.0.0.1"}, std::make_shared<comm_testing::FileRendezvous>(argv[1]), options);
  const Status status =
      !member.ok()
          ? member.status()
          : comm_testing::RunScript(member->get(), {.timeout = timeout}, [](size_t n) {
              return std::shared_ptr<std::byte>(new std::byte[n + 1], std::default_delete<std::byte[]>());
            });
  std::puts(status.ToString().c_str());
}
