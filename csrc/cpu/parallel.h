// Work shared among PyTorch's own threads, with its number of threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

namespace clof::cpu {

// Calls body(begin, end) for ranges that together are [0, count), in parallel where there are two grains or more.
template <class Body> void parallel_range(int64_t count, int64_t grain, const Body& body) {
  if (count > 0) torch::stable::parallel_for(0, count, grain, body);
}

// The same with ranges that begin at multiples of the grain, whatever the number of threads.
template <class Body> void parallel_blocks(int64_t count, int64_t grain, const Body& body) {
  parallel_range((count + grain - 1) / grain, 1,
                 [&](int64_t first, int64_t last) { body(first * grain, std::min(last * grain, count)); });
}

// Calls body(begin, end) for ranges of segments with about equal numbers of rows. `start` (count + 1) is the first row
// of each segment. Where the ranges end depends on the graph alone.
template <class Body>
void parallel_segments(const int32_t* start, int64_t count, int64_t rows_per_range, const Body& body) {
  if (count == 0) return;
  const int64_t rows = start[count];
  const int64_t ranges = std::clamp<int64_t>(rows / rows_per_range, 1, count);
  const auto boundary = [&](int64_t range) -> int64_t {
    if (range == 0) return 0;
    if (range == ranges) return count;
    return std::lower_bound(start, start + count, int32_t(rows * range / ranges)) - start;
  };
  parallel_range(ranges, 1, [&](int64_t first, int64_t last) {
    for (int64_t range = first; range < last; ++range) body(boundary(range), boundary(range + 1));
  });
}

}  // namespace clof::cpu
