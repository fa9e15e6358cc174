// The software that stands in for a GPU: products and exchanges against the definitions of their instructions, number
// by number, and that it notices kernels that are wrong. Prints a line for each check; the exit code is 1 if one fails.
#include "emulated_gpu.h"
#include "emulated_copies.h"
#include "emulated_products.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <limits>
#include <random>
#include <string>

using namespace clof::cuda;

static int failures = 0;

static void expect(bool holds, const char* what) {
  std::printf("%-72s %s\n", what, holds ? "ok" : "WRONG");
  failures += !holds;
}

static std::mt19937 generator(1);
static float random_number() { return std::normal_distribution<float>()(generator); }

// The fragments as PTX's manual writes them: element i of a lane's part of a matrix. ("Matrix Fragments for
// mma.m16n8k8" of .tf32, "for mma.m16n8k16 with floating point type".)
struct Tf32 {
  static constexpr int sum = 8, per_register = 1;
  static int a_row(int lane, int i) { return i == 0 || i == 2 ? lane >> 2 : (lane >> 2) + 8; }
  static int a_column(int lane, int i) { return i < 2 ? lane % 4 : lane % 4 + 4; }
  static int b_row(int lane, int i) { return i == 0 ? lane % 4 : lane % 4 + 4; }
  static uint32_t pack(const float* x) { return bits_of(*x); }
  static float read(float x) { return float_of(bits_of(x) >> 13 << 13); }
  static constexpr auto mma = mma_tf32;
};
struct Bits16 {
  static constexpr int sum = 16, per_register = 2;
  static int a_row(int lane, int i) { return i < 2 || (i >= 4 && i < 6) ? lane >> 2 : (lane >> 2) + 8; }
  static int a_column(int lane, int i) { return i < 4 ? lane % 4 * 2 + (i & 1) : lane % 4 * 2 + (i & 1) + 8; }
  static int b_row(int lane, int i) { return i < 2 ? lane % 4 * 2 + (i & 1) : lane % 4 * 2 + (i & 1) + 8; }
};
struct BFloat16 : Bits16 {
  static uint32_t pack(const float* x) { return pack_bfloat16(x[0], x[1]); }
  static float read(float x) { return low_bfloat16(pack_bfloat16(x, 0)); }
  static constexpr auto mma = mma_bfloat16;
};
struct Float16 : Bits16 {
  static uint32_t pack(const float* x) { return pack_float16(x[0], x[1]); }
  static float read(float x) { return low_float16(pack_float16(x, 0)); }
  static constexpr auto mma = mma_float16;
};

template <class Kind> static void check_mma(const char* what) {
  constexpr int warps = 3;
  float a[warps][16][Kind::sum], b[warps][Kind::sum][8], c[warps][16][8], out[warps][16][8];
  for (int w = 0; w < warps; ++w) {
    for (auto& row : a[w]) {
      for (float& x : row) x = random_number();
    }
    for (auto& row : b[w]) {
      for (float& x : row) x = random_number();
    }
    for (auto& row : c[w]) {
      for (float& x : row) x = random_number();
    }
  }
  launch(1, 32 * warps, 0, [&] {
    const int w = thread_index() / 32, lane = thread_index() % 32;
    uint32_t left[4], right[2];
    float d[4], numbers[2];
    for (int r = 0; r < 4; ++r) {
      for (int i = 0; i < Kind::per_register; ++i) {
        const int at = Kind::per_register * r + i;
        numbers[i] = a[w][Kind::a_row(lane, at)][Kind::a_column(lane, at)];
      }
      left[r] = Kind::pack(numbers);
      d[r] = c[w][r < 2 ? lane >> 2 : (lane >> 2) + 8][lane % 4 * 2 + (r & 1)];
    }
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < Kind::per_register; ++i) {
        numbers[i] = b[w][Kind::b_row(lane, Kind::per_register * r + i)][lane >> 2];
      }
      right[r] = Kind::pack(numbers);
    }
    Kind::mma(d, left, right[0], right[1], d);
    for (int r = 0; r < 4; ++r) out[w][r < 2 ? lane >> 2 : (lane >> 2) + 8][lane % 4 * 2 + (r & 1)] = d[r];
  });
  double error = 0;
  for (int w = 0; w < warps; ++w) {
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        double sum = c[w][row][column];
        for (int k = 0; k < Kind::sum; ++k) sum += double(Kind::read(a[w][row][k])) * Kind::read(b[w][k][column]);
        error = std::fmax(error, std::fabs(sum - out[w][row][column]));
      }
    }
  }
  expect(error < 1e-5, what);
}

