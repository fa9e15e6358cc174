// Products of bfloat16 weights on AMD processors that multiply pairs of bfloat16 numbers: twice the speed of float32.
// Sums stay in float32; rows of a tile are rounded where they enter a product. On Intel's processors the float32
// products of product.h measured faster.
#pragma once

#include "packed.h"

#if defined(__AVX512F__)
#define CLOF_BFLOAT16_PAIRS 1
#endif

namespace clof {
inline namespace CLOF_ISA {

#ifdef CLOF_BFLOAT16_PAIRS

// Two rows of a matrix in one: a number holds the upper row's in its lower half.
inline uint32_t pair_of(float low, float high) {
  return uint32_t(Narrow<BFloat16>::from(low).bits) | uint32_t(Narrow<BFloat16>::from(high).bits) << 16;
}

// Rounds `rows` rows of `columns` floats to pairs of neighbouring columns; an odd column's partner is 0.
__attribute__((target("avx512bf16"))) inline void round_rows(const float* from, int64_t stride, int rows,
                                                             int64_t columns, uint32_t* to, int64_t to_stride) {
  for (int r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; c += 16) {
      const int64_t left = columns - c;
      const __mmask16 mask = left < 16 ? __mmask16((1u << left) - 1) : __mmask16(0xffff);
      const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + r * stride + c));
      std::memcpy(to + r * to_stride + c / 2, &rounded, sizeof rounded);
    }
  }
}

// to[r] = init[r] + from[r] * weight for a block of rows, both factors as pairs; see product_block.
template <int Rows, int Registers>
__attribute__((target("avx512bf16"))) void pairs_block(const uint32_t* from, int64_t from_stride, int64_t pairs,
                                                       const uint32_t* weight, const float* init, int64_t init_stride,
                                                       float* to, int64_t to_stride) {
  __m512 sum[Rows][Registers];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < Registers; ++c) sum[r][c] = _mm512_loadu_ps(init + r * init_stride + 16 * c);
#pragma GCC unroll 2
  for (int64_t k = 0; k < pairs; ++k) {
    __m512i row[Registers];
#pragma GCC unroll 8
    for (int c = 0; c < Registers; ++c) row[c] = _mm512_loadu_si512(weight + (k * Registers + c) * 16);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const __m512i x = _mm512_set1_epi32(int(from[r * from_stride + k]));
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) sum[r][c] = _mm512_dpbf16_ps(sum[r][c], (__m512bh)x, (__m512bh)row[c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < Registers; ++c) _mm512_storeu_ps(to + r * to_stride + 16 * c, sum[r][c]);
}

// Puts the rows of a matrix together in pairs, in its own memory: what is written lies before what is still to be read.
inline void make_pairs(const Packed<float>& weight) {
  const int64_t width = padded<float>(weight.columns), pairs = (weight.depth + 1) / 2;
  uint32_t* to = reinterpret_cast<uint32_t*>(weight.data);
  for (int64_t first = 0; first < width; first += kPanel<float>) {
    const int64_t columns = width - first < kPanel<float> ? width - first : kPanel<float>;
    const float* panel = weight.data + first * weight.depth;
    for (int64_t k = 0; k < pairs; ++k) {
      for (int64_t c = 0; c < columns; ++c) {
        const float low = panel[2 * k * columns + c];
        const float high = 2 * k + 1 < weight.depth ? panel[(2 * k + 1) * columns + c] : 0.0f;
        const uint32_t pair = pair_of(low, high);
        std::memcpy(to + first * pairs + k * columns + c, &pair, sizeof pair);
      }
    }
  }
}

// The same block of rows as product_block, for all panels.
inline void pairs_product(const float* from, int64_t from_stride, const Packed<float>& weight, const float* init,
                          int64_t init_stride, float* to, int64_t to_stride) {
  // Columns of `from` that are rounded at a time.
  constexpr int64_t kDepth = 512;
  alignas(64) uint32_t rounded[kBlockRows * kDepth / 2];
  const int64_t width = padded<float>(weight.columns), all_pairs = (weight.depth + 1) / 2;
  for (int64_t first = 0; first < weight.depth || first == 0; first += kDepth) {
    const int64_t left = weight.depth - first, depth = left < kDepth ? left : kDepth;
    round_rows(from + first, from_stride, kBlockRows, depth, rounded, kDepth / 2);
    for_panels<float>(width, [&](auto registers, int64_t column) {
      constexpr int count = decltype(registers)::value;
      const uint32_t* panel = reinterpret_cast<const uint32_t*>(weight.data) + column * all_pairs;
      pairs_block<kBlockRows, count>(rounded, kDepth / 2, (depth + 1) / 2, panel + first / 2 * count * kLanes<float>,
                                     first == 0 ? init + column : to + column, first == 0 ? init_stride : to_stride,
                                     to + column, to_stride);
    });
  }
}

// Rounds the rows of a matrix to pairs of numbers of neighbouring rows; an odd row's partner is 0. Columns are padded.
__attribute__((target("avx512bf16"))) inline void pair_rows(const float* from, int64_t stride, int64_t rows,
                                                            int64_t columns, uint32_t* to) {
  for (int64_t r = 0; r < rows; r += 2) {
    for (int64_t c = 0; c < columns; c += 16) {
      const float* at = from + r * stride + c;
      const __m512 low = _mm512_loadu_ps(at), high = r + 1 < rows ? _mm512_loadu_ps(at + stride) : _mm512_setzero_ps();
      const __m512i low_bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
      const __m512i high_bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
      _mm512_storeu_si512(to + r / 2 * stride + c, _mm512_or_si512(low_bits, _mm512_slli_epi32(high_bits, 16)));
    }
  }
}

// The same as OuterBlock, of rows in pairs.
struct PairsOuterBlock {
  template <int Rows, int Registers>
  __attribute__((target("avx512bf16"))) static void run(const uint32_t* left, int64_t left_stride,
                                                        const uint32_t* right, int64_t right_stride, int64_t pairs,
                                                        float* to, int64_t to_stride) {
    __m512 sum[Rows][Registers];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) sum[m][c] = _mm512_loadu_ps(to + m * to_stride + 16 * c);
#pragma GCC unroll 2
    for (int64_t k = 0; k < pairs; ++k) {
      __m512i row[Registers];
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) row[c] = _mm512_loadu_si512(right + k * right_stride + 16 * c);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        const __m512i x = _mm512_set1_epi32(int(left[k * left_stride + m]));
#pragma GCC unroll 8
        for (int c = 0; c < Registers; ++c) sum[m][c] = _mm512_dpbf16_ps(sum[m][c], (__m512bh)x, (__m512bh)row[c]);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) _mm512_storeu_ps(to + m * to_stride + 16 * c, sum[m][c]);
  }
};

#endif

}  // namespace CLOF_ISA
}  // namespace clof
