// A GPU in software for tests: the names of csrc/cuda/tile/warp.cuh for a C++ compiler. launch() runs a kernel's
// threads as fibers of one thread of the system, block after block. What a warp does together (shuffles, products,
// barriers) is computed by the lane that comes last. A warp whose lanes do not come to the same operation ends the
// process.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "emulated_races.h"

#if !defined(__x86_64__) && !defined(CLOF_EMULATED_GPU_UCONTEXT)
#define CLOF_EMULATED_GPU_UCONTEXT
#endif
#ifdef CLOF_EMULATED_GPU_UCONTEXT
#include <ucontext.h>
#endif

#ifndef __CUDACC__
#undef __device__
#undef __global__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#define __device__
#define __global__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#endif

// CUDA's own header defines this name, with the same types.
#ifndef __VECTOR_TYPES_H__
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
#endif

#define CLOF_DEVICE inline
#define CLOF_CALLED inline

namespace clof::cuda {

namespace emulated {

constexpr int kLanes = 32, kMaxThreads = 1024, kMaxWarps = kMaxThreads / kLanes;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr size_t kStackBytes = 256 * 1024, kGuardBytes = 4096;
// Shared memory starts as NaN in every format. The guards differ from it, and are huge numbers or NaN if read.
constexpr int kFreshByte = 0xff, kGuardByte = 0xfe;

// Where a fiber stands while it does not run.
#ifdef CLOF_EMULATED_GPU_UCONTEXT
struct Context {
  ucontext_t state;
};
inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = bytes;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
}
template <class C> void switch_context(C& from, C& to) { swapcontext(&from.state, &to.state); }
#else
struct Context {
  void* stack_pointer;  // to the address to go on at
};
inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  // As if called: above the address of the entry lies that to return to, and above that the stack is aligned to 16.
  void** top = reinterpret_cast<void**>(stack + bytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  context.stack_pointer = top;
}
// swapcontext asks the system for the mask of signals on every call, which takes ten times as long. The compiler must
// not look into this function, or it would keep numbers in registers that the other fibers change. (A template, because
// GCC warns of inline functions that must not be inlined.)
#ifdef __clang__
#define CLOF_OPAQUE __attribute__((noinline))
#else
#define CLOF_OPAQUE __attribute__((noipa))
#endif
template <class C> CLOF_OPAQUE CLOF_UNSEEN void switch_context(C& from, C& to) {
  void** save = &from.stack_pointer;
  void* load = to.stack_pointer;
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n\t"  // this function's own numbers may lie here
      "pushq %%rbp\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "movq %%rsp, (%0)\n\t"
      "movq %1, %%rsp\n\t"
      "popq %%rax\n\t"
      "jmp *%%rax\n"
      "1:\n\t"
      "popq %%rbp\n\t"
      "leaq 128(%%rsp), %%rsp"
      : "+D"(save), "+S"(load)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}
#undef CLOF_OPAQUE
#endif

struct Warp {
  uint32_t runnable, waiting, finished;  // bit k: lane k
  const char* kind;                      // what the waiting lanes wait at
  void* operands[kLanes];                // of the waiting lanes, on their stacks
};

struct Machine {
  int blocks, threads, block, thread;  // of the launch; the current ones
  int warps, at_barrier, finished;     // threads at the block's barrier; threads that have ended
  char* shared;
  size_t shared_bytes;
  void (*run)(const void*);
  const void* kernel;
  Warp warp[kMaxWarps];
  int fibers;  // prepared so far
  char* stack[kMaxThreads];
  Context host, fiber[kMaxThreads];
};
inline Machine machine;
inline Watched watched;

// Of lanes and warps that can go on, the last runs first, not the first. Kernels that lack a barrier are likely to show
// it by different numbers.
inline bool descending = false;

CLOF_UNSEEN inline int first(uint32_t lanes) { return descending ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes); }

[[noreturn]] inline void fail_warp(int index, const char* reason, const char* kind) {
  const Warp& warp = machine.warp[index];
  std::fprintf(stderr, "emulated GPU: block %d, warp %d, lane %d: %s %s", machine.block, index, machine.thread % kLanes,
               reason, kind);
  if (warp.waiting) std::fprintf(stderr, "; lanes %08x wait at %s", warp.waiting, warp.kind);
  if (warp.finished) std::fprintf(stderr, "; lanes %08x have finished", warp.finished);
  std::fprintf(stderr, "\n");
  std::abort();
}