static void check_loads_of_matrices() {
  constexpr int pitch = 24;  // numbers from row to row
  uint32_t out[32][4], as_is[32][4];
  launch(1, 32, 2 * pitch * 32, [&] {
    const int lane = thread_index();
    uint16_t* memory = reinterpret_cast<uint16_t*>(shared_memory());
    for (int column = 0; column < 8; ++column) memory[pitch * lane + column] = uint16_t(8 * lane + column);
    warp_barrier();
    load_transposed(out[lane], memory + pitch * lane);
    load_matrices(as_is[lane], memory + pitch * lane);
  });
  bool holds = true, holds_as_is = true;
  for (int lane = 0; lane < 32; ++lane) {
    for (int k = 0; k < 4; ++k) {
      for (int i = 0; i < 2; ++i) {
        // ldmatrix without .trans gives row lane / 4, columns 2 (lane % 4) + i.
        const int column = lane / 4, row = 2 * (lane % 4) + i;
        holds &= (out[lane][k] >> 16 * i & 0xffff) == uint32_t(8 * (8 * k + row) + column);
        holds_as_is &= (as_is[lane][k] >> 16 * i & 0xffff) == uint32_t(8 * (8 * k + column) + row);
      }
    }
  }
  expect(holds, "load_transposed: four matrices of 8 x 8");
  expect(holds_as_is, "load_matrices: four matrices of 8 x 8");
}

static void check_exchange() {
  bool floats = true, ints = true, to_all = true, votes = true;
  launch(2, 96, 0, [&] {
    const int thread = thread_index(), lane = thread % 32, base = thread - lane;
    for (int mask = 0; mask < 32; ++mask) {
      floats &= shuffle_xor(float(thread) + 0.5f, mask) == float(base + (lane ^ mask)) + 0.5f;
      ints &= shuffle_xor(thread, mask) == base + (lane ^ mask);
    }
    for (int k = 0; k < 32; ++k) {
      to_all &= shuffle(thread, k) == base + k && shuffle(float(thread), k) == float(base + k);
      votes &= ballot(lane == k || lane == 31) == (1u << k | 1u << 31);
    }
    to_all &= shuffle(thread, (5 * lane + 3) % 32) == base + (5 * lane + 3) % 32;
    votes &= lowest_bit(ballot(lane >= 7)) == 7;
  });
  expect(floats && ints, "shuffle_xor: all masks, floats and ints");
  expect(to_all, "shuffle: all lanes, and a permutation");
  expect(votes, "ballot, lowest_bit");
}

static void check_reduction() {
  constexpr int blocks = 5, threads = 256, rounds = 20;
  int sums[blocks][rounds];
  bool same = true, fresh = true, aligned = true;
  launch(blocks, threads, threads * sizeof(int), [&] {
    int* memory = reinterpret_cast<int*>(shared_memory());
    aligned &= reinterpret_cast<uintptr_t>(memory) % 16 == 0;
    fresh &= memory[thread_index()] == -1;
    for (int round = 0; round < rounds; ++round) {
      memory[thread_index()] = (block_index() + 1) * thread_index() + round;
      block_barrier();
      for (int width = num_threads() / 2; width > 0; width /= 2) {
        if (thread_index() < width) memory[thread_index()] += memory[thread_index() + width];
        block_barrier();
      }
      sums[block_index()][round] = memory[0];
      block_barrier();
    }
    same &= num_blocks() == blocks && num_threads() == threads;
  });
  for (int block = 0; block < blocks; ++block) {
    for (int round = 0; round < rounds; ++round) {
      same &= sums[block][round] == (block + 1) * threads * (threads - 1) / 2 + threads * round;
    }
  }
  expect(same, "sums over blocks with barriers");
  expect(fresh && aligned, "shared memory: NaN at each block's start, aligned");
}

