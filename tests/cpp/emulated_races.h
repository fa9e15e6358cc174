// Races between the threads of the GPU in software: where GCC compiles with -fsanitize=thread, its ThreadSanitizer
// takes every emulated thread for a thread of its own. What is ordered is then what CUDA orders: block_barrier() among
// the threads of a block, warp_barrier() among the lanes of a warp, one launch after another; not shuffles, products,
// or blocks of one launch. It sees all of shared and global memory, other tools for GPUs shared memory alone.
#pragma once

#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define CLOF_FINDS_RACES
// Of the emulated GPU itself nothing is looked at.
#define CLOF_UNSEEN __attribute__((no_sanitize_thread))
#else
#define CLOF_UNSEEN
#endif

#ifdef CLOF_FINDS_RACES
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

// <sanitizer/tsan_interface.h> leaves the last ones out.
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read16(void* address);
void __tsan_write16(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace clof::cuda::emulated {

#ifdef CLOF_FINDS_RACES

constexpr bool kFindsRaces = true;

// While it lives, what its thread reads and writes is not looked at.
struct Quiet {
  CLOF_UNSEEN Quiet() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  CLOF_UNSEEN ~Quiet() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};

// The threads of a launch as ThreadSanitizer knows them. To make one takes half a millisecond, so that there are some
// sets of them which blocks take in turn: blocks that take the same set are not compared.
struct Watched {
  static constexpr int kSets = 4, kMaxThreads = 1024;
  static constexpr unsigned kUnordered = 1;  // flag of a switch: it orders nothing
  // A place of memory stands for what threads have done until they came to a barrier, a second one for what they have
  // seen when they leave it: threads that are ahead must not add to it.
  struct Barrier {
    uint64_t come, left;
  };
  // No containers here, whose functions would be looked at.
  void *host, *threads[kSets][kMaxThreads];
  int made[kSets], set;
  Barrier* barriers;    // of each block of the launch: its own, then those of its warps
  uint64_t start, end;  // stand for what was done before the launch, and in it

  CLOF_UNSEEN void begin_launch(int blocks, int warps) {
    host = __tsan_get_current_fiber();
    __tsan_release(&start);
    barriers = new Barrier[size_t(blocks) * size_t(1 + warps)];
  }
  CLOF_UNSEEN void begin_block(int block, int num_threads) {
    set = block % kSets;
    for (int& k = made[set]; k < num_threads; ++k) threads[set][k] = __tsan_create_fiber(0);
    for (int k = 0; k < num_threads; ++k) {
      to_thread(k);
      __tsan_acquire(&start);
    }
    to_host();
  }
  CLOF_UNSEEN void end_launch() {
    __tsan_acquire(&end);
    delete[] barriers;
  }
  CLOF_UNSEEN void to_thread(int k) { __tsan_switch_to_fiber(threads[set][k], kUnordered); }
  CLOF_UNSEEN void to_host() { __tsan_switch_to_fiber(host, kUnordered); }
  CLOF_UNSEEN void finish() { __tsan_release(&end); }
  CLOF_UNSEEN void come(int barrier) { __tsan_release(&barriers[barrier].come); }
  CLOF_UNSEEN void open(int barrier) {
    __tsan_acquire(&barriers[barrier].come);
    __tsan_release(&barriers[barrier].left);
  }
  CLOF_UNSEEN void leave(int barrier) { __tsan_acquire(&barriers[barrier].left); }
};

// Memory that nobody has touched, in the place of what lay there.
CLOF_UNSEEN inline void renew(void* memory, size_t bytes) {
  Quiet quiet;
  mmap(memory, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

CLOF_UNSEEN inline void reads_16(const void* from) { __tsan_read16(const_cast<void*>(from)); }
CLOF_UNSEEN inline void writes_16(void* to) { __tsan_write16(to); }

#else

constexpr bool kFindsRaces = false;

struct Quiet {
  Quiet() {}
};
struct Watched {
  void begin_launch(int, int) {}
  void begin_block(int, int) {}
  void end_launch() {}
  void to_thread(int) {}
  void to_host() {}
  void finish() {}
  void come(int) {}
  void open(int) {}
  void leave(int) {}
};
inline void renew(void*, size_t) {}
inline void reads_16(const void*) {}
inline void writes_16(void*) {}

#endif

}  // namespace clof::cuda::emulated
