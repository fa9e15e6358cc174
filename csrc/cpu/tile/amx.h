// The tile registers of Intel's AMX, and the same in software for tests on other processors.
//
// There are eight, each a matrix of 16 rows of 64 bytes. An instruction names its registers, so the number of a
// register is part of its type; the compilers' intrinsics would take literal numbers only.
#pragma once

#include "register.h"

#if defined(__AVX512F__) && defined(__x86_64__)
#define CLOF_TILES 1

#include <immintrin.h>

namespace clof {
inline namespace CLOF_ISA {

constexpr int kTileRegisterRows = 16;
constexpr int kTileRegisterBytes = 64;

struct Amx {
  // Before a thread's first use of its registers: all of them whole.
  static void configure() {
    struct alignas(64) Configuration {
      uint8_t palette, start_row, reserved[14];
      uint16_t bytes_of_row[16];
      uint8_t rows[16];
    };
    Configuration all = {};
    all.palette = 1;
    for (int number = 0; number < 8; ++number) {
      all.bytes_of_row[number] = kTileRegisterBytes;
      all.rows[number] = kTileRegisterRows;
    }
    asm volatile("ldtilecfg %0" ::"m"(all));
  }

  // After its last use: the registers are no longer saved where threads change.
  static void release() { asm volatile("tilerelease"); }

  template <int Number> struct Tile {
    // `stride` is in bytes; 0 gives every row the same numbers.
    CLOF_HD void load(const void* from, int64_t stride) {
      asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(Number) : "memory");
    }

    CLOF_HD void store(void* to, int64_t stride) const {
      asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(Number) : "memory");
    }

    // Adds the product of two matrices of bfloat16 numbers: rows of 32 numbers, and 16 columns of 32, each row of
    // the latter register with two numbers of every column.
    template <int Left, int Right> CLOF_HD void add_product(const Tile<Left>&, const Tile<Right>&) {
      asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Number), "i"(Left), "i"(Right));
    }
  };
};

// Every instruction as Intel's manual defines it, that products flush denormal numbers included.
struct EmulatedAmx {
  static void configure() { configured() = true; }
  static void release() { configured() = false; }

  template <int Number> struct Tile {
    uint32_t rows[kTileRegisterRows][kTileRegisterBytes / 4];

    void load(const void* from, int64_t stride) {
      check();
      for (int r = 0; r < kTileRegisterRows; ++r) {
        std::memcpy(rows[r], static_cast<const char*>(from) + r * stride, kTileRegisterBytes);
      }
    }

    void store(void* to, int64_t stride) const {
      check();
      for (int r = 0; r < kTileRegisterRows; ++r) {
        std::memcpy(static_cast<char*>(to) + r * stride, rows[r], kTileRegisterBytes);
      }
    }

    template <int Left, int Right> void add_product(const Tile<Left>& left, const Tile<Right>& right) {
      check();
      constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x40, nearest_and_masked = 0x1f80;
      const unsigned before = _mm_getcsr();
      _mm_setcsr(nearest_and_masked | flush_to_zero | denormals_are_zero);
      multiply(left.rows[0], right.rows[0], rows[0]);
      _mm_setcsr(before);
    }
  };

 private:
  static bool& configured() {
    static thread_local bool value = false;
    return value;
  }

  // Registers that are not configured fault, as the processor's do.
  static void check() {
    if (!configured()) __builtin_trap();
  }

  // Not inlined: it must stay between the two changes of the rounding mode.
  __attribute__((noinline)) static void multiply(const uint32_t* left, const uint32_t* right, uint32_t* to) {
    const __m512i upper_half = _mm512_set1_epi32(int(0xffff0000));
    for (int m = 0; m < kTileRegisterRows; ++m) {
      // Numbers at even and at odd places of the inner dimension have sums of their own.
      __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
      for (int k = 0; k < kTileRegisterRows; ++k) {
        const __m512i x = _mm512_set1_epi32(int(left[m * kTileRegisterRows + k]));
        const __m512i y = _mm512_loadu_si512(right + k * kTileRegisterRows);
        even = _mm512_fmadd_ps((__m512)((__v16su)x << 16), (__m512)((__v16su)y << 16), even);
        odd = _mm512_fmadd_ps((__m512)_mm512_and_si512(x, upper_half), (__m512)_mm512_and_si512(y, upper_half), odd);
      }
      float* row = reinterpret_cast<float*>(to + m * kTileRegisterRows);
      _mm512_storeu_ps(row, _mm512_add_ps(_mm512_loadu_ps(row), _mm512_add_ps(even, odd)));
    }
  }
};

}  // namespace CLOF_ISA
}  // namespace clof

#endif