// Warps that hand numbers on see those of warps that run earlier, unless a barrier lies between.
static void check_order() {
  int seen[2][64];
  for (bool descending : {false, true}) {
    emulated::descending = descending;
    launch(1, 64, 64 * sizeof(int), [&] {
      int* memory = reinterpret_cast<int*>(shared_memory());
      memory[thread_index()] = thread_index();
      seen[descending][thread_index()] = memory[thread_index() ^ 32];
    });
  }
  emulated::descending = false;
  expect(seen[0][0] == -1 && seen[0][32] == 0 && seen[1][0] == 32 && seen[1][32] == -1,
         "the order of threads, which a missing barrier shows");
}

static bool same_number(float x, double y) { return std::isnan(x) ? std::isnan(y) : x == y; }

static void check_formats() {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  bool exact = true, rounded = true;
  for (uint32_t half = 0; half < 0x8000; ++half) {
    const int exponent = int(half >> 10), fraction = int(half & 0x3ff);
    const double value = exponent == 31 ? (fraction ? double(nan) : double(infinity))
                         : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                        : std::ldexp(fraction, -24);
    exact &= same_number(low_float16(half), value) && same_number(high_float16((half | 0x8000) << 16), -value);
    if (half > 0x7c00) {
      exact &= std::isnan(low_float16(pack_float16(low_float16(half), 0)));
      continue;
    }
    exact &= pack_float16(low_float16(half), -low_float16(half)) == (half | (half | 0x8000) << 16);
    if (half >= 0x7c00) continue;
    // Halfway to the next number; the one after the greatest would be 65536.
    const float next = half == 0x7bff ? 65536.0f : low_float16(half + 1);
    const float middle = 0.5f * (low_float16(half) + next);
    rounded &= pack_float16(middle, std::nextafter(middle, infinity)) == ((half + (half & 1)) | (half + 1) << 16);
    rounded &= pack_float16(std::nextafter(middle, 0.0f), -middle) == (half | (0x8000 | (half + (half & 1))) << 16);
  }
  expect(exact, "float16: all numbers there and back");
  expect(rounded, "float16: rounded to nearest, ties to even");

  const auto b = [](uint32_t bits) { return pack_bfloat16(float_of(bits), 0); };
  expect(b(0x3f808000) == 0x3f80 && b(0x3f818000) == 0x3f82 && b(0x3f808001) == 0x3f81 && b(0x3f817fff) == 0x3f81 &&
             b(0x7f7fffff) == 0x7f80 && b(0xff800000) == 0xff80 && std::isnan(low_bfloat16(b(0x7f800001))) &&
             std::isnan(low_bfloat16(b(0xffffffff))) && pack_bfloat16(1, -2) == 0xc0003f80 &&
             high_bfloat16(0xc0003f80) == -2,
         "bfloat16: rounded to nearest, ties to even");
  const auto t = [](uint32_t bits) { return to_tf32(float_of(bits)); };
  expect(t(0x3f801000) == 0x3f802000 && t(0x3f803000) == 0x3f804000 && t(0x3f800fff) == 0x3f800000 &&
             t(0xbf801000) == 0xbf802000 && t(0x7f800000) == 0x7f800000 && std::isnan(float_of(t(0x7fffffff))) &&
             std::isnan(float_of(t(0xff800001) & 0xffffe000)),
         "TF32: rounded to nearest, ties away from 0");
  expect(fast_exp2(3) == 8 && fast_reciprocal(4) == 0.25f && std::fabs(fast_tanh(1) - 0.76159416f) < 1e-6f,
         "exp2, reciprocal, tanh");
}

