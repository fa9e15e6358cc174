// The software that stands in for AMX against the definition of its instructions, number by number, and against AMX
// itself where this processor has it. Prints a line for each check; the exit code is the number of failures.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <random>

#define CLOF_X86
#include "../../csrc/cpu/processor.cpp"
#include "../../csrc/cpu/tile/amx.h"

using namespace clof;

constexpr int kSide = kTileRegisterRows;

static int failures = 0;

static void expect(bool holds, const char* what) {
  std::printf("%-72s %s\n", what, holds ? "ok" : "WRONG");
  failures += !holds;
}

struct Matrices {
  BFloat16 left[kSide][2 * kSide], right[kSide][2 * kSide];
  float sum[kSide][kSide];
};

// Numbers of very different sizes, among them denormal ones and some whose product is.
static Matrices random_matrices(bool finite) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> exponent(-6, 6), rare(0, 40);
  const auto number = [&] {
    switch (rare(generator)) {
      case 0: return 1e-40f;
      case 1: return -3e-25f;
      case 2: return finite ? 0.0f : std::numeric_limits<float>::infinity();
      default: return std::ldexp(normal(generator), exponent(generator));
    }
  };
  Matrices m;
  for (auto* rows : {m.left, m.right}) {
    for (int r = 0; r < kSide; ++r) {
      for (BFloat16& x : rows[r]) x = Narrow<BFloat16>::from(number());
    }
  }
  for (auto& row : m.sum) {
    for (float& x : row) x = number();
  }
  return m;
}

static float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

// Intel's manual, volume 2, TDPBF16PS.
static void define(Matrices& m) {
  for (int row = 0; row < kSide; ++row) {
    for (int column = 0; column < kSide; ++column) {
      float sums[2] = {0, 0};
      for (int k = 0; k < kSide; ++k) {
        for (int half = 0; half < 2; ++half) {
          const float x = flushed(widen(m.left[row][2 * k + half])), y = flushed(widen(m.right[k][2 * column + half]));
          sums[half] = flushed(std::fma(x, y, sums[half]));
        }
      }
      m.sum[row][column] = flushed(flushed(m.sum[row][column]) + flushed(sums[0] + sums[1]));
    }
  }
}

template <class Unit> static void run(Matrices& m) {
  typename Unit::template Tile<0> sum;
  typename Unit::template Tile<4> left;
  typename Unit::template Tile<7> right;
  Unit::configure();
  sum.load(m.sum, sizeof m.sum[0]);
  left.load(m.left, sizeof m.left[0]);
  right.load(m.right, sizeof m.right[0]);
  sum.add_product(left, right);
  sum.store(m.sum, sizeof m.sum[0]);
  Unit::release();
}

// Two NaN are the same, whatever their bits.
static bool same(const Matrices& one, const Matrices& two) {
  for (int r = 0; r < kSide; ++r) {
    for (int c = 0; c < kSide; ++c) {
      const float x = one.sum[r][c], y = two.sum[r][c];
      if (x != y && !(std::isnan(x) && std::isnan(y))) return false;
    }
  }
  return true;
}

template <class Reference> static bool agrees(const Reference& reference, bool finite) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    Matrices found = random_matrices(finite), expected = found;
    run<EmulatedAmx>(found);
    reference(expected);
    if (!same(found, expected)) return false;
  }
  return true;
}

static bool rows_repeat() {
  Matrices m = random_matrices(true);
  EmulatedAmx::Tile<1> tile;
  EmulatedAmx::configure();
  tile.load(m.sum[3], 0);
  tile.store(m.sum, sizeof m.sum[0]);
  EmulatedAmx::release();
  for (const auto& row : m.sum) {
    if (std::memcmp(row, m.sum[3], sizeof row) != 0) return false;
  }
  return true;
}

static bool faults_without_configuration() {
  const pid_t child = fork();
  if (child == 0) {
    float numbers[kSide][kSide] = {};
    EmulatedAmx::Tile<0>().load(numbers, sizeof numbers[0]);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status);
}

int main() {
  if (!cpu::Processor().avx512) return std::printf("no AVX-512\n"), 0;
  expect(agrees(define, true), "products, of denormal numbers too, are as defined");
  expect(agrees(define, false), "infinite numbers and NaN are as defined");
  expect(rows_repeat(), "a stride of 0 repeats a row");
  expect(faults_without_configuration(), "registers that are not configured fault");
  if (cpu::Processor().amx_bfloat16) expect(agrees(run<Amx>, true), "AMX gives the same bits");
  std::printf("%d failures\n", failures);
  return failures;
}
