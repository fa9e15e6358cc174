// Products on tensor cores and loads of their operands, for the GPU in software of emulated_gpu.h.
#pragma once

#include "emulated_gpu.h"

namespace clof::cuda {

namespace emulated {

// d += a b for the warp; take(register, numbers) unpacks the PerRegister numbers of a register. With t = lane % 4 and
// g = lane / 4: register r of a holds row g + 8 (r % 2), and of b column g; both hold numbers PerRegister t to
// PerRegister (t + 1) - 1 of the sum's half r / 2 (of b: r). d holds rows g and g + 8, columns 2 t and 2 t + 1.
template <int PerRegister, class Take> CLOF_UNSEEN void mma(const char* kind, float (&d)[4], const uint32_t (&a)[4],
                                                            uint32_t b0, uint32_t b1, const Take& take) {
  struct Operands {
    float* d;
    const uint32_t* a;
    uint32_t b[2];
  } mine = {d, a, {b0, b1}};
  collective(kind, mine, [&take](auto lane) {
    constexpr int kHalf = 4 * PerRegister, kSum = 2 * kHalf;
    float left[16][kSum], right[kSum][8], sum[16][8], taken[PerRegister];
    for (int k = 0; k < kLanes; ++k) {
      const Operands& operands = lane(k);
      const int g = k / 4, t = k % 4;
      for (int r = 0; r < 4; ++r) {
        take(operands.a[r], left[g + 8 * (r % 2)] + kHalf * (r / 2) + PerRegister * t);
        sum[g + 8 * (r / 2)][2 * t + r % 2] = operands.d[r];
      }
      for (int r = 0; r < 2; ++r) {
        take(operands.b[r], taken);
        for (int i = 0; i < PerRegister; ++i) right[kHalf * r + PerRegister * t + i][g] = taken[i];
      }
    }
    for (int row = 0; row < 16; ++row) {
      for (int i = 0; i < kSum; ++i) {
        for (int column = 0; column < 8; ++column) sum[row][column] += left[row][i] * right[i][column];
      }
    }
    for (int k = 0; k < kLanes; ++k) {
      for (int r = 0; r < 4; ++r) lane(k).d[r] = sum[k / 4 + 8 * (r / 2)][2 * (k % 4) + r % 2];
    }
  });
}

// What a product adds to becomes its result; both may be one.
inline void copy(const float (&from)[4], float (&to)[4]) {
  for (int r = 0; r < 4; ++r) to[r] = from[r];
}

}  // namespace emulated

CLOF_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4]) {
  emulated::copy(c, d);
  // Tensor cores do not read the other 13 bits.
  emulated::mma<1>("mma_tf32", d, a, b0, b1, [](uint32_t x, float* out) { out[0] = float_of(x & 0xffffe000u); });
}
CLOF_DEVICE void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4]) {
  emulated::copy(c, d);
  emulated::mma<2>("mma_bfloat16", d, a, b0, b1, [](uint32_t x, float* out) {
    out[0] = low_bfloat16(x);
    out[1] = high_bfloat16(x);
  });
}
CLOF_DEVICE void mma_float16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const float (&c)[4]) {
  emulated::copy(c, d);
  emulated::mma<2>("mma_float16", d, a, b0, b1, [](uint32_t x, float* out) {
    out[0] = low_float16(x);
    out[1] = high_float16(x);
  });
}

namespace emulated {

// Four matrices of eight rows of eight 16-bit numbers, of which lane 8 k + r names row r of matrix k.
// part(number, lane) is what a lane gets of a matrix with number(row, column).
template <class Part>
CLOF_UNSEEN void load_matrices(const char* kind, uint32_t (&out)[4], const void* row, const Part& part) {
  const Machine& m = machine;
  const uintptr_t offset = reinterpret_cast<uintptr_t>(row) - reinterpret_cast<uintptr_t>(m.shared);
  if (offset % 16 || offset >= m.shared_bytes || offset + 16 > m.shared_bytes) {
    fail_warp(m.thread / kLanes, "address not aligned to 16 bytes, or not of shared memory, in", kind);
  }
  reads_16(row);
  struct Operands {
    uint32_t* out;
    const char* row;
  } mine = {out, static_cast<const char*>(row)};
  collective(kind, mine, [&part](auto lane) {
    for (int k = 0; k < kLanes; ++k) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        const auto number = [&lane, matrix](int row, int column) {
          uint16_t bits;
          std::memcpy(&bits, lane(8 * matrix + row).row + 2 * column, sizeof bits);
          return uint32_t(bits);
        };
        lane(k).out[matrix] = part(number, k);
      }
    }
  });
}

}  // namespace emulated

CLOF_DEVICE void load_transposed(uint32_t (&out)[4], const void* row) {
  emulated::load_matrices("load_transposed", out, row, [](auto number, int lane) {
    return number(2 * (lane % 4), lane / 4) | number(2 * (lane % 4) + 1, lane / 4) << 16;
  });
}
CLOF_DEVICE void load_matrices(uint32_t (&out)[4], const void* row) {
  emulated::load_matrices("load_matrices", out, row, [](auto number, int lane) {
    return number(lane / 4, 2 * (lane % 4)) | number(lane / 4, 2 * (lane % 4) + 1) << 16;
  });
}

}  // namespace clof::cuda