// Whether the kernel ends the process, with all of these texts on stderr.
template <class Kernel>
static bool dies(int threads, const Kernel& kernel, std::initializer_list<const char*> texts, int by = SIGABRT) {
  std::fflush(stdout);
  int ends[2];
  if (pipe(ends)) return false;
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    launch(3, threads, 256, kernel);
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char part[256];
  for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;) text.append(part, size_t(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  bool holds = WIFSIGNALED(status) && (by == 0 || WTERMSIG(status) == by);
  for (const char* wanted : texts) holds &= text.find(wanted) != std::string::npos;
  if (!holds) std::printf("%s", text.c_str());
  return holds;
}

static void check_notices() {
  const auto at = [](int block, int thread) { return block_index() == block && thread_index() == thread; };
  expect(dies(32, [&] { shared_memory()[at(1, 3) ? 256 : 0] = 0; }, {"block 1 wrote behind"}),
         "notices a write behind shared memory");
  expect(dies(32, [&] { shared_memory()[at(2, 3) ? -1 : 0] = 0; }, {"block 2 wrote before"}),
         "notices a write before shared memory");
  expect(dies(64, [&] { at(1, 40) ? int(ballot(true)) : shuffle(1, 0); },
              {"block 1, warp 1, lane 8: came to ballot", "wait at shuffle(int)"}),
         "notices lanes at different operations");
  expect(dies(64, [&] { at(0, 33) ? block_barrier() : warp_barrier(); },
              {"block 0, warp 1, lane 1: came to block_barrier", "wait at warp_barrier"}),
         "notices a barrier of the block in place of the warp's");
  expect(dies(64,
              [&] {
                if (!at(2, 63)) warp_barrier();
              },
              {"block 2, warp 1, lane 31: came to the kernel's end", "lanes 7fffffff wait at warp_barrier"}),
         "notices a lane that ends while others wait");
  expect(dies(64,
              [&] {
                if (!at(2, 0)) warp_barrier();
              },
              {"block 2, warp 0, lane 1: came to warp_barrier", "lanes 00000001 have finished"}),
         "notices a lane that has ended");
  expect(dies(96,
              [&] {
                if (thread_index() / 32 != 1) block_barrier();
              },
              {"block 0: deadlock", "warp 0: lanes ffffffff wait at block_barrier",
               "warp 1: lanes 00000000 wait at nothing; lanes ffffffff have finished"}),
         "notices a barrier that a warp does not come to");
  expect(dies(32,
              [&] {
                uint32_t out[4];
                load_transposed(out, shared_memory() + 8);
              },
              {"address not aligned to 16 bytes", "load_transposed"}) &&
             dies(32,
                  [&] {
                    uint32_t out[4];
                    load_transposed(out, shared_memory() + (thread_index() == 5 ? 256 : 0));
                  },
                  {"lane 5: address", "not of shared memory, in load_transposed"}),
         "notices rows of load_transposed that are not aligned, or elsewhere");
#ifdef CLOF_ALIGNMENT_TRAPS
  volatile float got;
  expect(dies(
             32, [&] { got = reinterpret_cast<const float4*>(shared_memory() + 4)->x; }, {}, 0) &&
             dies(
                 32,
                 [&] {
                   const float2 pair = *reinterpret_cast<const float2*>(shared_memory() + 4);
                   got = pair.x;
                 },
                 {}, 0) &&
             dies(
                 32, [&] { *reinterpret_cast<int4*>(shared_memory() + 8) = int4{1, 2, 3, 4}; }, {}, 0),
         "notices vectors that are not aligned");
#endif
}

// A copy is there after the wait, not before.
static void check_copies() {
  const int4 from = {1, 2, 3, 4};
  bool early = true, there = false;
  launch(1, 32, sizeof(int4), [&] {
    auto* to = reinterpret_cast<int4*>(shared_memory());
    if (thread_index() == 7) {
      copy_later(to, &from);
      early = to->x == from.x;
      copies_arrive();
    }
    warp_barrier();
    if (thread_index() == 0) there = to->x == from.x && to->w == from.w;
  });
  expect(!early && there, "copies to shared memory");
}

// The time is for the reader: machines differ too much for a bound.
static void measure_switches() {
  constexpr int threads = 512, rounds = 2000;
  float total = 0;
  const auto start = std::chrono::steady_clock::now();
  launch(1, threads, 0, [&] {
    float sum = float(thread_index());
    for (int round = 0; round < rounds; ++round) warp_barrier();
    total += sum;
  });
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  std::printf("%.1f ns from lane to lane\n", time.count() / threads / rounds);
  expect(total == threads * (threads - 1) / 2, "2000 barriers in each of 512 threads");
}

int main() {
  check_mma<Tf32>("mma_tf32 against a loop");
  check_mma<BFloat16>("mma_bfloat16 against a loop");
  check_mma<Float16>("mma_float16 against a loop");
  check_loads_of_matrices();
  check_exchange();
  check_reduction();
  check_order();
  check_formats();
  check_notices();
  check_copies();
  measure_switches();
  return failures ? 1 : 0;
}