[[noreturn]] inline void fail_deadlock() {
  std::fprintf(stderr, "emulated GPU: block %d: deadlock\n", machine.block);
  for (int w = 0; w < machine.warps; ++w) {
    const Warp& warp = machine.warp[w];
    std::fprintf(stderr, "  block %d, warp %d: lanes %08x wait at %s; lanes %08x have finished\n", machine.block, w,
                 warp.waiting, warp.waiting ? warp.kind : "nothing", warp.finished);
  }
  std::abort();
}

// Lets another thread go on: of the same warp if one can, or else of the next warp that can.
CLOF_UNSEEN inline void yield() {
  Machine& m = machine;
  Context& from = m.fiber[m.thread];
  int w = m.thread / kLanes;
  for (int tried = 0; !m.warp[w].runnable; ++tried) {
    if (tried == m.warps) {
      if (m.finished != m.threads) fail_deadlock();
      watched.to_host();
      switch_context(from, m.host);
      return;
    }
    w = (w + (descending ? m.warps - 1 : 1)) % m.warps;
  }
  m.thread = w * kLanes + first(m.warp[w].runnable);
  watched.to_thread(m.thread);
  switch_context(from, m.fiber[m.thread]);
}

CLOF_UNSEEN inline Warp& arrive(const char* kind) {
  const int index = machine.thread / kLanes;
  Warp& warp = machine.warp[index];
  const uint32_t lane = uint32_t(1) << machine.thread % kLanes;
  if (warp.finished) fail_warp(index, "came to", kind);
  if (warp.waiting && warp.kind != kind && std::strcmp(warp.kind, kind)) fail_warp(index, "came to", kind);
  warp.kind = kind;
  warp.waiting |= lane;
  warp.runnable &= ~lane;
  return warp;
}

CLOF_UNSEEN inline void release(Warp& warp) {
  warp.waiting = 0;
  warp.runnable = kAllLanes;
}

// Leaves `mine` to the lane that comes last; that one calls compute, whose argument gives each lane's operands.
template <class Operands, class Compute>
CLOF_UNSEEN void collective(const char* kind, Operands& mine, const Compute& compute) {
  const int lane = machine.thread % kLanes;
  Warp& warp = arrive(kind);
  warp.operands[lane] = &mine;
  if (warp.waiting != kAllLanes) return yield();
  Quiet quiet;
  compute([&warp](int k) -> Operands& { return *static_cast<Operands*>(warp.operands[k]); });
  release(warp);
}

CLOF_UNSEEN inline void finish() {
  const int index = machine.thread / kLanes;
  Warp& warp = machine.warp[index];
  const uint32_t lane = uint32_t(1) << machine.thread % kLanes;
  if (warp.waiting) fail_warp(index, "came to", "the kernel's end");
  warp.finished |= lane;
  warp.runnable &= ~lane;
  ++machine.finished;
  watched.finish();
  yield();
}

// A fiber outlives its block, and runs the thread of the same number in all blocks.
CLOF_UNSEEN inline void fiber_main() {
  for (;;) {
    machine.run(machine.kernel);
    finish();
  }
}

// Fiber k at its beginning. The stacks' tops lie at different places of their pages: otherwise all fell on the same
// lines of the cache.
CLOF_UNSEEN inline void start_fiber(int k) {
  Quiet quiet;
  prepare(machine.fiber[k], machine.stack[k], kStackBytes - size_t(k % 16) * 256, fiber_main);
}

CLOF_UNSEEN inline void prepare_fibers(int count) {
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  for (int& k = machine.fibers; k < count; ++k) {
    void* memory =
        mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    // A stack that is too small ends the process rather than write over another.
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) {
      std::perror("emulated GPU: no memory for stacks");
      std::abort();
    }
    machine.stack[k] = static_cast<char*>(memory) + page;
    start_fiber(k);
  }
}

// A block's shared memory between two guards, as the block finds it.
struct SharedMemory {
  size_t bytes, mapped;
  char* before;

