// Writing results that are too large for the caches past them.
#pragma once

#include <algorithm>
#include <cstring>

#include "loops.h"

namespace clof {
inline namespace CLOF_ISA {

// A result of this size is not in the caches any more when somebody reads it; a smaller one may well be.
constexpr int64_t kStreamBytes = 8 << 20;
// Rows are made in a buffer that stays in the first-level cache.
constexpr int64_t kBufferBytes = 16 << 10;
// Whole cache lines for any row width and any type of two bytes or more.
constexpr int64_t kRowsPerStep = 32;

// Copies whole cache lines without reading the destination first, as ordinary stores do.
inline void copy_streaming(void* to, const void* from, int64_t bytes) {
#if defined(__AVX512F__) || defined(__AVX__)
  constexpr int64_t step = CLOF_VECTOR_BYTES;
  if (reinterpret_cast<uintptr_t>(to) % step == 0) {
    auto* target = static_cast<char*>(to);
    const auto* source = static_cast<const char*>(from);
    int64_t done = 0;
    for (; done + step <= bytes; done += step) {
#if defined(__AVX512F__)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(target + done), _mm512_loadu_si512(source + done));
#else
      const auto* line = reinterpret_cast<const __m256i*>(source + done);
      _mm256_stream_si256(reinterpret_cast<__m256i*>(target + done), _mm256_loadu_si256(line));
#endif
    }
    std::memcpy(target + done, source + done, bytes - done);
    return;
  }
#endif
  std::memcpy(to, from, bytes);
}

// Runs make(first, last, base) so that it writes rows first..last - 1 of a (rows, width) array at base + row * width:
// in place where the array is small, else by way of a buffer.
template <class U, class Make>
void write_rows(void* array, int64_t rows, int64_t width, int64_t begin, int64_t end, const Make& make) {
  U* out = static_cast<U*>(array);
  const int64_t row_bytes = width * int64_t(sizeof(U));
  const int64_t step = kBufferBytes / std::max<int64_t>(row_bytes, 1) / kRowsPerStep * kRowsPerStep;
  if (rows * row_bytes < kStreamBytes || step == 0) return make(begin, end, out);
  alignas(64) char buffer[kBufferBytes];
  for (int64_t first = begin; first < end; first += step) {
    const int64_t last = std::min(first + step, end);
    make(first, last, reinterpret_cast<U*>(buffer) - first * width);
    copy_streaming(out + first * width, buffer, (last - first) * row_bytes);
  }
#if defined(__AVX__)
  _mm_sfence();
#endif
}

}  // namespace CLOF_ISA
}  // namespace clof
