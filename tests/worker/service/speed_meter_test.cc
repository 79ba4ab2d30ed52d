#include "worker/service/speed_meter.h"

#include "coterie/v1/worker.pb.h"
#include "gtest/gtest.h"

namespace coterie::worker {
namespace {

TEST(RecentRatioTest, SaysNothingOfTooLittleAndForgetsWhatIsLongAgo) {
  RecentRatio ratio(/*least=*/1, /*window=*/10);
  EXPECT_EQ(ratio.value(), 0);
  ratio.Add(50, 0.5);
  EXPECT_EQ(ratio.value(), 0);
  ratio.Add(50, 0.5);
  EXPECT_DOUBLE_EQ(ratio.value(), 100);
  ratio.Add(0, 0);  // a pause
  EXPECT_DOUBLE_EQ(ratio.value(), 100);
  for (int i = 0; i < 100; ++i) ratio.Add(1000, 1);
  EXPECT_NEAR(ratio.value(), 1000, 1);
  ratio.Add(1e9, 1);  // one odd value counts as what it is, a tenth of the window
  for (int i = 0; i < 200; ++i) ratio.Add(1000, 1);
  EXPECT_NEAR(ratio.value(), 1000, 1);
}

TEST(SpeedMeterTest, MeasuresByWhatTheCountersGained) {
  EngineStats engine;
  AdapterStoreStats adapters;
  SpeedMeter meter;
  v1::WorkerState state;
  meter.Read(engine, adapters);
  meter.Fill(&state);
  EXPECT_EQ(state.tokens_per_second(), 0);
  EXPECT_EQ(state.prefill_tokens_per_second(), 0);
  EXPECT_EQ(state.adapter_load_bytes_per_second(), 0);
  EXPECT_EQ(state.answer_tokens(), 0);

  engine.step_seconds.Observe(1.0);
  engine.generated_tokens = 80;
  engine.prompt_step_tokens = 3000;
  engine.prompt_step_nanos = 500'000'000;
  adapters.loaded_bytes = 4'000'000;
  adapters.load_nanos = 20'000'000;
  for (int i = 0; i < 10; ++i) meter.NoteAnswer(i < 5 ? 10 : 30);
  meter.Read(engine, adapters);
  meter.Fill(&state);
  EXPECT_DOUBLE_EQ(state.tokens_per_second(), 80);
  EXPECT_DOUBLE_EQ(state.prefill_tokens_per_second(), 6000);
  EXPECT_NEAR(state.adapter_load_bytes_per_second(), 2e8, 1);
  EXPECT_DOUBLE_EQ(state.answer_tokens(), 20);

  meter.Read(engine, adapters);  // idle: as before
  meter.Fill(&state);
  EXPECT_DOUBLE_EQ(state.tokens_per_second(), 80);
  EXPECT_DOUBLE_EQ(state.prefill_tokens_per_second(), 6000);
}

}  // namespace
}  // namespace coterie::worker