  explicit SharedMemory(size_t bytes) : bytes(bytes), mapped(kGuardBytes + bytes + kGuardBytes) {
    void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("emulated GPU: no shared memory");
      std::abort();
    }
    before = static_cast<char*>(memory);
  }
  ~SharedMemory() { munmap(before, mapped); }
  char* begin() const { return before + kGuardBytes; }
  char* behind() const { return begin() + bytes; }
  CLOF_UNSEEN void refresh() const {
    renew(before, mapped);
    Quiet quiet;
    std::memset(before, kGuardByte, mapped);
    std::memset(begin(), kFreshByte, bytes);
  }
};

CLOF_UNSEEN inline void check_guard(const char* guard, const char* where) {
  for (size_t k = 0; k < kGuardBytes; ++k) {
    if (static_cast<unsigned char>(guard[k]) == kGuardByte) continue;
    std::fprintf(stderr, "emulated GPU: block %d wrote %s its shared memory (byte %zu of the guard)\n", machine.block,
                 where, k);
    std::abort();
  }
}

}  // namespace emulated

// Runs kernel() in every thread of every block.
template <class Kernel> CLOF_UNSEEN void launch(int blocks, int threads, size_t shared_bytes, const Kernel& kernel) {
  using namespace emulated;
  Machine& m = machine;
  if (threads < kLanes || threads > kMaxThreads || threads % kLanes) {
    std::fprintf(stderr, "emulated GPU: %d threads: must be whole warps, at most %d\n", threads, kMaxThreads);
    std::abort();
  }
  prepare_fibers(threads);
  const SharedMemory shared(shared_bytes);
  m.shared = shared.begin();
  m.shared_bytes = shared_bytes;
  m.blocks = blocks;
  m.threads = threads;
  m.warps = threads / kLanes;
  m.run = [](const void* k) { (*static_cast<const Kernel*>(k))(); };
  m.kernel = &kernel;
  watched.begin_launch(blocks, m.warps);
  for (m.block = 0; m.block < blocks; ++m.block) {
    shared.refresh();
    m.at_barrier = m.finished = 0;
    for (int w = 0; w < m.warps; ++w) m.warp[w] = {kAllLanes, 0, 0, nullptr, {}};
    m.thread = descending ? threads - 1 : 0;
    if (kFindsRaces) {
      // What another block's thread had on the same stack is nobody's now.
      for (int k = 0; k < threads; ++k) renew(m.stack[k], kStackBytes), start_fiber(k);
    }
    watched.begin_block(m.block, threads);
    watched.to_thread(m.thread);
    switch_context(m.host, m.fiber[m.thread]);
    check_guard(shared.before, "before");
    check_guard(shared.behind(), "behind");
  }
  watched.end_launch();
}

CLOF_DEVICE int thread_index() { return emulated::machine.thread; }
CLOF_DEVICE int block_index() { return emulated::machine.block; }
CLOF_DEVICE int num_blocks() { return emulated::machine.blocks; }
CLOF_DEVICE int num_threads() { return emulated::machine.threads; }
CLOF_DEVICE char* shared_memory() { return emulated::machine.shared; }

CLOF_DEVICE CLOF_UNSEEN void block_barrier() {
  emulated::Machine& m = emulated::machine;
  const int barrier = m.block * (1 + m.warps);
  emulated::watched.come(barrier);
  emulated::arrive("block_barrier");
  if (++m.at_barrier == m.threads) {
    m.at_barrier = 0;
    emulated::watched.open(barrier);
    for (int w = 0; w < m.warps; ++w) emulated::release(m.warp[w]);
  } else {
    emulated::yield();
  }
  emulated::watched.leave(barrier);
}
CLOF_DEVICE CLOF_UNSEEN void warp_barrier() {
  const emulated::Machine& m = emulated::machine;
  const int barrier = m.block * (1 + m.warps) + 1 + m.thread / emulated::kLanes;
  char nothing;
  emulated::watched.come(barrier);
  emulated::collective("warp_barrier", nothing, [barrier](auto) { emulated::watched.open(barrier); });
  emulated::watched.leave(barrier);
}

CLOF_DEVICE CLOF_UNSEEN void raise_flag(int& flag) { flag = 1; }

namespace emulated {

template <class T> CLOF_UNSEEN T exchange(const char* kind, T value, int source) {
  struct Operands {
    T value, result;
    int source;
  } mine = {value, value, source};
  collective(kind, mine, [](auto lane) {
    for (int k = 0; k < kLanes; ++k) lane(k).result = lane(lane(k).source).value;
  });
  return mine.result;
}

template <class T> CLOF_UNSEEN T exchange_xor(const char* kind, T value, int mask) {
  if (mask < 0 || mask >= kLanes) fail_warp(machine.thread / kLanes, "mask that leaves the warp in", kind);
  return exchange(kind, value, (machine.thread % kLanes) ^ mask);
}

}  // namespace emulated

