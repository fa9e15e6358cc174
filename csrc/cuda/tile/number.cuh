// The kinds of numbers that products take: how they lie in memory, and how a product of 16 rows, d = a b + c, is made.
//
// An exact Kind loses no more than float32 does. A Kind reads and writes 16 bytes, a group of kGroup numbers, at a
// time. A lane holds its groups of a row in the order in which tensor cores want operands, so that what one product
// leaves in registers is the next one's operand: rows.cuh says which.
#pragma once

#include "warp.cuh"

namespace clof::cuda {

// float32 in memory; products take each number rounded to TF32.
struct Tf32 {
  using Stored = float;
  static constexpr int kGroup = 4;
  static constexpr bool kHalf = false, kExact = false;

  CLOF_DEVICE static uint32_t operand(float x) { return to_tf32(x); }
  // What lies in the image of weights: rounded once, where that is made.
  CLOF_DEVICE static float prepared(float x) { return float_of(to_tf32(x)); }
  CLOF_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                   const float (&c)[4]) {
    mma_tf32(d, a, b0, b1, c);
  }
};

// float32 in memory; each number is the sum of two of TF32, and three of the four products are made: what is left out
// is below float32's rounding.
struct Tf32x3 {
  using Stored = float;
  static constexpr int kGroup = 4;
  static constexpr bool kHalf = false, kExact = true;

  CLOF_DEVICE static uint32_t operand(float x) { return bits_of(x); }
  CLOF_DEVICE static float prepared(float x) { return x; }
  CLOF_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                   const float (&c)[4]) {
    uint32_t large[4], small[4];
    for (int k = 0; k < 4; ++k) split(a[k], large[k], small[k]);
    uint32_t b0_large, b0_small, b1_large, b1_small;
    split(b0, b0_large, b0_small);
    split(b1, b1_large, b1_small);
    mma_tf32(d, small, b0_large, b1_large, c);
    mma_tf32(d, large, b0_small, b1_small, d);
    mma_tf32(d, large, b0_large, b1_large, d);
  }

 private:
  CLOF_DEVICE static void split(uint32_t x, uint32_t& large, uint32_t& small) {
    large = to_tf32(float_of(x));
    small = to_tf32(float_of(x) - float_of(large));
  }
};

// 16 bits in memory and in products, sums in float32.
struct BFloat16Kind {
  using Stored = uint16_t;
  static constexpr int kGroup = 8;
  static constexpr bool kHalf = true, kExact = false;

  CLOF_DEVICE static uint32_t pack(float low, float high) { return pack_bfloat16(low, high); }
  CLOF_DEVICE static float low(uint32_t pair) { return low_bfloat16(pair); }
  CLOF_DEVICE static float high(uint32_t pair) { return high_bfloat16(pair); }
  CLOF_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                   const float (&c)[4]) {
    mma_bfloat16(d, a, b0, b1, c);
  }
};

struct Float16Kind {
  using Stored = uint16_t;
  static constexpr int kGroup = 8;
  static constexpr bool kHalf = true, kExact = false;

  CLOF_DEVICE static uint32_t pack(float low, float high) { return pack_float16(low, high); }
  CLOF_DEVICE static float low(uint32_t pair) { return low_float16(pair); }
  CLOF_DEVICE static float high(uint32_t pair) { return high_float16(pair); }
  CLOF_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                   const float (&c)[4]) {
    mma_float16(d, a, b0, b1, c);
  }
};

// 64 bytes: what the four lanes of a row read at a time.
template <class Kind> constexpr int kUnit = 4 * Kind::kGroup;

// One number of an array in memory.
template <class Kind> CLOF_DEVICE float load_number(const void* base, int64_t index) {
  const auto value = static_cast<const typename Kind::Stored*>(base)[index];
  if constexpr (Kind::kHalf) return Kind::low(value);
  else return value;
}
template <class Kind> CLOF_DEVICE void store_number(void* base, int64_t index, float value) {
  auto& place = static_cast<typename Kind::Stored*>(base)[index];
  if constexpr (Kind::kHalf) place = uint16_t(Kind::pack(value, 0.0f));
  else place = value;
}

// A group of numbers to 16 bytes and back.
template <class Kind> CLOF_DEVICE void unpack_group(uint4 words, float (&values)[Kind::kGroup]) {
  const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if constexpr (Kind::kHalf) {
      values[2 * k] = Kind::low(word[k]);
      values[2 * k + 1] = Kind::high(word[k]);
    } else {
      values[k] = float_of(word[k]);
    }
  }
}
template <class Kind> CLOF_DEVICE uint4 pack_group(const float (&values)[Kind::kGroup]) {
  uint32_t word[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if constexpr (Kind::kHalf) word[k] = Kind::pack(values[2 * k], values[2 * k + 1]);
    else word[k] = bits_of(values[k]);
  }
  return {word[0], word[1], word[2], word[3]};
}

}  // namespace clof::cuda