CLOF_DEVICE float shuffle_xor(float value, int mask) {
  return emulated::exchange_xor("shuffle_xor(float)", value, mask);
}
CLOF_DEVICE int shuffle_xor(int value, int mask) { return emulated::exchange_xor("shuffle_xor(int)", value, mask); }
CLOF_DEVICE float shuffle(float value, int lane) { return emulated::exchange("shuffle(float)", value, lane & 31); }
CLOF_DEVICE int shuffle(int value, int lane) { return emulated::exchange("shuffle(int)", value, lane & 31); }
CLOF_DEVICE CLOF_UNSEEN uint32_t ballot(bool condition) {
  struct Operands {
    bool condition;
    uint32_t result;
  } mine = {condition, 0};
  emulated::collective("ballot", mine, [](auto lane) {
    uint32_t result = 0;
    for (int k = 0; k < emulated::kLanes; ++k) result |= uint32_t(lane(k).condition) << k;
    for (int k = 0; k < emulated::kLanes; ++k) lane(k).result = result;
  });
  return mine.result;
}
CLOF_DEVICE int lowest_bit(uint32_t bits) { return __builtin_ctz(bits); }
CLOF_DEVICE void prefetch(const void*) {}
CLOF_DEVICE void store_four(float* to, float x, float y, float z, float w) {
  *reinterpret_cast<float4*>(to) = {x, y, z, w};
}
CLOF_DEVICE void add_later(float* to, float x) { *to += x; }
CLOF_DEVICE int popcount(uint32_t bits) { return __builtin_popcount(bits); }

CLOF_DEVICE uint32_t bits_of(float x) {
  uint32_t out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}
CLOF_DEVICE float float_of(uint32_t bits) {
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

namespace emulated {

// NaN is 0x7fff of 16 bits and 0x7fffffff of 32, as the instructions give it.
inline bool is_nan(uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

inline uint32_t to_bfloat16(float x) {
  const uint32_t bits = bits_of(x);
  return is_nan(bits) ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

inline uint32_t to_float16(float x) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  if (is_nan(bits)) return 0x7fffu;
  if (size >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and more round to infinity
  // Below 2^-14 numbers are multiples of 2^-24, to which the sum with 1/2 is rounded.
  if (size < 0x38800000u) return sign | (bits_of(float_of(size) + 0.5f) - 0x3f000000u);
  return sign | (size + 0xfffu + (size >> 13 & 1) - 0x38000000u) >> 13;
}

inline float from_float16(uint32_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, size = half & 0x7fffu;
  if (size >= 0x7c00u) return float_of(sign | 0x7f800000u | (size & 0x3ffu) << 13);
  // The exponent moves from bias 15 to 127; the product also makes denormal numbers normal.
  return float_of(sign | bits_of(float_of(size << 13) * float_of(0x77800000u)));
}

}  // namespace emulated

CLOF_DEVICE uint32_t to_tf32(float x) {
  const uint32_t bits = bits_of(x);
  return emulated::is_nan(bits) ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u;
}
CLOF_DEVICE uint32_t pack_bfloat16(float low, float high) {
  return emulated::to_bfloat16(low) | emulated::to_bfloat16(high) << 16;
}
CLOF_DEVICE uint32_t pack_float16(float low, float high) {
  return emulated::to_float16(low) | emulated::to_float16(high) << 16;
}
CLOF_DEVICE float low_bfloat16(uint32_t pair) { return float_of(pair << 16); }
CLOF_DEVICE float high_bfloat16(uint32_t pair) { return float_of(pair & 0xffff0000u); }
CLOF_DEVICE float low_float16(uint32_t pair) { return emulated::from_float16(pair & 0xffffu); }
CLOF_DEVICE float high_float16(uint32_t pair) { return emulated::from_float16(pair >> 16); }

CLOF_DEVICE float fast_exp2(float x) { return std::exp2(x); }
CLOF_DEVICE float fast_reciprocal(float x) { return 1.0f / x; }
CLOF_DEVICE float fast_tanh(float x) { return std::tanh(x); }

}  // namespace clof::cuda
